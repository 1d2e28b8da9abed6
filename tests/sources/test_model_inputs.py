"""Predictions of models whose outputs are not one logit for each class name."""

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.sources.model_inputs import class_probabilities
from distillgrad.sources.preprocess import ResizeAndCrop

CLASSES = ("benign", "malignant")


class Outputs(nn.Module):
    """A model with so many outputs; none: one score per sample, ``(N,)``."""

    def __init__(self, n_outputs):
        super().__init__()
        self.head = nn.Linear(3, max(n_outputs, 1))
        self.flat = not n_outputs

    def forward(self, images):
        scores = self.head(images.mean((2, 3))) + 5
        return scores[:, 0] if self.flat else scores


def loaded(n_outputs):
    return dg.LoadedModel(Outputs(n_outputs), ResizeAndCrop(16, 16), CLASSES, (3, 16, 16), name="net")


REFUSALS = [(0, "single score"), (1, "single score"), (4, "4) for the 2 class names benign, malignant")]


@pytest.mark.parametrize(("n_outputs", "words"), REFUSALS)
def test_one_logit_for_each_class_name_is_expected(n_outputs, words):
    model = loaded(n_outputs)
    with pytest.raises(dg.errors.ModelError) as raised:
        class_probabilities(model, model.model, torch.randn(3, 3, 16, 16))
    assert words in str(raised.value)


def test_two_logits_of_a_single_score_have_its_sigmoid():
    model, images = loaded(1), torch.randn(3, 3, 16, 16)

    def both(inputs):
        half = model.model(inputs)[:, 0] / 2
        return torch.stack([-half, half], 1)

    probabilities = class_probabilities(model, both, images)
    torch.testing.assert_close(probabilities[:, 1], model.model(images)[:, 0].sigmoid())


@pytest.mark.parametrize(
    "words", [("explain",), ("distill",), ("evaluate", "--metrics", "sparseness"), ("attribute",)]
)
def test_every_command_says_so(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20), "red").save("a.png")
    module = type(dg)("outputs_of_one")
    module.one = lambda: loaded(1)
    monkeypatch.setitem(__import__("sys").modules, "outputs_of_one", module)
    command, *options = words
    methods = () if command == "distill" else ("--methods", "saliency")
    result = CliRunner().invoke(app, [command, "a.png", "--model", "outputs_of_one:one", *methods, *options])
    assert (result.exit_code, "single score" in " ".join(result.stderr.split())) == (2, True), result.output
