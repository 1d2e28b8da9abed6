"""Runs over whole data sets: the same bytes after kills, broken images explained, other requests refused."""

import hashlib
import io
import json
import math
import os
import shutil
import signal
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.core import plan
from distillgrad.core.examination import findings
from distillgrad.errors import MissingExtraError, SourceError
from distillgrad.methods.parsing import parse_methods
from distillgrad.runs.attribution.job import ShardReport
from distillgrad.runs.attribution.request import AttributionRequest
from distillgrad.runs.attribution.runner import run_attribution
from distillgrad.runs.attribution.store import ENTRIES, Entry, finished_shards
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.folders import LocalFolder
from distillgrad.sources import model_inputs
from distillgrad.sources.open_data import open_data
from distillgrad.sources.resnet20 import resnet20_model

SMALL = (
    "--methods",
    "gradient_x_input,dga(n_steps=3)",
    "--batch-size",
    "4",
    "--shard-size",
    "8",
    "--threads",
    "1",
)


def run(*arguments):
    return CliRunner().invoke(app, ["attribute", *(str(each) for each in arguments)])


def contents(folder):
    found = {each.relative_to(folder).as_posix(): each for each in folder.rglob("*") if each.is_file()}
    return {name: each.read_bytes() for name, each in found.items() if name != ".lock"}


def started(*words):
    """The command in a process of its own; ``words`` end in a folder, beside which is what it prints."""
    return processes.started(processes.COMMAND, "attribute", *words, output=f"{words[-1]}.txt")


