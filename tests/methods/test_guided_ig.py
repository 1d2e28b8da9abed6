"""Guided IG: the authors' values, bounds, the straight path."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distillgrad.methods.guided_ig import GuidedIG, advanced
from distillgrad.methods.integrated_gradients import IntegratedGradients
from networks import convolutional

recipe = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "guided_ig" / "recipe.py")))


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


@pytest.mark.parametrize("settings", recipe.SETTINGS)
def test_guided_ig_is_the_authors_program(settings):
    with np.load(recipe.REFERENCE) as reference:
        expected = torch.from_numpy(reference[settings])
    method = GuidedIG(recipe.network(), **recipe.SETTINGS[settings])
    found = method.attribute(recipe.images(), list(recipe.TARGETS))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def test_guided_ig_without_leeway_is_the_straight_path():
    model, x = convolutional(), images()
    straight = IntegratedGradients(model, 20, "riemann_left").attribute(x, 1)
    found = GuidedIG(model, 20, max_dist=0).attribute(x, 1)
    torch.testing.assert_close(found, straight, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("fraction", "max_dist"), [(0.25, 0.02), (0.001, 0.1), (1.0, 0.0), (0.1, 1.0)])
def test_guided_ig_steps_cover_their_share_of_the_way_within_the_bounds(dtype, fraction, max_dist):
    torch.manual_seed(3)
    length = torch.rand(3, 50, dtype=dtype)
    length[0, :10] = 0
    length[1] = 0
    covered = torch.zeros_like(length)
    for step in range(30):
        alpha = (step + 1) / 30
        magnitude = torch.randint(0, 9, length.shape).to(dtype)  # full of ties
        moved = advanced(covered, length, magnitude, alpha, fraction, max_dist)
        assert bool((moved >= covered).all())
        assert bool((moved <= length * min(alpha + max_dist, 1)).all())
        assert bool((moved >= length * max(alpha - max_dist, 0)).all())
        torch.testing.assert_close(moved.sum(1), alpha * length.sum(1))
        covered = moved
