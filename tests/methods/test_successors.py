"""IDGI, SAMP and Spectral IG: each algorithm written down for one row, closed forms, what they promise."""

import numpy as np
import pytest
import torch
from torch import nn

from distillgrad.errors import InputError, ParameterError, UnknownNameError
from distillgrad.methods.guided_ig import GuidedIG
from distillgrad.methods.idgi import IDGI, PATHS, squared_direction
from distillgrad.methods.integrated_gradients import IntegratedGradients
from distillgrad.methods.samp import DIRECTIONS, SAMP, salient_step
from distillgrad.methods.spectral_ig import SpectralIG
from networks import convolutional, dense

TARGETS = [0, 3, 1, 1]
METHODS = {
    "idgi": IDGI,
    "idgi guided": lambda model, n: IDGI(model, n, "guided"),
    "idgi spectral": lambda model, n: IDGI(model, n, "spectral"),
    "samp": SAMP,
    "samp plain": lambda model, n: SAMP(model, n, momentum=0, infinitesimal=False),
    "samp insertion": lambda model, n: SAMP(model, n, direction="insertion"),
    "spectral_ig": SpectralIG,
}


def images(n=4):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear():
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double()


def smooth():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, 4)).double()


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


class Counting:
    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0

    def __call__(self, x):
        self.calls, self.rows = self.calls + 1, max(self.rows, len(x))
        return self.model(x)


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
    found = IDGI(model, 4).attribute(x, 0)
    torch.testing.assert_close(found, torch.full((1, 3), 0.5**2 - 0.0**2).double() - 0.25**2)
    shares = squared_direction(torch.tensor([[0.0, 0.0], [3e-30, 4e-30], [3e30, 4e30]]))
    torch.testing.assert_close(shares, torch.tensor([[0, 0], [0.36, 0.64], [0.36, 0.64]]))


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


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("idgi")])
def test_paths_are_complete(name):
    x, baseline = images(), 0.3
    model = linear()
    expected = model[1].weight.detach()[1].view(2, 6, 6) * (x - baseline)
    found = METHODS[name](model, 6).attribute(x, 1, baselines=baseline)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    if name == "samp plain":  # its steps move whole pixels, however many there are
        return
    model = smooth()
    found = METHODS[name](model, 1000).attribute(x, 1, baselines=baseline).flatten(1).sum(1)
    change = (model(x) - model(torch.full_like(x, baseline)))[:, 1].detach()
    torch.testing.assert_close(found, change, rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [10, 100])
def test_the_model_sees_no_more_rows_and_not_one_pass_too_many(name, n):
    model, x = Counting(dense(72)), images()
    method = METHODS[name](model, n)
    method.attribute(x, TARGETS)
    assert model.rows == len(x)
    if name.startswith("samp"):
        assert min(n, 36) / 2 <= model.calls <= method.n_passes
    else:
        assert model.calls == method.n_passes


@pytest.mark.parametrize("name", METHODS)
def test_rows_do_not_depend_on_their_batch(name):
    model, x = convolutional(), images(5)
    x[2] = 0  # no difference from the baseline
    x[3] *= 10
    method = METHODS[name](model, 12)
    whole = method.attribute(x)
    assert not whole[2].any()
    assert torch.equal(method.attribute(x), whole)
    alone = torch.cat([method.attribute(row[None]) for row in x])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("method", "wrong", "error"),
    [
        (IDGI, {"n_steps": 0}, ParameterError),
        (IDGI, {"path": "striaght"}, UnknownNameError),
        (SAMP, {"n_steps": 0}, ParameterError),
        (SAMP, {"momentum": 1.0}, ParameterError),
        (SAMP, {"momentum": float("nan")}, ParameterError),
        (SAMP, {"direction": "up"}, UnknownNameError),
        (SpectralIG, {"n_steps": 1.5}, ParameterError),
        (SpectralIG, {"overlap": 0.0}, ParameterError),
        (SpectralIG, {"overlap": 1.1}, ParameterError),
    ],
)
def test_parameters_outside_their_range(method, wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        method(linear(), **wrong)