def said(out):
    return Path(f"{out}.txt").read_text()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Fifty images, of which two are broken."""
    names = [f"{number}.png" for number in range(50)]
    folder = noise_images(tmp_path_factory.mktemp("data") / "images", names, (40, 36))
    (folder / "17.png").write_bytes(b"no image")
    (folder / "30.png").write_bytes((folder / "31.png").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    return made("attribute", images, *SMALL, out=tmp_path_factory.mktemp("undisturbed") / "run")


def test_the_run_is_what_the_methods_return(images, undisturbed):
    found = dg.open_run(undisturbed)
    assert found.complete
    assert found.ids == tuple(f"{number}.png" for number in range(50))
    assert [each.id for each in found.failures] == ["17.png", "30.png"]
    assert [each.failed_at for each in found.failures] == ["decode", "decode"]
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(images / "42.png"))[None]
    expected = dg.GradientXInput(loaded.model).attribute(inputs)[0].numpy()
    np.testing.assert_allclose(found.attribution("gradient_x_input", "42.png"), expected, atol=1e-4)
    assert found.predicted[42] == int(loaded.model(inputs).argmax())
    assert found.predicted[17] == -1
    for array in found.attributions.values():
        missing = np.isnan(array[:]).all((1, 2, 3))
        assert np.flatnonzero(missing).tolist() == [17, 30]
        assert not np.isnan(array[:][~missing]).any()


def test_in_bfloat16_maps_are_those_of_the_accelerated_model(images, tmp_path):
    options = ("--methods", "saliency", "--limit", 2, "--batch-size", 2, "--precision", "bfloat16")
    assert run(images, *options, "--out", tmp_path / "run").exit_code == 0
    loaded = dg.load_model("cifar10-cnn")
    inputs = torch.stack([loaded.preprocess(dg.read_image(images / f"{each}.png")) for each in (0, 1)])
    fast = dg.accelerate(loaded.model, inputs[:1], precision="bfloat16", channels_last=True)
    found = np.asarray(dg.open_run(tmp_path / "run").attributions["saliency"][:])
    np.testing.assert_allclose(found, dg.Saliency(fast).attribute(inputs), atol=1e-6)


def killed_and_resumed(images, out, n_kills, seed):
    """Kills as many processes, at moments drawn between two shards, then lets one end; says how many ran."""
    chance, n_running = np.random.default_rng(seed), 0
    for _ in range(n_kills):
        before = len(finished_shards(LocalFolder(out)))
        with started(images, *SMALL, "--out", out) as process:
            while process.is_alive() and len(finished_shards(LocalFolder(out))) == before:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.02))
            n_running += process.is_alive()
    with started(images, *SMALL, "--out", out) as process:
        process.join(120)
        assert process.exitcode == 0, said(out)
    return n_running


def test_killed_three_times_it_ends_with_the_same_bytes(images, undisturbed, tmp_path):
    assert killed_and_resumed(images, tmp_path / "run", 3, seed=1) >= 1
    assert contents(tmp_path / "run") == contents(undisturbed)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(images, undisturbed, tmp_path):
    chance, kills = np.random.default_rng(2), 0
    for _ in range(20):
        with started(images, *SMALL, "--out", tmp_path / "run") as process:
            time.sleep(chance.uniform(0.2, 1.5))
            kills += process.is_alive()
        if kills == 10:  # from a whole run on kills would find nothing to do
            for each in (tmp_path / "run" / "shards").glob("*"):
                each.unlink()
    assert kills >= 10
    killed_and_resumed(images, tmp_path / "run", 0, seed=3)
    assert contents(tmp_path / "run") == contents(undisturbed)


def test_ctrl_c_finishes_the_shard_and_says_how_to_go_on(images, undisturbed, tmp_path):
    out = tmp_path / "run"
    with started(images, *SMALL, "--out", out) as process:
        while not (out / "manifest.json").is_file() and process.is_alive():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 130, said(out)
    assert "the same command goes on" in said(out)
    assert run(images, *SMALL, "--out", out).exit_code == 0
    assert contents(out) == contents(undisturbed)


def test_events_for_machines_and_a_second_start_of_a_whole_run(images, undisturbed):
    before = contents(undisturbed)
    result = run(images, "--methods", "gradient_x_input,dga(n_steps=3)", "--out", undisturbed, "--json")
    assert result.exit_code == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1]["event"] == "end"
    assert (events[-1]["n_explained"], events[-1]["n_failed"], events[-1]["complete"]) == (48, 2, True)
    assert contents(undisturbed) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--methods", "saliency"), "its methods differs"),
        (("--target", "cat"), 'its target differs (target: "predicted" there, "cat" asked for)'),
        (("--dtype", "float16"), "its dtype differs"),
        (("--limit", "10"), "its data differs"),
        (("--batch-size", "8"), "its batch_size differs"),
        (("--precision", "bfloat16"), "its precision differs"),
    ],
)
def test_another_request_is_refused(images, undisturbed, options, words):
    result = run(images, *SMALL, *options, "--out", undisturbed)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def resnet20_weights(path, shift=0.0):
    torch.manual_seed(0)
    state = resnet20_model("", False).model.state_dict()
    save_file({name: each + each.is_floating_point() * shift for name, each in state.items()}, path)
    return path


def test_other_weights_are_refused(images, tmp_path):
    weights = resnet20_weights(tmp_path / "w.safetensors")
    words = (images, "--model", f"cifar10-resnet20@{weights}", "--methods", "saliency", "--limit", 4)
    assert run(*words, "--out", tmp_path / "run").exit_code == 0
    resnet20_weights(weights, shift=0.01)
    result = run(*words, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "model.weights" in result.stderr


def test_a_foreign_folder_and_a_newer_format_are_refused(images, tmp_path):
    live = tmp_path / "foreign" / "live" / "shards" / ".00000000.parquet.abcd1234.part"
    live.parent.mkdir(parents=True)
    live.touch()
    (tmp_path / "foreign" / ".thesis.tex.abcd1234.part").touch()
    (tmp_path / "manuscript").mkdir()
    (tmp_path / "manuscript" / "manifest.json").write_text("[]")
    (tmp_path / "manuscript" / ".thesis.tex.abcd1234.part").touch()
    before = sorted(tmp_path.rglob("*"))
    for name, words in (("foreign", "live"), ("manuscript", "no JSON object")):
        result = run(images, *SMALL, "--out", tmp_path / name)
        assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "manifest.json").write_text(json.dumps({"kind": "attributions", "format": 99}))
    result = run(images, *SMALL, "--out", tmp_path / "new")
    assert (result.exit_code, "newer distillgrad" in " ".join(result.stderr.split())) == (2, True)
    with pytest.raises(SourceError, match="newer"):
        dg.open_run(tmp_path / "new")
    with pytest.raises(SourceError, match="no run of attributions"):
        dg.open_run(tmp_path)


def test_a_full_disk_loses_nothing_that_was_finished(images, undisturbed, tmp_path, monkeypatch):
    out, real, written = tmp_path / "run", os.fsync, []

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 30:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = run(images, *SMALL, "--out", out)
    assert result.exit_code == 1
    assert "No space left on device" in " ".join(result.stderr.split())
    assert 0 < len(finished_shards(LocalFolder(out))) < 7
    assert not dg.open_run(out).complete
    assert not [name for name in contents(out) if name.rpartition("/")[2].startswith(".")]
    assert run(images, *SMALL, "--out", out).exit_code == 0
    assert contents(out) == contents(undisturbed)


def test_strict_ends_at_the_first_broken_image(images, tmp_path):
    result = run(images, *SMALL, "--strict", "--out", tmp_path / "run")
    assert (result.exit_code, "17.png" in result.stderr) == (1, True)


def test_a_dry_run_leaves_nothing(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(images, *SMALL, "--dry-run", "--json")
    found = json.loads(result.stdout)
    assert (found["n_images"], found["batch_size"], found["shard_size"]) == (50, 4, 8)
    assert found["hours"] * 3600 == pytest.approx(50 * found["seconds_per_image"])
    assert not any(tmp_path.iterdir())


def test_names_that_are_no_text_and_a_run_without_any_explanation(tmp_path):
    folder = os.fsencode(tmp_path) + b"/data\xff"
    os.mkdir(folder)
    for name in (b"/\xfe.png", b"/\xfd.png"):
        with open(folder + name, "wb") as file:
            file.write(b"no image")
    data = os.fsdecode(folder)
    result = run(data, "--methods", "saliency", "--out", tmp_path / "run")
    assert (result.exit_code, "not one of the 2 images" in " ".join(result.stderr.split())) == (1, True)
    with open(folder + b"/\xfd.png", "wb") as file:
        file.write(encoded((32, 32)))
    result = run(data, "--methods", "saliency", "--out", tmp_path / "other", "--json")
    assert result.exit_code == 0, result.stderr
    found = dg.open_run(tmp_path / "other")
    assert (found.ids, found.explained.tolist()) == (("\\xfd.png", "\\xfe.png"), [True, False])
    assert "data\\xff/\\xfe.png" in found.failures[0].reason


def test_a_torn_shard_is_computed_again_and_what_is_no_shard_is_left_alone(images, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    (out / "complete.json").unlink()
    part = out / "shards" / "00000002.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    shutil.copyfile(out / "shards" / "00000003.parquet", out / "shards" / "00000004.parquet")
    assert run(images, *SMALL, "--out", out).exit_code == 0
    assert contents(out) == contents(undisturbed)
    (out / "shards" / "notes.txt").touch()
    assert dg.open_run(out).complete


def test_what_workers_are_given_does_not_depend_on_where_they_work(images, tmp_path, monkeypatch):
    seen = []

    class Elsewhere:
        default_threads = 1

        @contextmanager
        def workers(self, make, *, here=None, cpus=1):
            (job,) = make.args
            seen.extend([job.out, job.request.model.partition("@")[2]])
            yield SimpleNamespace(map=lambda shards, _: seen.append(shards[0].data.decode.root) or ())

    monkeypatch.chdir(images.parent)
    weights = resnet20_weights(images.parent / "w.safetensors")
    spec = f"cifar10-resnet20@{weights.name}"
    loaded, data = dg.load_model(spec), open_data("images", limit=2)
    request = AttributionRequest(spec, "images", parse_methods("saliency"), batch_size=1)
    run_attribution(loaded, data, request, os.path.relpath(tmp_path / "run"), Elsewhere())
    assert all(os.path.isabs(each) for each in seen)
    assert len(seen) == 3


def test_an_image_of_a_large_run_takes_little_memory(tmp_path):
    class Failing:
        """Computes nothing; the last shard is left, so that there is nothing to put together."""

        default_threads = 1

        @contextmanager
        def workers(self, make, *, here=None, cpus=1):
            yield SimpleNamespace(map=lambda shards, _: map(report, shards[:-1]))

    def report(shard):
        start = shard.number * 256
        failures = [
            Entry(start + place, name, failed_at="decode") for place, name in enumerate(shard.data.ids)
        ]
        return shard, ShardReport(shard.number, 0, tuple(failures))

    loaded = dg.load_model("cifar10-cnn")
    peaks = []
    for n_images in (300, 2_000, 5_000):  # the first run is for what is set up once
        folder = tmp_path / str(n_images)
        for place in range(n_images):
            path = folder / "frog" / f"an_image_with_a_number_{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        request = AttributionRequest("cifar10-cnn", str(folder), parse_methods("saliency"), shard_size=256)
        request = replace(request, batch_size=1, accelerated=False)
        tracemalloc.start()
        try:
            data = open_data(folder, keep_broken=True)
            summary = run_attribution(loaded, data, request, str(tmp_path / f"run-{n_images}"), Failing())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert summary.n_failed == (n_images - 1) // 256 * 256
        manifest = json.loads((tmp_path / f"run-{n_images}" / "manifest.json").read_text())
        content = json.dumps([list(data.ids), data.labels, data.classes, [0] * n_images])
        assert manifest["data"]["fingerprint"] == hashlib.sha256(content.encode()).hexdigest()
    # Its name, longer while names are sorted, and a place for label and box; with paths it was six hundred.
    assert (peaks[2] - peaks[1]) / 3_000 < 150


def test_a_method_that_cannot_explain_the_model_is_a_wrong_request(images, tmp_path):
    result = run(images, "--methods", "gradcam(layer='nowhere')", "--out", tmp_path / "run")
    assert (result.exit_code, "nowhere" in result.stderr) == (2, True)


class Particular(torch.nn.Module):
    """Fails, as no error of ours, on a batch with an image that is all white."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        if (inputs.flatten(1).std(1) < 1e-3).any():
            raise KeyError("white")
        return self.model(inputs)


