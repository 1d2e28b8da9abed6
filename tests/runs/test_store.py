"""The store of attributions: whole files, any folder or URL, checks that find what is wrong."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from pyarrow import parquet
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.errors import MissingExtraError, ParameterError, SourceError, UnknownNameError
from distillgrad.runs import folders
from distillgrad.runs.attribution.arrays import Layout
from distillgrad.runs.attribution.store import Entry, assemble, prepare, read_table, write_shard
from distillgrad.runs.folders import LocalFolder, alone_in, folder_at, swept

LAYOUT = Layout(n_entries=5, shard_size=2, shapes={"a": (3, 4, 4), "b(n=1)": (1, 4, 4)}, dtype="float16")


def entry(index, failed=False):
    if failed:
        return Entry(index, f"{index}.png", failed_at="decode", reason="broken")
    return Entry(index, f"{index}.png", "cat", 3, 3, 3, 1.5, 0.25, "00")


def filled(folder, order=(0, 1, 2)):
    prepare(folder, LAYOUT, [entry(index) for index in range(5)])
    for shard in order:
        places = LAYOUT.places(shard)
        maps = {
            label: np.stack([np.full(shape, place, "float16") for place in places])
            for label, shape in LAYOUT.shapes.items()
        }
        write_shard(folder, LAYOUT, shard, [entry(place, place == 3) for place in places], maps, {})
    return assemble(folder, LAYOUT)


@pytest.mark.parametrize("place", ["here", "memory://store-test"])
def test_arrays_and_tables_are_the_same_wherever_and_in_whatever_order(tmp_path, place):
    folders = [folder_at(tmp_path / "first"), folder_at(tmp_path / place if place == "here" else place)]
    complete = [filled(folders[0]), filled(folders[1], order=(2, 0, 1))]
    assert complete[0] == complete[1]
    assert (complete[0]["n_explained"], complete[0]["n_failed"]) == (4, 1)
    assert [folders[0].get(name) for name in folders[0].names()] == [
        folders[1].get(name) for name in folders[1].names()
    ]
    group = zarr.open_group(folders[1].zarr_store(), path="attributions.zarr", mode="r")
    assert group["a"].metadata.zarr_format == 3
    assert group["a"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert read_table(folders[1], "samples.parquet")["index"].to_pylist() == [0, 1, 2, 4]
    assert read_table(folders[1], "failures.parquet")["reason"].to_pylist() == ["broken"]


def test_tables_are_the_same_however_the_images_were_cut_into_shards(tmp_path):
    for shard_size in (700, 2500):
        layout = Layout(n_entries=2500, shard_size=shard_size, shapes={}, dtype="float32")
        folder = LocalFolder(tmp_path / str(shard_size))
        for shard in range(layout.n_shards):
            write_shard(folder, layout, shard, [entry(place) for place in layout.places(shard)], {}, {})
        assemble(folder, layout)
    table = folder.get("samples.parquet")
    assert LocalFolder(tmp_path / "700").get("samples.parquet") == table
    groups = parquet.ParquetFile(io.BytesIO(table)).metadata
    # Short ones: the memory of writing a table is that of a group, also of the first ten thousand images.
    assert [groups.row_group(place).num_rows for place in range(3)] == [1024, 1024, 452]


def test_two_processes_do_not_share_a_run(tmp_path):
    folder = LocalFolder(tmp_path)
    with alone_in(folder), pytest.raises(ParameterError, match="another process"), alone_in(folder):
        pass


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / name for name in ("other/.c.0.abcd1234.part", "shards/.hidden", "shards/a.part")]
    litter = [tmp_path / name for name in (".m.json.abcd1234.part", "shards/.c.0.abcd1234.part")]
    for each in (*kept, *litter):
        each.parent.mkdir(exist_ok=True)
        each.touch()
    with swept(LocalFolder(tmp_path), ("shards", "arrays")):
        assert [each.exists() for each in (*kept, *litter)] == [True] * 3 + [False] * 2
        litter[1].touch()
    assert not litter[1].exists()


def test_which_places_are_folders_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("run", "file://run", f"local://{tmp_path}/run", "./a::b/../run"):
        found = folder_at(place)
        assert isinstance(found, LocalFolder)
        assert found.root.is_absolute()
    assert not isinstance(folder_at("memory://run"), LocalFolder)
    assert not isinstance(folder_at("simplecache::memory://run"), LocalFolder)


def test_a_missing_package_is_named(monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(module, extra)

    monkeypatch.setattr(folders, "optional", missing)
    with pytest.raises(MissingExtraError, match="fsspec is not installed"):
        folder_at("s3://bucket/run")


def test_what_cannot_be_reached():
    with pytest.raises(ParameterError, match="cannot reach nothing://"):
        folder_at("nothing://there")
    with pytest.raises(SourceError, match="cannot read"):
        folder_at("memory://nowhere").get("x")


def six_images_explained(folder):
    """Return the folder of a run, beside its images."""
    images = noise_images(folder / "images", [f"{number}.png" for number in range(6)], (32, 32))
    words = ("--methods", "dga(n_steps=3)", "--batch-size", "4", "--shard-size", "4", "--threads", "1")
    return made("attribute", images, *words, out=folder / "run")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return six_images_explained(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def run(kept, tmp_path):
    """A copy, whose images are those of all."""
    return shutil.copytree(kept, tmp_path / "run")


@pytest.fixture
def own(tmp_path):
    """A run with images of its own."""
    return six_images_explained(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_torch_keeps_its_threads(run):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)  # another number than a run's
    try:
        assert invoke("verify", run, "--sample", 1).exit_code == 0
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_verify_finds_every_map_again_and_everything_that_was_changed(own, tmp_path):
    run = own
    result = invoke("verify", run, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["n_identical"], found["n_maps"], found["faults"]) == (6, 6, [])
    with pytest.raises(UnknownNameError, match="55"):
        dg.open_run(run).attribution("dga(n_steps=3)", "55.png")
    (chunk,) = run.rglob("c.0.0.0.0")
    for path in (chunk, run / "samples.parquet", run / "shards" / "00000001.parquet"):
        content = path.read_bytes()
        path.write_bytes(content[:-9] + b"#" + content[-8:])
        result = invoke("verify", run, "--sample", 0)
        assert (result.exit_code, path.name in "".join(result.stderr.split())) == (1, True)
        path.write_bytes(content)
    content = chunk.read_bytes()
    chunk.unlink()
    assert "is missing" in invoke("verify", run, "--sample", 0).stderr
    chunk.write_bytes(content)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "images" / "2.png")
    result = invoke("verify", run)
    assert (result.exit_code, "2.png is another one" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("shards/00000000.parquet", b"torn", "00000000.parquet is broken"),
        ("entries.parquet", b"torn", "entries.parquet is broken"),
        ("complete.json", b"{}", "complete.json is broken"),
        ("complete.json", None, "the run is not finished"),
        ("shards/00000001.parquet", None, "1 of 2 shards are missing"),
    ],
)
def test_whatever_is_broken_in_a_run_is_a_fault(run, name, content, words):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    result = invoke("verify", run, "--json")
    assert result.exit_code == 1
    assert any(words in each for each in json.loads(result.stdout)["faults"])


def test_other_data_than_the_runs_is_a_fault(own, tmp_path):
    run = own
    (tmp_path / "images" / "5.png").rename(tmp_path / "images" / "50.png")
    result = invoke("verify", run, "--json")
    (fault,) = json.loads(result.stdout)["faults"]
    assert (result.exit_code, "50.png, where 5.png was" in fault) == (1, True)
    (tmp_path / "images" / "50.png").unlink()
    result = invoke("verify", run, "--json")
    (fault,) = json.loads(result.stdout)["faults"]
    assert (result.exit_code, "None, where 5.png was" in fault) == (1, True)
