"""SAMP: its algorithm written down for one row, and what it promises."""

import numpy as np
import pytest
import torch
from torch import nn

from distillgrad.methods.samp import DIRECTIONS, SAMP, salient_step
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


def literal_samp(model, x, baseline, target, *, n_pixels, bound, momentum, deleting):
    """One path: whole steps to the end of the chosen pixels, shortened where they are too long."""
    here, end = (x.copy(), np.full_like(x, baseline)) if deleting else (np.full_like(x, baseline), x.copy())
    limit, gradient, n_steps = bound * np.abs(end - here).sum(), None, 0
    total = np.zeros_like(x)
    while not np.allclose(here, end, rtol=0, atol=1e-12):
        _, actual = value_and_gradient(model, here, target)
        gradient = actual if gradient is None else momentum * gradient + (1 - momentum) * actual
        projection = (gradient * (end - here)).sum(0)
        relevance = -projection if deleting else projection
        open_ = np.abs(end - here).max(0) > 1e-12
        least = np.sort(relevance[open_])[::-1][:n_pixels][-1]
        chosen = open_ & (relevance >= least)  # a dead part of the network makes ties at 0
        step = (end - here) * chosen
        if np.abs(step).sum() > limit:
            step *= limit / np.abs(step).sum()
        total += (-1 if deleting else 1) * gradient * step
        here, n_steps = here + step, n_steps + 1
    return total, n_steps


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("momentum", "infinitesimal"), [(0.0, False), (0.0, True), (0.5, True), (0.9, False)]
)
@pytest.mark.parametrize("n_steps", [1, 4, 9])
def test_samp_is_the_algorithm_written_down(n_steps, momentum, infinitesimal, direction):
    model, x, baseline = convolutional(), images(), 0.3
    x[1, :, 2:4] = baseline  # pixels with no way to go
    n_bound = n_steps // 2 if infinitesimal else 0
    n_pixels = int(np.ceil(36 / (n_steps - n_bound)))
    found = SAMP(model, n_steps, momentum, infinitesimal, direction).attribute(x, TARGETS, baselines=baseline)
    for row, target in enumerate(TARGETS):
        paths = [
            literal_samp(
                model,
                x[row].numpy(),
                baseline,
                target,
                n_pixels=n_pixels,
                bound=1 / n_bound if n_bound else 1.0,
                momentum=momentum,
                deleting=deleting,
            )
            for deleting in DIRECTIONS[direction]
        ]
        assert max(taken for _, taken in paths) <= n_steps
        expected = sum(total for total, _ in paths) / len(paths)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_pixels", [1, 7, 500])
@pytest.mark.parametrize("n_steps", [1, 2, 5, 14, 15, 31])
@pytest.mark.parametrize("infinitesimal", [True, False])
def test_samp_arrives_within_its_steps_whatever_is_salient(n_pixels, n_steps, infinitesimal):
    torch.manual_seed(n_pixels + n_steps)
    length = torch.randn(20, n_pixels).mul(4).exp()  # a few pixels hold most of the way
    length[0] = 1
    length[1, ::2] = 0
    n_chosen, bound = SAMP(linear(), n_steps, infinitesimal=infinitesimal)._reach(n_pixels)
    covered = torch.where(length > 0, 0.0, 1.0)
    for _ in range(n_steps):
        gain = torch.randint(0, 9, length.shape).float()  # full of ties
        step = salient_step(covered, gain, length, n_chosen, bound)
        assert bool((step >= 0).all())
        assert bool(((step * length).sum(1) <= bound * length.sum(1) * (1 + 1e-5)).all())
        covered = covered + step
    assert bool((covered == 1).all())


def test_samp_in_a_table_moves_column_by_column():
    """f = x₀·x₁: whichever comes first adds nothing, the second all of it."""
    x = torch.tensor([[3.0, 2.0, 0.0, 0.0]]).double()

    def model(inputs):
        return (inputs[:, 0] * inputs[:, 1] + 0.1 * inputs[:, 0])[:, None]

    method = SAMP(model, 4, momentum=0, infinitesimal=False, direction="insertion")
    torch.testing.assert_close(method.attribute(x, 0), torch.tensor([[0.3, 6.0, 0, 0]]).double())
    method = SAMP(model, 4, momentum=0, infinitesimal=False, direction="deletion")
    torch.testing.assert_close(method.attribute(x, 0), torch.tensor([[6.3, 0.0, 0, 0]]).double())
