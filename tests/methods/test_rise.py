"""RISE against its definition."""

import torch
from torch import nn

from distillgrad.methods.rise import RISE
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
