"""IDGI: its algorithm written down for one row, closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from distillgrad.methods.guided_ig import GuidedIG
from distillgrad.methods.idgi import IDGI, PATHS, squared_direction
from networks import convolutional

TARGETS = [0, 3, 1, 1]


def images(n=4):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear():
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double()


def value_and_gradient(model, x, target):
    x = torch.as_tensor(x).clone().requires_grad_()
    value = model(x[None])[0, target]
    (gradient,) = torch.autograd.grad(value, x)
    return float(value.detach()), gradient.numpy()


def literal_idgi(model, points, target):
    """Algorithm 1: of all points of a path, its end included."""
    values, gradients = zip(*(value_and_gradient(model, each, target) for each in points), strict=True)
    total = np.zeros_like(gradients[0])
    for j in range(len(points) - 1):
        squares = gradients[j] ** 2
        total += squares * (values[j + 1] - values[j]) / squares.sum()
    return total


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


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_idgi_is_the_algorithm_on_the_straight_and_on_the_spectral_path(baseline):
    model, x = convolutional(), images()
    straight = IDGI(model, 7).attribute(x, TARGETS, baselines=baseline)
    spectral = IDGI(model, 7, "spectral").attribute(x, TARGETS, baselines=baseline)
    for row, target in enumerate(TARGETS):
        each = x[row].numpy()
        points = [baseline + j / 7 * (each - baseline) for j in range(8)]
        np.testing.assert_allclose(straight[row], literal_idgi(model, points, target), rtol=0, atol=1e-10)
        points = literal_spectral_points(each, baseline, 7, 0.4)
        np.testing.assert_allclose(spectral[row], literal_idgi(model, points, target), rtol=0, atol=1e-10)


def test_idgi_follows_the_path_of_guided_ig():
    """Its points, seen by the model, and their end make the map."""
    model, x, seen = convolutional(), images(1), []

    def watched(inputs):
        seen.append(inputs.detach()[0].numpy().copy())
        return model(inputs)

    GuidedIG(watched, 9).attribute(x, 2)
    expected = literal_idgi(model, [*seen, x[0].numpy()], 2)
    np.testing.assert_allclose(IDGI(model, 9, "guided").attribute(x, 2)[0], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("n_steps", [1, 5])
def test_idgi_is_complete_whatever_the_number_of_steps(path, n_steps):
    model, x, baseline = convolutional(), images(), 0.3
    found = IDGI(model, n_steps, path).attribute(x, TARGETS, baselines=baseline).flatten(1).sum(1)
    change = (model(x) - model(torch.full_like(x, baseline)))[range(4), TARGETS].detach()
    torch.testing.assert_close(found, change, rtol=1e-9, atol=1e-12)


def test_idgi_of_a_linear_model_is_in_proportion_to_its_squared_weights():
    model, x = linear(), images()
    weights = model[1].weight.detach()[1]
    change = (model(x) - model(torch.zeros_like(x)))[:, 1].detach()
    expected = change[:, None] * (weights**2 / (weights**2).sum())
    torch.testing.assert_close(IDGI(model, 3).attribute(x, 1).flatten(1), expected)


def test_idgi_leaves_out_a_step_that_begins_where_the_gradient_vanishes():
    def model(inputs):
        return (inputs - 0.5).relu().square().sum(1, keepdim=True)

    x = torch.ones(1, 3).double()
    # The first of four steps begins below every threshold, so does the second; the last two add up.
    method = IDGI(model, 4)
    found = method.attribute(x, 0)
    torch.testing.assert_close(found, torch.full((1, 3), 0.5**2 - 0.0**2).double() - 0.25**2)
    assert "left out" in " ".join(method.notes)
    method.attribute(x, 0, baselines=0.6)
    assert "left out" not in " ".join(method.notes)
    shares = squared_direction(torch.tensor([[0.0, 0.0], [3e-30, 4e-30], [3e30, 4e30]]))
    torch.testing.assert_close(shares, torch.tensor([[0, 0], [0.36, 0.64], [0.36, 0.64]]))
