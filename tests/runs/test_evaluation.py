"""Evaluations from outside: what is measured, kept and printed; resumed runs; requests that cannot be met."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.methods.parsing import parse_methods
from distillgrad.metrics.statistics import bootstrap_mean
from distillgrad.runs.evaluation.leaderboard import leaderboard_of
from distillgrad.runs.evaluation.record import EvaluationRequest, read_evaluation
from distillgrad.runs.evaluation.runner import run_evaluation
from distillgrad.sources.open_data import open_data

METHODS = "gradient_x_input,random,saliency"


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *(str(each) for each in arguments)])


@pytest.fixture
def images(tmp_path):
    """Five of noise in class folders, one of which holds a file that is no image."""
    return five_images(tmp_path / "images")


def five_images(folder):
    names = [f"{name}/{index}.png" for index, name in enumerate(("cat", "cat", "dog", "frog", "ship"))]
    noise_images(folder, names)
    (folder / "ship" / "broken.png").write_bytes(b"no image")
    return folder


QUICK = ("--methods", "random", "--n-steps", 2)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A folder with images and a run on them."""
    folder = tmp_path_factory.mktemp("evaluated")
    made("evaluate", five_images(folder / "images"), *QUICK, out=folder / "run")
    return folder


@pytest.fixture
def again(evaluated, tmp_path):
    """The words that made a run, of which the folder at their end is a copy."""
    return evaluated / "images", *QUICK, "--out", shutil.copytree(evaluated / "run", tmp_path / "run")


