"""Whole data sets from Python, in one call each."""

import numpy as np
import pytest
from PIL import Image

import distillgrad as dg
from distillgrad.metrics.base import Protocol
from distillgrad.runs.attribution.runner import attribute_data
from distillgrad.runs.evaluation.runner import evaluate_data
from distillgrad.sources.open_data import open_data


@pytest.fixture
def images(tmp_path):
    """Three of noise, and a file that is no image."""
    chance = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(3):
        pixels = chance.integers(0, 255, (36, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "9.png").write_bytes(b"no image")
    return tmp_path / "images"


def test_a_data_set_is_evaluated_by_names_alone(images, tmp_path):
    options = {"out": tmp_path / "run", "protocol": Protocol(n_steps=2)}
    board = evaluate_data("cifar10-cnn", images, "gradient_x_input,random", "lerf", **options)
    assert set(board.methods) == {"gradient_x_input", "random"}
    assert set(board.comparisons) == {"lerf"}
    assert (len(board.evaluation.ids), len(board.evaluation.skipped)) == (3, 1)
    (part,) = (tmp_path / "run" / "parts").iterdir()
    written = part.stat().st_mtime_ns
    loaded = dg.load_model("cifar10-cnn")
    methods = {"gradient_x_input": ("gradient_x_input", {}), "random": ("random", {})}
    again = evaluate_data(loaded, open_data(images), methods, ["lerf"], **options)
    assert part.stat().st_mtime_ns == written  # the same request, said otherwise, goes on
    assert again.methods == board.methods


def test_a_data_set_is_attributed_by_names_alone(images, tmp_path):
    run = attribute_data("cifar10-cnn", images, "gradient_x_input,dga(n_steps=2)", out=tmp_path / "run")
    assert run.complete
    assert run.explained.tolist() == [True, True, True, False]
    assert [each.failed_at for each in run.failures] == ["decode"]
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(images / "0.png"))[None]
    expected = dg.GradientXInput(loaded.model).attribute(inputs, int(run.targets[0]))
    np.testing.assert_allclose(run.attribution("gradient_x_input", "0.png"), expected[0], atol=1e-4)
    few = attribute_data(
        loaded, open_data(images), {"mine": ("random", {})}, limit=2, accelerated=False, out=tmp_path / "few"
    )
    assert few.ids == ("0.png", "1.png")
    assert list(few.attributions) == ["mine"]


@pytest.mark.parametrize("call", [evaluate_data, attribute_data])
def test_a_precision_that_would_do_nothing_is_refused(call, images, tmp_path):
    with pytest.raises(dg.errors.ParameterError, match="bfloat16"):
        call("cifar10-cnn", images, "random", accelerated=False, precision="bfloat16", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
