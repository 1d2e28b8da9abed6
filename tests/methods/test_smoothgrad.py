"""SmoothGrad and VarGrad: closed forms."""

import torch
from torch import nn

from distillgrad.methods.smoothgrad import SmoothGrad, VarGrad
from networks import convolutional


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear(n_classes=3):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, n_classes)).double()


def weights(model, target):
    return model[1].weight.detach()[target].view(2, 6, 6)


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