def test_whatever_a_models_own_code_raises_concerns_its_image_alone(tmp_path):
    for name, shade in (("a", 0), ("b", 255), ("c", 0), ("d", 0)):
        pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(np.maximum(pixels, shade).astype(np.uint8)).save(tmp_path / f"{name}.png")
    Image.new("RGB", (33, 32)).save(tmp_path / "e.png")
    loaded = dg.load_model("cifar10-cnn")
    prepare = loaded.preprocess

    def particular(image):
        if image.width == 33:
            raise AttributeError("thirty-three")
        return torch.ones(loaded.input_size) if image.getpixel((0, 0)) == (255,) * 3 else prepare(image)

    loaded = replace(loaded, model=Particular(loaded.model).eval(), preprocess=particular)
    request = AttributionRequest(
        "x", str(tmp_path), parse_methods("saliency"), batch_size=4, threads=1, accelerated=False
    )
    data = open_data(tmp_path, keep_broken=True)
    run_attribution(loaded, data, request, str(tmp_path / "run"), LocalEngine())
    found = dg.open_run(tmp_path / "run")
    assert found.explained.tolist() == [True, False, True, True, False]
    assert ["KeyError" in found.failures[0].reason, "thirty-three" in found.failures[1].reason] == [True] * 2


class Counting(torch.nn.Module):
    """Tells, outside itself, how many rows it is called with, and in which thread."""

    def __init__(self, model, calls):
        super().__init__()
        self.model, self._tell = model, calls.append

    def forward(self, inputs):
        self._tell((threading.current_thread().name, len(inputs)))
        return self.model(inputs)


