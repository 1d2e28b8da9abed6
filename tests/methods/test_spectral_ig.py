"""Spectral IG: its path written down for one row."""

import numpy as np
import pytest
import torch

from distillgrad.errors import InputError
from distillgrad.methods.idgi import IDGI
from distillgrad.methods.integrated_gradients import IntegratedGradients
from distillgrad.methods.spectral_ig import SpectralIG
from networks import convolutional, dense

TARGETS = [0, 3, 1, 1]


def images(n=4):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def value_and_gradient(model, x, target):
    x = torch.as_tensor(x).clone().requires_grad_()
    value = model(x[None])[0, target]
    (gradient,) = torch.autograd.grad(value, x)
    return float(value.detach()), gradient.numpy()


def literal_spectral_points(x, baseline, n_steps, overlap):
    points = []
    for alpha in np.arange(n_steps + 1) / n_steps:
        point = np.full_like(x, baseline)
        for channel, matrix in enumerate(x - baseline):
            left, values, right = np.linalg.svd(matrix)
            for i, value in enumerate(values):
                begins = (1 - overlap) * (1 - value / values[0])
                share = min(max((alpha - begins) / overlap, 0), 1)
                point[channel] += share * value * np.outer(left[:, i], right[i])
        points.append(point)
    return points


@pytest.mark.parametrize("overlap", [0.1, 0.4, 1.0])
def test_spectral_ig_is_its_path_written_down(overlap):
    model, x, baseline = convolutional(), images(), 0.2
    found = SpectralIG(model, 8, overlap).attribute(x, TARGETS, baselines=baseline)
    for row, target in enumerate(TARGETS):
        points = literal_spectral_points(x[row].numpy(), baseline, 8, overlap)
        expected = sum(
            value_and_gradient(model, points[j], target)[1] * (points[j + 1] - points[j]) for j in range(8)
        )
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-10)


def test_spectral_ig_that_overlaps_wholly_is_the_straight_path():
    model, x = convolutional(), images()
    straight = IntegratedGradients(model, 20, "riemann_left").attribute(x, 1)
    torch.testing.assert_close(SpectralIG(model, 20, 1.0).attribute(x, 1), straight, rtol=1e-6, atol=1e-9)


def test_spectral_paths_need_matrices():
    for method in (SpectralIG, lambda model: IDGI(model, path="spectral")):
        with pytest.raises(InputError, match=r"\(N, C, H, W\).*\(2, 12\)"):
            method(dense()).attribute(torch.randn(2, 12).double())
