"""Norms whose gradient torch returns wrong: of one row, and with weights that are slices or expanded."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.forward import value_and_gradient

N_CHANNELS, SIZE = 6, (5, 4)


def batch_norm_by_hand(x, weight, bias, mean, variance):
    """The literal reference: elementwise operations, whose gradients do not look at strides."""
    mean, variance, weight, bias = (each[:, None, None] for each in (mean, variance, weight, bias))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


SPELLINGS = {
    "functional": lambda x, w, b, m, v: functional.batch_norm(x, m, v, w, b),
    "torch": lambda x, w, b, m, v: torch.batch_norm(x, w, b, m, v, False, 0.1, 1e-5, False),
    "native": lambda x, w, b, m, v: torch.native_batch_norm(x, w, b, m, v, False, 0.1, 1e-5)[0],
    "exported": lambda x, w, b, m, v: torch.ops.aten._native_batch_norm_legit_no_training(
        x, w, b, m, v, 0.1, 1e-5
    )[0],
    "of instances": lambda x, w, b, m, v: functional.instance_norm(x, m, v, w, b, use_input_stats=False),
}
VECTORS = {
    "whole": lambda: torch.rand(N_CHANNELS, dtype=torch.double) + 0.5,
    "sliced": lambda: (torch.rand(2 * N_CHANNELS, dtype=torch.double) + 0.5)[::2],
    "expanded": lambda: (torch.rand(1, dtype=torch.double) + 0.5).expand(N_CHANNELS),
}

KINDS = [("whole", "whole"), ("sliced", "whole"), ("whole", "expanded")]
"""Of weight and variance."""


def tokens(upstream):
    """The same values with the strides of a transposed ``flatten(2)``."""
    return upstream.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).unflatten(2, SIZE)


ARRIVALS = {
    "contiguous": lambda upstream: upstream,
    "channels_last": lambda upstream: upstream.contiguous(memory_format=torch.channels_last),
    "tokens": tokens,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_batch_norm_has_the_gradient_of_its_formula(spelling):
    layouts = (torch.contiguous_format, torch.channels_last)
    for n, layout, arrival, kinds in product((1, 2), layouts, ARRIVALS, KINDS):
        weight, variance = (VECTORS[kind]() for kind in kinds)
        bias, mean = torch.randn(2, N_CHANNELS, dtype=torch.double)
        x = torch.randn(n, N_CHANNELS, *SIZE, dtype=torch.double).contiguous(memory_format=layout)
        upstream = torch.randn(x.shape, dtype=torch.double)

        class Arriving(torch.autograd.Function):
            @staticmethod
            def forward(ctx, values):
                return (values * upstream).flatten(1).sum(1)  # noqa: B023

            @staticmethod
            def backward(ctx, gradient):
                return ARRIVALS[arrival](gradient.view(-1, 1, 1, 1) * upstream)  # noqa: B023

        def model(inputs):
            return Arriving.apply(SPELLINGS[spelling](inputs, weight, bias, mean, variance))  # noqa: B023

        _, found, _ = value_and_gradient(model, x)
        leaf = x.clone().requires_grad_()
        score = (batch_norm_by_hand(leaf, weight, bias, mean, variance) * upstream).sum()
        torch.testing.assert_close(found, torch.autograd.grad(score, leaf)[0])


class Tokens(nn.Module):
    """A norm before tokens, as LeViT and XCiT have it, and one of instances before channels_last."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.instances = nn.InstanceNorm2d(8, affine=True)
        nn.init.uniform_(self.norm.weight, 0.5, 2.0)

    def forward(self, x):
        maps = self.instances(self.norm(self.conv(x)).relu())
        maps = self.norm(maps.contiguous(memory_format=torch.channels_last))
        return self.head(maps.flatten(2).transpose(1, 2)).amax(1)


@pytest.mark.parametrize(
    "name", ["saliency", "dga", "fullgrad", "guided_backprop", "integrated_gradients", "gradcam"]
)
def test_a_row_alone_is_explained_as_in_a_batch(name):
    torch.manual_seed(1)
    model, images = Tokens().double().eval(), torch.randn(2, 3, 16, 16, dtype=torch.double)
    method = dg.create_method(name, model)
    both = method.attribute(images, target=[1, 2])
    for layout in (torch.contiguous_format, torch.channels_last):
        alone = method.attribute(images[:1].contiguous(memory_format=layout), target=[1])
        torch.testing.assert_close(alone, both[:1], atol=1e-8 * float(both.abs().max()), rtol=0)


class OwnBatchNorm(torch.autograd.Function):
    """A function of the model's own that merely has the name."""

    @staticmethod
    def forward(ctx, values):
        return 2 * values

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_function_of_that_name_is_let_be():
    _, gradient, _ = value_and_gradient(lambda x: OwnBatchNorm.apply(x).sum(1), torch.ones(1, 3))
    assert gradient.tolist() == [[2.0, 2.0, 2.0]]