@pytest.mark.parametrize(
    ("method", "passes", "aside"),
    [("saliency", 1, False), ("dga(n_steps=8)", 9, False), ("dga(n_steps=9)", 10 + 1, True)],
)
def test_predictions_cost_a_pass_only_where_that_lets_rows_part(
    images, tmp_path, monkeypatch, method, passes, aside
):
    monkeypatch.setattr(plan, "LEAST_FEATURES", 1)
    monkeypatch.setattr(findings, "THRIFT", math.inf)  # nothing is tried for its own sake
    loaded, calls = dg.load_model("cifar10-cnn"), []
    loaded = replace(loaded, model=Counting(loaded.model, calls).eval())
    request = AttributionRequest(
        "x", str(images), parse_methods(method), batch_size=4, threads=2, accelerated=False
    )
    data = open_data(images, limit=8)
    run_attribution(loaded, data, request, str(tmp_path / "run"), LocalEngine())
    shows_that_rows_may_part = 4 * aside
    assert sum(rows for _, rows in calls) == 8 * passes + shows_that_rows_may_part
    assert aside == any(name.startswith("distillgrad-rows") for name, _ in calls)
    assert dg.open_run(tmp_path / "run").explained.all()


def test_a_package_that_labels_need_is_asked_for(images, tmp_path, monkeypatch):
    def missing(*_):
        raise MissingExtraError("timm", "vision")

    monkeypatch.setattr(model_inputs, "label_index", missing)
    for number in range(2):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{number}.png").write_bytes((images / f"{number}.png").read_bytes())
    words = (tmp_path, "--methods", "saliency", "--out")
    result = run(*words, tmp_path / ".label", "--target", "label")
    assert (result.exit_code, "distillgrad[vision]" in "".join(result.stderr.split())) == (2, True)
    assert run(*words, tmp_path / ".predicted").exit_code == 0