def test_values_are_the_metrics_own_and_the_board_is_their_mean(images, tmp_path):
    out = tmp_path / "run"
    asked = "lerf,sensitivity_n,complexity"
    options = ("--metrics", asked, "--methods", METHODS, "--n-steps", 4, "--n-masks", 5, "--batch-size", 2)
    result = run(images, *options, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    board = json.loads(result.stdout)
    assert (board["n_samples"], board["n_skipped"]) == (5, 1)
    assert list(board["metrics"]) == asked.split(",")

    loaded, data = dg.load_model("cifar10-cnn"), open_data(images)
    whole = [each for each in data.ids if "broken" not in each]
    inputs = torch.stack([loaded.preprocess(dg.read_image(images / each)) for each in whole])
    target = loaded.model(inputs).argmax(1)
    attributions = {
        name: dg.METHODS[name](loaded.model).attribute(inputs, target) for name in METHODS.split(",")
    }
    curves = dg.metrics.pixel_perturbation(
        loaded.model, inputs, target, attributions, order="lerf", n_steps=4
    )
    correlations = dg.metrics.sensitivity_n(loaded.model, inputs, target, attributions, n_masks=5)
    found = read_evaluation(out)
    assert found.ids == tuple(whole)
    assert found.targets == tuple(target.tolist())
    assert found.labels == (3, 3, 5, 6, 8)
    assert "broken" in found.skipped[0][0]
    assert set(found.values) == {"lerf", "lerf_curve", "morf_curve", "sensitivity_n", "complexity"}
    for name in attributions:
        np.testing.assert_allclose(found.values["lerf"][name], curves[name].auc, atol=1e-5)
        np.testing.assert_allclose(found.values["lerf_curve"][name], curves[name].probabilities, atol=1e-5)
        np.testing.assert_allclose(
            found.values["sensitivity_n"][name], correlations[name].correlations, atol=1e-3
        )
        said = board["metrics"]["lerf"]["methods"][name]
        assert said["mean"] == pytest.approx(curves[name].auc.mean().item(), abs=1e-5)
        interval = bootstrap_mean(found.values["lerf"][name], bounds=(0, 1))
        assert (said["low"], said["high"]) == (interval.low, interval.high)
    best = board["metrics"]["lerf"]["ranking"][0]
    assert "difference" not in board["metrics"]["lerf"]["methods"][best]
    with (out / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 3 * (1 + 5 + 5 + 9 + 1)
    assert {"leaderboard.png", "curves.png", "leaderboard.csv", "leaderboard.md"} <= set(os.listdir(out))
    with Image.open(out / "curves.png") as figure:
        assert min(figure.size) > 300


def test_a_reference_is_one_of_the_methods(evaluated):
    with pytest.raises(dg.errors.UnknownNameError, match="'random'"):
        leaderboard_of(read_evaluation(evaluated / "run"), reference="randm")


def test_in_bfloat16_maps_and_curves_are_those_of_the_accelerated_model(images, tmp_path):
    out = tmp_path / "run"
    result = run(images / "cat", "--methods", "saliency", "--precision", "bfloat16", "--out", out)
    assert result.exit_code == 0, result.stderr
    found = read_evaluation(out)
    loaded, data = dg.load_model("cifar10-cnn"), open_data(images / "cat")
    inputs = torch.stack([loaded.preprocess(dg.read_image(images / "cat" / each)) for each in data.ids])
    fast = dg.accelerate(loaded.model, inputs[:1], precision="bfloat16", channels_last=True)
    maps = dg.Saliency(fast).attribute(inputs, found.targets)
    curves = dg.metrics.morf_and_lerf(fast, inputs, found.targets, maps, n_steps=20)
    np.testing.assert_allclose(found.values["lerf"]["saliency"], curves.lerf.auc, atol=1e-5)
    assert found.manifest["precision"] == "bfloat16"


def test_a_killed_run_goes_on_and_ends_the_same(images, tmp_path):
    """The second batch kills the process; nothing of it is there, and the first is not computed again."""
    script = f"""
import os, sys, distillgrad as dg
from distillgrad.cli import app
from distillgrad.runs.evaluation import worker as evaluation_worker
part_of, before = evaluation_worker.part_of, os.environ.get("FATAL")
def counted(out, places):
    if before and places.start == 2:
        os.kill(os.getpid(), 9)
    return part_of(out, places)
evaluation_worker.part_of = counted
app(["evaluate", {str(images)!r}, "--methods", {METHODS!r}, "--n-steps", "3", "--batch-size", "2",
     "--out", sys.argv[1]])
"""

    out, whole = tmp_path / "killed", tmp_path / "whole"
    said = tmp_path / "said.txt"
    assert processes.finished(script, out, output=said, FATAL="1") == -9, said.read_text()
    (first,) = (out / "parts").iterdir()
    written = first.stat().st_mtime_ns
    assert processes.finished(script, out, output=said) == 0, said.read_text()
    assert first.stat().st_mtime_ns == written
    assert run(images, "--methods", METHODS, "--n-steps", 3, "--batch-size", 2, "--out", whole).exit_code == 0
    one, other = read_evaluation(out), read_evaluation(whole)
    assert one.ids == other.ids
    for metric in one.values:
        for method in METHODS.split(","):
            np.testing.assert_array_equal(one.values[metric][method], other.values[metric][method])


def test_stopped_by_hand_it_says_how_to_go_on(images, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("distillgrad.runs.evaluation.worker._evaluated", stopped)
    result = run(images, "--methods", "random", "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "the same command goes on" in " ".join(result.stderr.split())


def test_another_request_is_refused_and_says_what_differs(again):
    seeded = run(*again, "--seed", 1)
    assert seeded.exit_code == 2
    assert "its protocol differs" in seeded.stderr
    other = run(*again, "--methods", "saliency", "--limit", 2)
    assert "its data and methods differ" in other.stderr


def test_a_run_from_before_precision_could_be_asked_for_goes_on_in_float32_alone(again):
    path = again[-1] / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("precision") == "float32"
    path.write_text(json.dumps(manifest))
    assert run(*again).exit_code == 0
    other = run(*again, "--precision", "bfloat16")
    assert (other.exit_code, "its precision differs" in other.stderr) == (2, True)


def test_only_what_the_model_gets_right(images, tmp_path):
    loaded = dg.load_model("cifar10-cnn")
    data = open_data(images / "cat")
    inputs = torch.stack([loaded.preprocess(dg.read_image(images / "cat" / each)) for each in data.ids])
    said = [loaded.classes[index] for index in loaded.model(inputs).argmax(1).tolist()]
    for place, name in enumerate(said):
        target = tmp_path / "known" / name / f"{place}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        (images / "cat" / data.ids[place]).rename(target)
    wrong = tmp_path / "known" / next(each for each in loaded.classes if each != "cat") / "wrong.png"
    wrong.parent.mkdir(exist_ok=True)
    Image.open(next((images / "frog").iterdir())).save(wrong)
    result = run(
        tmp_path / "known",
        "--methods",
        "random",
        "--n-steps",
        2,
        "--only-correct",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.stderr
    found = read_evaluation(tmp_path / "o")
    assert found.labels == found.targets
    assert len(found.ids) + len(found.skipped) == 3


def test_labels_that_the_model_does_not_know_matter_only_where_they_are_needed(images, tmp_path):
    (images / "frog").rename(images / "holiday")
    options = (images, "--methods", "random", "--n-steps", 2, "--out", tmp_path / "run")
    with pytest.warns(UserWarning, match=r"does not know 1 of the 4 classes of .* \(holiday; "):
        assert run(*options).exit_code == 0
    assert None in read_evaluation(tmp_path / "run").labels
    refused = run(*options[:-1], tmp_path / "other", "--only-correct")
    assert (refused.exit_code, "holiday" in refused.stderr) == (2, True)


def test_boxes_become_masks_of_what_the_model_sees(tmp_path):
    """A box in the middle of a wide image, which the preprocessing crops and shrinks."""
    Image.new("RGB", (128, 64), "red").save(tmp_path / "wide.png")
    (tmp_path / "index.csv").write_text("file,class_name,x0,y0,x1,y1\nwide.png,cat,32,0,64,64\n")
    loaded = dg.load_model("cifar10-cnn")
    seen = []

    class LeftHalf(dg.METHODS["random"]):
        """Positive where the box is after the crop: in the left half."""

        def _attribute(self, batch):
            values = torch.zeros_like(batch.inputs)
            values[..., :16] = 1
            seen.append(len(values))
            return values

    dg.METHODS.register("left", LeftHalf)
    try:
        request = EvaluationRequest(
            "cifar10-cnn", str(tmp_path), parse_methods("left"), metrics=("pointing_game", "mass_inside")
        )
        found = run_evaluation(loaded, open_data(tmp_path), request, tmp_path / "run")
    finally:
        dg.METHODS.unregister("left")
    assert seen
    assert found.values["pointing_game"]["left"].tolist() == [1]
    assert found.values["mass_inside"]["left"][0] == pytest.approx(1)


@pytest.mark.parametrize("metric", dg.metrics.METRICS)
def test_every_metric_states_its_facts(metric):
    facts = dg.metrics.METRICS[metric]
    assert facts.better in ("higher", "lower")
    assert facts.cost
    assert any(character.isdigit() for character in facts.source)  # a year


def test_every_metric_can_be_asked_for(images, tmp_path):
    asked = [name for name, facts in dg.metrics.METRICS.items() if facts.needs != "masks"]
    options = ("--methods", "saliency,gradcam", "--n-steps", 2, "--n-masks", 3, "--limit", 2)
    result = run(images / "cat", *options, "--metrics", ",".join(asked), "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    found = read_evaluation(tmp_path / "run")
    for name in asked:
        for values in found.values[name].values():
            assert np.isfinite(values).any(), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--methods", "dgaa"), "did you mean 'dga'"),
        (("--methods", "dga(5)"), "name=value"),
        (("--methods", "dga(steps=5)"), "steps"),
        (("--methods", "dga, dga"), "twice"),
        (("--methods", "dga(n_steps=__import__('os'))"), "write parameters as name=value"),
        (("--methods", "dga(n_steps=os.sep)"), "name=value"),
        (("--metrics", "morff"), "did you mean 'morf'"),
        (("--metrics", ","), "no metric"),
        (("--metrics", "pointing_game"), "has no box for 2 of 2 images"),
        (("--only-correct",), "has no labels"),
        (("--baseline", "blurr"), "mean, blur, road"),
        (("--n-steps", "5000"), "1024 pixels"),
        (("--element", "--methods", "gradcam"), "nothing about single features"),
        (("--reference", "saliency"), "saliency is none of the methods"),
        (("--precision", "bfloat15"), "did you mean 'bfloat16'"),
        (("--precision", "bfloat16", "--no-accelerate"), "add --accelerate"),
    ],
)
def test_wrong_requests(images, tmp_path, options, words):
    result = run(images / "cat", "--methods", "random", *options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_broken_parts_are_named(again):
    (part,) = (again[-1] / "parts").iterdir()
    for content in ("{", "{}", "[]"):
        part.write_text(content)
        result = run(*again)
        assert result.exit_code == 2
        assert "parts" in result.stderr


def test_nothing_is_left_to_evaluate(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    result = run(folder, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "no sample is left" in result.stderr
    assert "a.png" in result.stderr
    assert "no data at nowhere" in run("nowhere", "--out", tmp_path / "run").stderr


def test_spelled_methods():
    found = parse_methods("dga, smoothgrad(n_samples=31, noise=.1) ,integrated_gradients( n_steps = 8 )")
    assert list(found) == ["dga", "smoothgrad(n_samples=31,noise=0.1)", "integrated_gradients(n_steps=8)"]
    assert found["dga"] == ("dga", {})
    assert found["smoothgrad(n_samples=31,noise=0.1)"] == ("smoothgrad", {"n_samples": 31, "noise": 0.1})


def test_images_of_the_real_index_are_read(data):
    samples = open_data(data / "imagenet" / "samples", limit=3)
    assert Path(samples.ids[0]).suffix == ".jpg"
    assert len(samples) == 3
