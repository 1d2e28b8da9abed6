"""Maps that are one number everywhere say why, and those that are not say nothing."""

import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.methods.blank_maps import SPEAKS_AGAINST, blank_rows


def scores(x):
    return x.flatten(1).sum(1, keepdim=True)


def dead(x):
    """A score below zero that no pixel changes."""
    return scores(x - 100).relu() - 1


ROWS = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "baselines", "reason"),
    [
        (dead, 0, "the score is below zero and its gradient is zero everywhere"),
        (lambda x: dead(x) + 2, 0, "the score is above zero and its gradient is zero everywhere"),
        (scores, ROWS, "the input equals the baseline"),
        (
            lambda x: scores(x[:, :, :2]),
            ROWS * torch.tensor([1.0, 1, 0, 0])[:, None],
            "wherever the input differs",
        ),
    ],
)
def test_why_gradient_times_input_is_zero_is_looked_up(model, baselines, reason):
    method = dg.GradientXInput(model)
    assert not method.attribute(ROWS, 0, baselines=baselines).any()
    assert set(method.blank) == {0, 1, 2}
    (note,) = method.notes
    assert note.startswith("The maps of samples 0, 1, 2 are zero everywhere: ")
    assert reason in note


def test_only_blank_rows_are_named_and_a_next_call_forgets_them():
    x = ROWS.clone()
    x[1] = 0
    method = dg.GradientXInput(scores)
    method.attribute(x, 0)
    assert list(method.blank) == [1]
    assert "sample 1 is" in method.notes[0]
    method.attribute(ROWS, 0)
    assert not method.blank
    assert not method.notes


def test_zero_in_one_channel_or_cancelling_ones_are_told_apart():
    maps = torch.zeros(4, 2, 3, 3)
    maps[0, 0], maps[0, 1] = 1.0, -1.0  # cancel at each pixel
    maps[1, 0, 1, 1] = 1.0
    maps[2] = 2.0
    kinds = blank_rows(maps)
    assert list(kinds) == [0, 2, 3]
    assert "channels" in kinds[0]
    assert "same everywhere" in kinds[2]
    assert kinds[3] == "zero everywhere"


class Weighted(nn.Module):
    """Maps of non-negative numbers, whose mean counts so much."""

    def __init__(self, weight):
        super().__init__()
        self.conv, self.weight = nn.Conv2d(2, 3, 2, 2, bias=False), weight
        nn.init.constant_(self.conv.weight, 0.125)

    def forward(self, x):
        maps = self.conv(x)
        return (
            self.weight * maps.mean((1, 2, 3))[:, None]
            + (maps - maps.mean((2, 3), keepdim=True)).sum((1, 2, 3))[:, None]
        )


@pytest.mark.parametrize(
    ("weight", "rows", "reason"),
    [
        (-1.0, ROWS, f"the score is below zero and {SPEAKS_AGAINST}"),
        (0.0, ROWS, "the weight of each channel, the mean of the score's gradient by it, is zero"),
        (1.0, 0 * ROWS, "the score is zero and the maps are zero"),
    ],
)
def test_why_a_map_of_gradcam_is_blank_is_looked_up(weight, rows, reason):
    method = dg.GradCAM(Weighted(weight), layer="conv")
    method.attribute(rows, 0)
    assert set(method.blank) == {0, 1, 2}
    assert any(reason in note for note in method.notes)


def test_the_record_and_the_terminal_say_what_the_method_says(tmp_path, photograph):
    arguments = ["explain", str(photograph), "--model", "cifar10-cnn", "--methods", "gradcam,saliency"]
    found = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path), "--json"])
    (record,) = json.loads(found.stdout)
    (note,) = record["notes"]["gradcam"]
    assert note.startswith("The maps are the output of ")
    assert "saliency" not in record["notes"]
    assert f"gradcam: {note}" in CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)]).output