def broken(number, whole):
    """One of fifty kinds of files that are no image, though they are called so."""
    noise = np.random.default_rng(number).bytes(64 + 40 * number)
    headers = (
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"BM",
        b"RIFF",
        b"II*\x00",
        b"P6\n",
        b"%PDF-",
    )
    kinds = [b"", b"\x00", b"no image", b"<html></html>", b"PK\x03\x04", "日本".encode(), b"\x7fELF"]
    kinds += [head + noise for head in headers]
    kinds += [whole[: len(whole) * share // 20] for share in range(1, 16)]
    kinds += [noise]
    return kinds[number] if number < len(kinds) else headers[number % 8] + bytes([number]) * number


def encoded(size, mode="RGB", format="PNG", **settings):
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **settings)
    return file.getvalue()


def test_a_thousand_images_with_fifty_kinds_of_broken_ones(images, tmp_path):
    """The only one in a class that the model does not have fails, too, where labels are explained."""
    folder = tmp_path / "data"
    for name in ("cat", "dog", "zeppelin"):
        (folder / name).mkdir(parents=True)
    whole = (images / "1.png").read_bytes()
    for number in range(950):
        (folder / ("cat", "dog")[number % 2] / f"{number}.png").write_bytes(whole)
    others = {
        "dangling.jpg": lambda path: path.symlink_to(tmp_path / "nowhere"),
        "circle.jpg": lambda path: path.symlink_to(path),
        "folder.jpg": lambda path: path.mkdir(),
        "pipe.jpg": os.mkfifo,
        "huge.png": lambda path: path.write_bytes(encoded((10_000, 9_000), "1")),
        "strip.png": lambda path: path.write_bytes(encoded((3_000, 3))),
        "dot.png": lambda path: path.write_bytes(encoded((1, 1))),
        "floats.tiff": lambda path: path.write_bytes(encoded((20, 20), "F", "TIFF")),
        "weighty.png": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**28 + 1),
    }
    for name, make in others.items():
        make(folder / "cat" / name)
    for number in range(40):
        (folder / "dog" / f"broken {number}.{('png', 'jpg', 'gif', 'bmp')[number % 4]}").write_bytes(
            broken(number, whole)
        )
    (folder / "zeppelin" / "1.png").write_bytes(whole)
    words = ("--methods", "saliency", "--target", "label", "--batch-size", 32, "--out", tmp_path / "run")
    result = run(folder, *words, "--json")
    assert result.exit_code == 0, result.stderr
    found = dg.open_run(tmp_path / "run")
    assert (len(found.ids), int(found.explained.sum()), len(found.failures)) == (1000, 950, 50)
    assert all(each.reason and each.id for each in found.failures)
    stages = {each.id: each.failed_at for each in found.failures}
    assert stages.pop("zeppelin/1.png") == "label"
    assert set(stages.values()) == {"decode"}
    assert {f"cat/{name}" for name in others} <= set(stages)
    assert (tmp_path / "run" / ENTRIES).is_file()
