"""Occlusion against Captum and a linear model."""

import captum.attr
import pytest
import torch
from torch import nn

from distillgrad.methods.occlusion import Occlusion
from networks import convolutional


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


@pytest.mark.usefixtures("unexamined")
def test_occlusion_windows_and_passes():
    assert Occlusion(unasked).windows((3, 224, 224)) == ((3, 28, 28), (3, 14, 14))
    assert Occlusion(unasked).windows((7,)) == ((1,), (1,))
    assert Occlusion(unasked).n_passes == 15**2 + 2
    calls = []
    Occlusion(lambda x: calls.append(x) or x.flatten(1)[:, :3], window=2, stride=2).attribute(images())
    assert len(calls) == 3**2 + 2
