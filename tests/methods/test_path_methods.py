"""Methods that follow a path or average over noise: closed forms, Captum's and the authors' values."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from distillgrad.errors import ModelError, ParameterError, TargetError, UnknownNameError
from distillgrad.methods.agi import AGI
from distillgrad.methods.guided_ig import GuidedIG, advanced
from distillgrad.methods.integrated_gradients import QUADRATURES, IntegratedGradients
from distillgrad.methods.smoothgrad import SmoothGrad, VarGrad
from networks import FunctionalReused, convolutional, dense

recipe = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "guided_ig" / "recipe.py")))


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear(n_classes=3):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, n_classes)).double()


def weights(model, target):
    return model[1].weight.detach()[target].view(2, 6, 6)


class Counting:
    """A model that counts its calls and the rows of the largest."""

    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0

    def __call__(self, x):
        self.calls, self.rows = self.calls + 1, max(self.rows, len(x))
        return self.model(x)


FEW = {
    "ig": IntegratedGradients,
    "guided_ig": GuidedIG,
    "smoothgrad": SmoothGrad,
    "vargrad": VarGrad,
    "agi": lambda model, n: AGI(model, epsilon=1e-6, max_steps=n, n_classes=2),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("n", [10, 300])
def test_the_model_sees_no_more_rows_whatever_the_number_of_steps(name, n):
    model, x = Counting(dense(72)), images()
    method = FEW[name](model, n)
    method.attribute(x, model(x).argmax(1))
    assert model.rows == len(x)
    assert model.calls - 1 == method.n_passes  # with a given target, not one pass too many


@pytest.mark.parametrize("name", FEW)
def test_rows_do_not_depend_on_their_batch(name):
    model, x = convolutional(), images(5)
    x[2] = 0  # has nothing to explain: neither a difference from the baseline nor a range
    x[3] *= 10
    method = FEW[name](model, 12)
    whole = method.attribute(x)
    assert torch.equal(method.attribute(x), whole)
    torch.manual_seed(99)  # the global generator is not used
    alone = torch.cat([method.attribute(row[None]) for row in x])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("model", [convolutional(), FunctionalReused().double()])
def test_integrated_gradients_are_captums(model, quadrature):
    x, target = images(), torch.tensor([0, 3, 1])
    baselines = torch.randn(1, 2, 6, 6).double()

    def out_of_place(inputs):
        return model(inputs.clone())

    expected = captum.attr.IntegratedGradients(out_of_place).attribute(
        x.clone(), baselines.expand_as(x), target, n_steps=7, method=quadrature
    )
    found = IntegratedGradients(model, 7, quadrature).attribute(x, target, baselines=baselines[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_integrated_gradients_of_one_score_per_sample_take_class_0():
    def model(x):
        return dense(72)(x)[:, 0]

    x = images()
    method = IntegratedGradients(model, 3)
    assert torch.equal(method.attribute(x, 0), method.attribute(x))


@pytest.mark.parametrize("method", [IntegratedGradients, GuidedIG])
def test_paths_are_complete(method):
    x, baseline = images(), 0.3
    exact = method(linear(), 20).attribute(x, 1, baselines=baseline)
    torch.testing.assert_close(exact, weights(linear(), 1) * (x - baseline), rtol=1e-6, atol=1e-12)
    model = dense(72)
    found = method(model, 1000).attribute(x, 1, baselines=baseline).flatten(1).sum(1)
    change = (model(x) - model(torch.full_like(x, baseline)))[:, 1].detach()
    torch.testing.assert_close(found, change, rtol=0, atol=2e-3)


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


def test_gradients_of_a_linear_model_do_not_depend_on_noise():
    model, x = linear(), images()
    gradient = weights(model, 2).expand_as(x)
    assert torch.equal(SmoothGrad(model, 7).attribute(x, 2), gradient)
    assert torch.equal(SmoothGrad(model, 7, kind="smoothgrad_squared").attribute(x, 2), gradient**2)
    assert not VarGrad(model, 7).attribute(x, 2).any()


def test_noise_has_a_fraction_of_the_rows_range_and_its_moments_are_the_gradients():
    x = images() * torch.tensor([1.0, 10.0, 0.1]).double().view(3, 1, 1, 1)
    generator = torch.Generator().manual_seed(5)
    z = torch.stack([torch.randn(2, 6, 6, generator=generator, dtype=torch.float64) for _ in range(9)])
    deviation = 0.2 * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    gradients = 2 * (x + deviation * z[:, None])

    def model(inputs):  # its gradient is 2x
        return inputs.flatten(1).square().sum(1, keepdim=True)

    def found(**kind):
        return SmoothGrad(model, 9, 0.2, 5, **kind).attribute(x, 0)

    torch.testing.assert_close(found(), gradients.mean(0))
    torch.testing.assert_close(found(kind="smoothgrad_squared"), gradients.square().mean(0))
    torch.testing.assert_close(found(kind="vargrad"), gradients.var(0, correction=0))
    torch.testing.assert_close(VarGrad(model, 9, 0.2, 5).attribute(x, 0), gradients.var(0, correction=0))
    other = SmoothGrad(model, 9, 0.2, 6).attribute(x, 0)
    assert not torch.allclose(other, gradients.mean(0))


def test_smoothgrad_explains_the_prediction_of_the_clean_input():
    model, x = convolutional(), images()
    found = SmoothGrad(model, 4, noise=2.0).attribute(x)
    assert torch.equal(found, SmoothGrad(model, 4, noise=2.0).attribute(x, model(x).argmax(1)))


def literal_agi(model, x, target, rivals, epsilon, max_steps):
    """One row: the sum over the path towards each false class, divided by their number."""
    low, high, total = x.min(), x.max(), torch.zeros_like(x)
    for rival in rivals:
        here = x.clone()
        for _ in range(max_steps):
            here.requires_grad_()
            output = model(here[None])[0]
            if int(output.argmax()) == rival:
                break
            probabilities = output.softmax(0)
            (up,) = torch.autograd.grad(probabilities[rival], here, retain_graph=True)
            (down,) = torch.autograd.grad(probabilities[target], here)
            here = here.detach()
            there = (here + epsilon * (high - low) * up.sign()).clamp(low, high)
            total -= down * (there - here)
            here = there
    return total / len(rivals)


def test_agi_is_the_algorithm_written_down_for_each_row():
    model, x, target = convolutional(), images(4), [0, 3, 1, 1]
    order = torch.randperm(4, generator=torch.Generator().manual_seed(7)).tolist()
    found = AGI(model, 0.04, 8, n_classes=2, seed=7).attribute(x, target)
    for row, each in enumerate(target):
        rivals = [rival for rival in order if rival != each][:2]
        expected = literal_agi(model, x[row], each, rivals, 0.04, 8)
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-13)


def test_agi_of_a_logistic_model_is_what_its_probability_loses_up_to_the_boundary():
    w = torch.linspace(-1, 2, 12).double()

    def model(inputs):
        score = inputs.flatten(1) @ w
        return torch.stack([score, -score], 1)

    x = (0.2 * w).view(1, 3, 4)
    found = AGI(model, epsilon=1e-4, max_steps=2000, clamp=(-5.0, 5.0)).attribute(x, 0)
    # All features move by the same ε, so each loses in proportion to its weight; in all, p − 1/2.
    share = found.flatten() / w.abs()
    torch.testing.assert_close(share, share.mean().expand(12))
    lost = model(x).softmax(1)[0, 0] - 0.5
    torch.testing.assert_close(found.sum(), lost, rtol=0, atol=2e-3)


def test_agi_drops_rows_that_have_arrived():
    model = Counting(lambda x: torch.stack([x[:, 0], x[:, 1]], 1))
    x = torch.tensor([[1.0, 0.9, -4.0, 4.0], [4.0, -4.0, 0.0, 0.0]]).double()
    whole = AGI(model, epsilon=0.05, max_steps=50).attribute(x, 0)
    assert model.calls < 40
    assert bool((whole[:, :2] > 0).any())
    assert not whole[:, 2:].any()  # the model ignores them


def test_agi_needs_classes():
    x = images()
    with pytest.raises(TargetError, match="callable"):
        AGI(linear()).attribute(x, lambda logits: logits[:, 0])
    with pytest.raises(ModelError, match=r"\(3,\) for 3 samples"):
        AGI(lambda inputs: linear()(inputs)[:, 0]).attribute(x)
    with pytest.raises(ModelError, match="two or more"):
        AGI(linear(1)).attribute(x)
    with pytest.raises(TargetError, match="3 class"):
        AGI(linear()).attribute(x, 3)


@pytest.mark.parametrize(
    ("method", "wrong", "error"),
    [
        (IntegratedGradients, {"n_steps": 0}, ParameterError),
        (IntegratedGradients, {"n_steps": 2.0}, ParameterError),
        (IntegratedGradients, {"method": "riemann_left", "n_steps": 1}, ParameterError),
        (IntegratedGradients, {"method": "gauss"}, UnknownNameError),
        (GuidedIG, {"n_steps": True}, ParameterError),
        (GuidedIG, {"fraction": 0}, ParameterError),
        (GuidedIG, {"fraction": float("nan")}, ParameterError),
        (GuidedIG, {"max_dist": 1.1}, ParameterError),
        (SmoothGrad, {"n_samples": 0}, ParameterError),
        (SmoothGrad, {"noise": -0.1}, ParameterError),
        (SmoothGrad, {"noise": float("inf")}, ParameterError),
        (SmoothGrad, {"seed": 0.5}, ParameterError),
        (SmoothGrad, {"kind": "vargard"}, UnknownNameError),
        (VarGrad, {"n_samples": -1}, ParameterError),
        (AGI, {"epsilon": 0}, ParameterError),
        (AGI, {"max_steps": 0}, ParameterError),
        (AGI, {"n_classes": 0}, ParameterError),
        (AGI, {"seed": -1}, ParameterError),
        (AGI, {"clamp": (1.0, 0.0)}, ParameterError),
    ],
)
def test_parameters_outside_their_range(method, wrong, error):
    with pytest.raises(error, match=next(reversed(wrong)) if error is ParameterError else "kind|quadrature"):
        method(linear(), **wrong)
