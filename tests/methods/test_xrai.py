"""XRAI against its definition."""

import math

import numpy as np
import torch
from torch import nn

from distillgrad.methods.xrai import XRAI, enlarged, ranked_regions, segments


def linear(weights):
    """A model with two classes, of which the second has these weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros_like(weights), weights]).flatten(1))
        model[1].bias.zero_()
    return model


def quadrants(side=48):
    """A picture of four flat quarters and the weights of a model that looks at the upper right one."""
    x = torch.zeros(1, 3, side, side).double()
    for quarter, colour in enumerate(((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, 1.0, 0))):
        y, column = divmod(quarter, 2)
        half = slice(y * side // 2, (y + 1) * side // 2), slice(column * side // 2, (column + 1) * side // 2)
        x[(0, slice(None), *half)] = torch.tensor(colour).double()[:, None, None]
    weights = torch.zeros(3, side, side).double()
    weights[1, : side // 2, side // 2 :] = 1
    return x, weights


def test_xrai_ranks_the_region_that_the_model_uses_first():
    x, weights = quadrants()
    found = XRAI(linear(weights), n_steps=2).attribute(x, 1)
    assert found.shape == (1, 1, 48, 48)
    assert torch.equal(found[0, 0, 2:22, 26:46], found.max().expand(20, 20))
    assert float(found[0, 0, 28:].max()) < 0.05 * float(found.max())
    assert float(found[0, 0, :, :20].max()) < 0.05 * float(found.max())


def test_xrai_sums_to_the_integrated_gradients_of_both_paths():
    x, weights = quadrants(20)
    weights = weights + torch.randn(weights.shape, generator=torch.Generator().manual_seed(3))
    lowest, highest = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    pixels = (weights * (x - (lowest + highest) / 2)).amax(1)
    found = XRAI(linear(weights), n_steps=1).attribute(x, 1)
    torch.testing.assert_close(found.sum(), pixels.sum(), rtol=0, atol=1e-10)
    flat = XRAI(linear(weights), n_steps=1).attribute(torch.full_like(x, 0.5), 1)
    assert torch.equal(flat, torch.zeros_like(flat))


def test_greedy_ranking_equals_its_definition():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(23, 31))
    masks = segments(generator.random((23, 31, 3)).cumsum(0).cumsum(1))
    assert len(masks) > 20
    least = math.ceil(50 * values.size / 224**2)
    expected, free, left = np.full(values.shape, np.nan), np.ones(values.shape, bool), list(masks)
    while True:
        new = [mask.reshape(values.shape) & free for mask in left]
        new = [each for each in new if each.sum() >= least]
        if not new:
            break
        best = max(new, key=lambda each: values[each].mean())
        expected[best] = values[best].mean()
        free &= ~best
    expected[free] = values[free].mean() if free.any() else np.nan
    np.testing.assert_allclose(ranked_regions(values, masks), expected, rtol=0, atol=1e-12)


def test_segments_are_enlarged_by_a_disk():
    labels = np.zeros((9, 9), int)
    labels[4, 4] = 1
    masks = enlarged(labels, 2).reshape(2, 9, 9)
    y, x = np.indices((9, 9))
    assert np.array_equal(masks[1], (y - 4) ** 2 + (x - 4) ** 2 <= 4)
    assert masks[0].all()
    assert np.array_equal(enlarged(labels, 0).reshape(2, 9, 9), [labels == 0, labels == 1])
