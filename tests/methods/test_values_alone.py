"""What RISE, Occlusion, LIME, XRAI and the random control share, which need no gradient."""

import sys

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.methods import xrai
from distillgrad.methods.lime import Lime
from distillgrad.methods.occlusion import Occlusion
from distillgrad.methods.random import Random
from distillgrad.methods.rise import RISE
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
