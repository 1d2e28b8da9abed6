"""Linear layers whose weights are laid out for the processor once, and multiplied by oneDNN."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from distillgrad.core.acceleration.prepacked_layer import PrepackedLayer, frozen_on_a_cpu, has

OPERATIONS = ("_reorder_linear_weight", "_linear_pointwise")
WORTHWHILE = 2**22
"""Fewer multiplications of weights take no longer than the calls of Python around them."""


def prepackable(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Return whether a :class:`PrepackedLinear` can stand in its place."""
    return type(module) is nn.Linear and frozen_on_a_cpu(module) and has(*OPERATIONS)


class PrepackedLinear(PrepackedLayer, nn.Linear):
    """A frozen linear layer whose weights are laid out once.

    In float32 torch multiplies matrices by MKL, which takes twice as long on some processors; in bfloat16
    by oneDNN, too, but lays the weights out in every call.
    """

    torch_layer = nn.Linear

    @classmethod
    def made_of(cls, layer: nn.Linear) -> PrepackedLinear:
        """Return the layer itself, turned into one."""
        layer.__class__ = cls
        made = cast("PrepackedLinear", layer)
        made.prepacked, made.prepacked_from = {}, None
        return made

    def forward(self, input: Tensor) -> Tensor:
        """Return what ``nn.Linear`` does, in the type of autocast where that is on."""
        if torch.compiler.is_compiling() or input.ndim < 2 or input.shape[-1] != self.in_features:
            return super().forward(input)
        dtype = self.type_for(input)
        if dtype is None or input.numel() * self.out_features < WORTHWHILE:
            return super().forward(input)
        # oneDNN returns a view of the product of matrices, into which a model must be able to write.
        rows = input.to(dtype).flatten(0, -2)
        if input.requires_grad and torch.is_grad_enabled():
            output: Tensor = _Product.apply(rows, self)  # type: ignore[no-untyped-call]
        else:
            output = self.multiply(rows)
        return output.view(*input.shape[:-1], self.out_features)

    def multiply(self, input: Tensor) -> Tensor:
        """Return the output, in the type of ``input``."""
        weight = self.weights_for("output", input.dtype, None, torch.ops.mkldnn._reorder_linear_weight)
        return _multiplied(input, weight, None if self.bias is None else self.bias.to(input.dtype))

    def gradient(self, upstream: Tensor) -> Tensor:
        """Return the gradient by the inputs from that by the output; itself without a graph."""
        prepack = torch.ops.mkldnn._reorder_linear_weight
        weight = self.weights_for(
            "gradient", upstream.dtype, None, lambda weight: prepack(weight.t().contiguous())
        )
        return _multiplied(upstream, weight, None)


def _multiplied(input: Tensor, prepacked: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(input, prepacked, bias, "none", [], "")
    return product


class _Product(torch.autograd.Function):
    """A matrix product with a gradient by its input alone, for which nothing need be kept."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: PrepackedLinear) -> Tensor:
        ctx.layer = layer
        return layer.multiply(input)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (upstream,) = gradients
        if torch.is_grad_enabled() and upstream.requires_grad:  # a gradient of the gradient
            return upstream @ ctx.layer.weight.to(upstream.dtype), None
        return ctx.layer.gradient(upstream), None


def faster_in_float32() -> bool:
    """Check that oneDNN is to multiply float32: where it has AVX-512, which MKL uses on some processors only.

    Not timed: it decides the last bits of every map, and runs should repeat.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
