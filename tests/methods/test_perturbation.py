"""RISE, Occlusion and the random control against closed forms; what all share that ask for values alone."""

import sys

import captum.attr
import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.methods import xrai
from distillgrad.methods.lime import Lime
from distillgrad.methods.perturbation import RISE, Occlusion, Random
from distillgrad.methods.xrai import XRAI
from networks import convolutional

MADE = {
    "rise": lambda model: RISE(model, n_masks=20, cells=3),
    "occlusion": lambda model: Occlusion(model, window=3),
    "lime": lambda model: Lime(model, n_samples=60, cells=3, alpha=1e-4),
    "random": Random,
    "xrai": lambda model: XRAI(model, n_steps=3),
}


def unasked(inputs):
    raise AssertionError(f"the model was asked about {len(inputs)} rows")


def images(n=3, side=6):
    return torch.randn(n, 2, side, side, generator=torch.Generator().manual_seed(1)).double()


def linear(weights):
    """A model with two classes, of which the second has these weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros_like(weights), weights]).flatten(1))
        model[1].bias.zero_()
    return model


@pytest.mark.parametrize("name", MADE)
def test_rows_chunks_targets_and_random_numbers(name, monkeypatch):
    monkeypatch.setattr(xrai, "SCALES", (50, 1200))  # segmenting takes time
    inner, x = convolutional(), images()

    def model(x, scale, table):
        assert len(x) == len(scale)
        assert table.shape == (4,)
        return inner(x) * scale[:, None] + table

    extra = (torch.tensor([1.0, 2.0, 3.0]).double(), torch.arange(4).double())
    explain, state = MADE[name](model).attribute, torch.get_rng_state()
    whole = explain(x, additional_forward_args=extra)
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.abs().sum() > 0
    torch.manual_seed(5)  # of no influence
    for size in (1, 2):
        chunked = explain(x, additional_forward_args=extra, internal_batch_size=size)
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)
    turned = explain(x.flip(0), additional_forward_args=(extra[0].flip(0), extra[1])).flip(0)
    torch.testing.assert_close(turned, whole, rtol=0, atol=1e-12)
    predicted = model(x, *extra).argmax(1)
    assert torch.equal(explain(x, predicted, additional_forward_args=extra), whole)


@pytest.mark.parametrize("name", [name for name in MADE if name != "random"])
def test_callables_single_outputs_and_classes_outside(name, few_segments):
    inner, x = convolutional(), images()
    score = MADE[name](inner).attribute(x, lambda logits: logits[:, 2])
    for target in (None, 0):
        single = MADE[name](lambda x: inner(x)[:, 2]).attribute(x, target)
        torch.testing.assert_close(single, score, rtol=0, atol=1e-12)
        column = MADE[name](lambda x: inner(x)[:, 2:3]).attribute(x, target)
        torch.testing.assert_close(column, score, rtol=0, atol=1e-12)
    with pytest.raises(dg.errors.TargetError, match="4 classes"):
        MADE[name](inner).attribute(x, 4)
    with pytest.raises(dg.errors.ModelError, match="not finite for samples 0, 1, 2"):
        MADE[name](lambda x: inner(x) * torch.nan).attribute(x, 1)


def test_rise_peaks_at_the_one_pixel_that_matters():
    weights = torch.zeros(1, 1, 28, 28).double()
    weights[..., 9, 17] = 5
    found = RISE(linear(weights), n_masks=300).attribute(torch.ones(1, 1, 28, 28).double(), 1)
    assert found.shape == (1, 1, 28, 28)
    y, x = divmod(int(found.argmax()), 28)
    assert abs(y - 9) <= 2
    assert abs(x - 17) <= 2


def test_rise_is_the_weighted_mean_of_its_masks():
    model, x = convolutional(), images()
    rise = RISE(model, n_masks=7, cells=4, probability=0.3)
    masks = list(rise._masks(x))
    masked = torch.stack([model(0.5 + mask * (x - 0.5)).softmax(1)[:, 1] for mask in masks])
    expected = torch.einsum("mn,mhw->nhw", masked, torch.stack(masks))[:, None] / (7 * 0.3)
    torch.testing.assert_close(rise.attribute(x, 1, baselines=0.5), expected, rtol=0, atol=1e-12)


def test_rise_masks_are_random_grids_shifted_and_smooth():
    masks = torch.stack(list(RISE(unasked, n_masks=2000, cells=7)._masks(torch.zeros(1, 1, 14, 21).double())))
    assert masks.shape == (2000, 14, 21)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    torch.testing.assert_close(masks.mean(0), torch.full((14, 21), 0.5).double(), rtol=0, atol=0.05)
    whole = list(RISE(unasked, n_masks=3, probability=1.0)._masks(torch.zeros(1, 1, 5, 9).double()))
    torch.testing.assert_close(torch.stack(whole), torch.ones(3, 5, 9).double(), rtol=0, atol=1e-15)


def test_the_model_never_sees_more_rows_than_the_batch_has():
    sizes, inner = [], convolutional()

    def model(x):
        sizes.append(len(x))
        return inner(x)

    for method in (RISE(model, n_masks=10), RISE(model, n_masks=300), Lime(model, n_samples=50)):
        sizes.clear()
        method.attribute(images())
        assert max(sizes) == 3
    sizes.clear()
    RISE(model, n_masks=10).attribute(images())
    assert len(sizes) == RISE(model, n_masks=10).n_passes == 11


@pytest.mark.parametrize("shape", [(5,), (2, 6, 6), (2, 9), (1, 4, 4, 4)])
def test_occlusion_of_a_linear_model(shape):
    weights, x = torch.randn(shape).double(), torch.randn(2, *shape).double()
    found = Occlusion(linear(weights), window=1).attribute(x, 1, baselines=0.5)
    expected = weights * (x - 0.5)
    if len(shape) > 1:
        expected = expected.sum(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("window", "stride"), [(None, None), (3, None), (4, 3), (9, 9)])
def test_occlusion_equals_captum(window, stride):
    model, x = convolutional(), images()
    (_, *sides), strides = Occlusion(model, window, stride).windows((2, 6, 6))
    expected = captum.attr.Occlusion(model).attribute(
        x, sliding_window_shapes=(2, *sides), strides=strides, target=[1, 2, 3], baselines=0.1
    )
    found = Occlusion(model, window, stride).attribute(x, [1, 2, 3], baselines=0.1)
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-6)


def test_occlusion_windows_and_passes():
    assert Occlusion(unasked).windows((3, 224, 224)) == ((3, 28, 28), (3, 14, 14))
    assert Occlusion(unasked).windows((7,)) == ((1,), (1,))
    assert Occlusion(unasked).n_passes == 15**2 + 2
    calls = []
    Occlusion(lambda x: calls.append(x) or x.flatten(1)[:, :3], window=2, stride=2).attribute(images())
    assert len(calls) == 3**2 + 2


def test_random_is_normal_repeatable_and_asks_no_model():
    x = torch.randn(2, 3, 64, 64)
    found = Random(unasked).attribute(x)
    assert found.shape == x.shape
    assert abs(float(found.mean())) < 0.03
    assert abs(float(found.std()) - 1) < 0.03
    assert torch.equal(found, Random(unasked).attribute(x.clone(memory_format=torch.channels_last)))
    assert torch.equal(found[1], Random(unasked).attribute(x[1:])[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found, Random(unasked, seed=1).attribute(x))
    assert Random(unasked).attribute(x.bfloat16()).dtype == torch.bfloat16
    assert Random(unasked).n_passes == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RISE(unasked, n_masks=0), "n_masks"),
        (lambda: RISE(unasked, cells=2.5), "cells"),
        (lambda: RISE(unasked, probability=0), "probability"),
        (lambda: RISE(unasked, seed=-1), "seed"),
        (lambda: Occlusion(unasked, window=0), "window"),
        (lambda: Occlusion(unasked, window=2, stride=3), "stride"),
        (lambda: Occlusion(unasked, stride=3).attribute(images()), "stride"),
        (lambda: Lime(unasked, n_samples=True), "n_samples"),
        (lambda: Lime(unasked, alpha=0), "alpha"),
        (lambda: Lime(unasked, cells=101), "cells"),
        (lambda: Random(unasked, seed="cat"), "seed"),
        (lambda: XRAI(unasked, n_steps=0), "n_steps"),
    ],
)
def test_parameters_outside_their_range(make, words):
    with pytest.raises(dg.errors.ParameterError, match=words):
        make()


def test_inputs_that_are_no_images():
    for x in (torch.ones(2, 5), torch.ones(2, 3, 5, 5, 5)):
        with pytest.raises(dg.errors.InputError, match="images"):
            RISE(linear(torch.ones(5).double())).attribute(x)
    for x in (torch.ones(2, 5), torch.ones(2, 4, 5, 5)):
        with pytest.raises(dg.errors.InputError, match="1 to 3 channels"):
            XRAI(linear(torch.ones(5).double())).attribute(x)


@pytest.mark.parametrize(("name", "package"), [("lime", "sklearn"), ("xrai", "skimage")])
def test_missing_packages_name_the_extra(name, package, monkeypatch):
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(dg.errors.MissingExtraError, match=r"scikit-.*distillgrad\[regions\]"):
        MADE[name](convolutional()).attribute(images())
