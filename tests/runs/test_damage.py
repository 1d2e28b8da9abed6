"""Damage to a run of attributions: no file of it can change without being named, and mended."""

import copy
import json
import logging
import shutil

import numpy as np
import pytest
from small_runs import noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.runs.attribution.damage import vouched_for
from distillgrad.runs.attribution.request import layout_of, read_manifest
from distillgrad.runs.attribution.store import sha256
from distillgrad.runs.attribution.verification import verify
from distillgrad.runs.folders import LocalFolder


def flipped(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


MUTATIONS = {
    "flipped": flipped,
    "cut": lambda content: content[: len(content) * 2 // 3],
    "emptied": lambda content: b"",
    "removed": lambda content: None,
}


def contents(folder):
    files = (each for each in folder.rglob("*") if each.is_file() and each.name != ".lock")
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return noise_images(tmp_path_factory.mktemp("data"), [f"{n}.png" for n in range(5)])


@pytest.fixture(scope="module")
def loaded():
    return dg.load_model("cifar10-cnn")


@pytest.fixture(scope="module")
def attributed(data, loaded):
    """A function that attributes the data, or goes on with it, in a folder."""

    def attribute(out):
        return dg.attribute_data(
            loaded, data, "saliency,random", out=out, batch_size=2, shard_size=2, accelerated=False
        )

    return attribute


@pytest.fixture(scope="module")
def undamaged(attributed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    attributed(folder)
    return folder


def names(folder):
    return [name for name in contents(folder) if name != "manifest.json"]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_file_is_named_by_verify_and_mended_by_going_on(
    mutation, undamaged, attributed, tmp_path, caplog
):
    expected = contents(undamaged)
    for number, name in enumerate(names(undamaged)):
        run = tmp_path / str(number)
        shutil.copytree(undamaged, run)
        mutated = MUTATIONS[mutation]((run / name).read_bytes())
        (run / name).unlink() if mutated is None else (run / name).write_bytes(mutated)
        assert any(name in fault for fault in verify(str(run)).faults), name
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert attributed(run).complete
        if name != "complete.json" or mutated is not None:  # without it a run is one that was interrupted
            assert name in caplog.text, name
        assert contents(run) == expected, name


def read_all(run):
    found = dg.open_run(run)
    return [maps[place] for maps in found.attributions.values() for place in range(len(found.ids))]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_nothing_that_was_changed_is_read_in_silence(mutation, undamaged, tmp_path):
    for number, name in enumerate(contents(undamaged)):
        run = tmp_path / str(number)
        shutil.copytree(undamaged, run)
        mutated = MUTATIONS[mutation]((run / name).read_bytes())
        (run / name).unlink() if mutated is None else (run / name).write_bytes(mutated)
        if (name, mutation) == ("complete.json", "removed"):
            assert not dg.open_run(run).complete
            continue
        with pytest.raises(dg.errors.SourceError) as error:
            read_all(run)
        said = name.split("/")[1] if "/c." in name else name  # of maps the method
        assert said in str(error.value), name


def test_each_flipped_bit_of_a_file_of_maps_is_named(undamaged, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    path = run / "attributions.zarr" / "saliency" / "c.0.0.0.0"
    content = path.read_bytes()
    maps = dg.open_run(run).attributions["saliency"]
    for place in np.random.default_rng(0).choice(len(content) * 8, 100, replace=False):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(dg.errors.SourceError, match="maps of saliency at"):
            maps[0], maps[1]
    path.write_bytes(content)
    assert np.asarray(maps).shape == copy.copy(maps).shape == maps.shape == (5, 3, 32, 32)
    with pytest.raises(IndexError):
        maps[5]


def test_runs_of_the_format_before_are_read_and_gone_on_with(undamaged, attributed, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("distillgrad.runs.attribution.request.FORMAT", 1)
        attributed(run)
    before = contents(run)
    assert b"crc32c" not in before["attributions.zarr/random/zarr.json"].split(b"index_codecs")[0]
    (run / "complete.json").unlink()
    (run / "shards" / "00000001.parquet").unlink()
    attributed(run)
    assert contents(run) == before
    assert not verify(str(run)).faults
    maps = dg.open_run(run).attributions["random"]
    np.testing.assert_array_equal(maps[:], dg.open_run(undamaged).attributions["random"][:])


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["data"].update(n_entries=10**12),
        lambda manifest: manifest["data"].update(n_entries="five"),
        lambda manifest: manifest.update(shard_size=0),
        lambda manifest: manifest.update(format="two"),
        lambda manifest: manifest["methods"]["random"].update(shape=[10**9, 10**9, 10**9]),
        lambda manifest: manifest["methods"].update(random=None),
        lambda manifest: manifest["model"].pop("classes"),
        lambda manifest: manifest.update(dtype="object"),
    ],
)
def test_what_a_manifest_claims_is_checked_before_it_is_believed(change, undamaged, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    manifest = json.loads((run / "manifest.json").read_bytes())
    change(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "complete.json").unlink()
    with pytest.raises(dg.errors.SourceError):
        dg.open_run(run)
    result = CliRunner().invoke(app, ["verify", str(run), "--sample", "0"])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.strip()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda complete: complete["sha256"].clear(), "it has nothing for manifest.json"),
        (lambda complete: complete["sha256"].pop("samples.parquet"), "it has nothing for samples.parquet"),
        (
            lambda complete: complete["sha256"].update({"entries.parquet": ""}),
            "no checksum for entries.parquet",
        ),
        (lambda complete: complete.update(sha256=[]), "is broken: AttributeError"),
        (lambda complete: complete.update(n_entries=4), "it counts 4 images"),
    ],
)
def test_a_record_that_vouches_for_too_little_is_a_fault(change, words, undamaged, attributed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    complete = json.loads((run / "complete.json").read_bytes())
    change(complete)
    (run / "complete.json").write_text(json.dumps(complete))
    assert any(words in fault for fault in verify(str(run)).faults)
    attributed(run)
    assert contents(run) == contents(undamaged)
    folder = LocalFolder(run)
    assert set(vouched_for(folder, layout_of(read_manifest(folder)))) | {"complete.json"} == set(
        contents(run)
    )


def test_repair_mends_a_run_by_its_manifest_alone(undamaged, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    whole = CliRunner().invoke(app, ["repair", str(run)])
    assert (whole.exit_code, "files as they were written" in whole.stdout) == (0, True)
    for name in ("samples.parquet", "attributions.zarr/random/c.1.0.0.0", "shards/00000002.parquet"):
        (run / name).write_bytes(b"")
    mended = CliRunner().invoke(app, ["repair", str(run)])
    assert (mended.exit_code, "the run is whole again" in mended.stdout) == (0, True), mended.output
    assert "samples.parquet was changed" in mended.stderr
    assert contents(run) == contents(undamaged)
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 7'))
    lost = CliRunner().invoke(app, ["repair", str(run)])
    assert (lost.exit_code, "give the command that made" in lost.stderr) == (2, True)


def test_an_interrupted_run_does_not_vouch_for_maps_that_it_lost(undamaged, attributed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    (run / "complete.json").unlink()
    lost = next(name for name in names(undamaged) if "/c.1." in name)
    (run / lost).write_bytes(b"")
    described = run / "attributions.zarr" / "random" / "zarr.json"
    described.write_text(described.read_text().replace("[\n    5", "[\n    7", 1).replace("5", "7", 1))
    attributed(run)
    assert contents(run) == contents(undamaged)


def test_verify_runs_no_code_that_the_run_alone_names(undamaged, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(undamaged, run)
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    original = (run / "manifest.json").read_bytes()
    for change, words in (
        (lambda manifest: manifest["model"].update({"from": "planted:model"}), "name it with --model"),
        (lambda manifest: manifest["data"].update({"from": "planted:data"}), "name them with --data"),
        (lambda manifest: manifest["methods"]["random"].update(name="planted:Method"), "with --import"),
    ):
        manifest = json.loads(original)
        change(manifest)
        (run / "manifest.json").write_text(json.dumps(manifest))
        changed = CliRunner().invoke(app, ["verify", str(run)])
        assert (changed.exit_code, "manifest.json was changed" in changed.stderr) == (1, True)
        complete = json.loads((run / "complete.json").read_bytes())
        complete["sha256"]["manifest.json"] = sha256((run / "manifest.json").read_bytes())
        (run / "complete.json").write_text(json.dumps(complete))
        refused = CliRunner().invoke(app, ["verify", str(run)])
        assert (refused.exit_code, words in " ".join(refused.stderr.split())) == (2, True), refused.output
        assert CliRunner().invoke(app, ["verify", str(run), "--sample", "0"]).exit_code == 0
    assert not (tmp_path / "executed").exists()
