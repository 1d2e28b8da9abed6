"""The model of a run: its faster equivalent, or itself where there is none."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.runs.model import equivalent_or_itself


class Draws(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)) + torch.rand(10)


def test_a_model_without_an_equivalent_is_run_as_it_is_and_not_in_bfloat16():
    loaded = replace(dg.load_model("cifar10-cnn"), model=Draws(3 * 32 * 32, 10).eval())
    assert equivalent_or_itself(loaded, torch.device("cpu")) is loaded.model
    with pytest.raises(dg.errors.ModelError, match="twice"):
        equivalent_or_itself(loaded, torch.device("cpu"), "bfloat16")
