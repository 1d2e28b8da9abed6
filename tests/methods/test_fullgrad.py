"""FullGrad: completeness on real architectures, and its map by the authors' definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from networks import convolutional, lively


@pytest.mark.parametrize(
    ("name", "dtype", "side"),
    [
        ("resnet18", torch.float32, 64),
        ("resnet18", torch.float64, 64),
        ("vgg16", torch.float64, 32),
        ("inception_v3", torch.float64, 80),
        ("squeezenet1_1", torch.float32, 64),
    ],
)
def test_the_decomposition_is_complete(name, dtype, side):
    model = lively(name, dtype)
    x = torch.randn(2, 3, side, side, dtype=dtype)
    score = model(x)[:, 5].detach()
    residual = dg.FullGrad(model).residual(x, 5)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert (residual.abs() <= tolerance * score.abs()).all()


def published_scaling(term):
    """Ψ before enlarging, as the authors published it, for one sample at a time."""
    rows = []
    for row in term.abs():
        shifted = row - row.min()
        rows.append(shifted / (shifted.max() + 1e-6))
    return torch.stack(rows)


def test_the_map_is_the_authors_definition():
    """Every layer by hand: gradients at each layer's output, batch norm's implicit bias, Ψ on all of them."""
    model, x = convolutional(), torch.randn(3, 2, 6, 6).double().requires_grad_()
    first, norm, _, _, second, _, _, head = model
    outputs = [first(x)]
    outputs.append(norm(outputs[0]))
    pooled = functional.max_pool2d(outputs[1].relu(), 2)
    outputs.append(second(pooled))
    score = head(outputs[2].relu().flatten(1))[:, 2]
    gradients = torch.autograd.grad(score.sum(), [x, *outputs])
    implicit = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = published_scaling(gradients[0] * x).sum(1, keepdim=True)
    for gradient, bias in zip(gradients[1:], (first.bias, implicit, second.bias), strict=True):
        scaled = published_scaling(gradient * bias.view(1, -1, 1, 1))
        enlarged = functional.interpolate(scaled, size=(6, 6), mode="bilinear", align_corners=True)
        expected = expected + enlarged.sum(1, keepdim=True)
    found = dg.FullGrad(model).attribute(x.detach(), 2)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)


def test_the_residual_is_the_curvature_of_smooth_models():
    smooth = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 4).double()
    assert dg.FullGrad(smooth).residual(x, 0).abs().min() > 1e-6
    with pytest.raises(dg.errors.InputError, match="uniform_fullgrad"):
        dg.FullGrad(smooth).attribute(x, 0)
