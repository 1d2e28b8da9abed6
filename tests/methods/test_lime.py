"""LIME against Captum and a linear model."""

import captum.attr
import torch
from captum._utils.models.linear_model import SkLearnLasso
from torch import nn

from distillgrad.methods.lime import Lime, patches
from networks import convolutional


def images(n=3, side=6):
    return torch.randn(n, 2, side, side, generator=torch.Generator().manual_seed(1)).double()


def linear(weights):
    """A model with two classes, of which the second has these weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros_like(weights), weights]).flatten(1))
        model[1].bias.zero_()
    return model


def test_lime_of_a_linear_model_has_its_weights():
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(3, 8, 8, generator=generator).double()
    x = torch.randn(2, 3, 8, 8, generator=generator).double()
    found = Lime(linear(weights), n_samples=500, cells=4, alpha=1e-5).attribute(x, 1)
    parts = nn.functional.avg_pool2d((weights * x).sum(1), 2) * 4
    expected = parts.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None].expand_as(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)
    table = torch.tensor([[1.0, -2.0, 0.0, 3.0]]).double()
    ranks = Lime(linear(torch.ones(4).double())).attribute(table, 1)
    assert ranks.argsort().tolist() == table.argsort().tolist()
    assert torch.equal(ranks.sign(), table.sign())


def test_lime_equals_captum():
    model, x = convolutional(), images()
    found = Lime(model, n_samples=40, cells=3, seed=7, alpha=0.001).attribute(x, 1, baselines=0.1)
    lime = captum.attr.Lime(model, SkLearnLasso(alpha=0.001))
    for row in range(3):
        torch.manual_seed(7)
        expected = lime.attribute(
            x[row : row + 1],
            target=1,
            baselines=0.1,
            n_samples=40,
            feature_mask=patches(x.shape, 3).expand(1, 2, 6, 6),
        )
        torch.testing.assert_close(found[row : row + 1], expected.double(), rtol=0, atol=1e-6)


def test_patches_number_a_grid_without_gaps():
    assert patches((1, 3, 3, 5), 2)[0, 0].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]
    for sides in ((6, 6), (7, 13), (3, 40)):
        assert torch.equal(
            patches((1, 1, *sides), 8).unique(), torch.arange(min(8, sides[0]) * min(8, sides[1]))
        )
    assert patches((2, 2, 3), 8).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert int(patches((1, 30_000), 8).max()) + 1 == 10_000  # Captum warns of more
