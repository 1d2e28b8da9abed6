"""Convolutions whose weights are laid out for the processor once, not again in every pass."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from distillgrad.core.acceleration.prepacked_layer import PrepackedLayer, frozen_on_a_cpu, has

HEAVY = 2**17
"""The fewest weights that are laid out for one row: fewer take no longer than the calls that save it."""
THIN = 4
"""The input channels up to which, as an image has colours, the usual gradient by the inputs is slow."""
FEW = 20_480
"""The values of a single float32 row up to which torch convolves without oneDNN, which is slow."""
OPERATIONS = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_reorder_convolution_transpose_weight",
    "_convolution_transpose_pointwise",
    "_get_mkldnn_serialized_md",
)


def prepackable(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a :class:`PrepackedConv2d` can stand in its place."""
    if type(module) is not nn.Conv2d:  # a subclass, such as a parametrised one, may do something else
        return False
    plain = module.padding_mode == "zeros" and not isinstance(module.padding, str) and module.groups == 1
    return plain and frozen_on_a_cpu(module) and has(*OPERATIONS)


def heavy(layer: nn.Conv2d) -> bool:
    """Return whether it pays also for any single row: many weights, or a slow gradient by the inputs."""
    return layer.weight.numel() >= HEAVY or _has_phases(layer)


def _has_phases(layer: nn.Conv2d) -> bool:
    """Return whether the gradient by few inputs, strides apart, is faster as the convolution that it is."""
    coarse = layer.stride[0] > 1 and layer.kernel_size[0] >= 4 and layer.dilation == (1, 1)
    if layer.in_channels > THIN or not coarse:
        return False
    return len({*layer.kernel_size}) == len({*layer.stride}) == len({*layer.padding}) == 1


class PrepackedConv2d(PrepackedLayer, nn.Conv2d):
    """A frozen convolution that keeps its weights as oneDNN multiplies them.

    oneDNN lays weights out in every call, forward and backward: for one image up to a third of the time. Here
    it is done when first needed, and again when the weights change, for inputs in channels_last. The gradient
    by an image that is convolved in strides is taken by :func:`phases`. Where it is torch's own, see
    :class:`~distillgrad.core.acceleration.prepacked_layer.PrepackedLayer`.

    Attributes:
        heavy: Whether it pays also for a single row, which else is torch's, unless that is slow.
        fuses_relu: Whether it computes the ReLU after it, too
            (:mod:`~distillgrad.core.acceleration.relu_fusion`). If its output does not say so, by an
            attribute ``rectified``, the ReLU is still to be computed.
    """

    torch_layer = nn.Conv2d
    heavy: bool
    fuses_relu: bool = False

    @classmethod
    def made_of(cls, layer: nn.Conv2d) -> PrepackedConv2d:
        """Return the layer itself, turned into one."""
        if isinstance(layer, cls):
            return layer
        layer.__class__ = cls
        made = cast("PrepackedConv2d", layer)
        made.prepacked, made.prepacked_from, made.heavy = {}, None, heavy(layer)
        return made

    def forward(self, input: Tensor) -> Tensor:
        """Return what ``nn.Conv2d`` does, in the type of autocast where that is on."""
        if torch.compiler.is_compiling():
            return super().forward(input)
        dtype = self.type_for(input)
        if dtype is None or input.ndim != 4:
            return self._by_torch(input)
        if len(input) == 1 and not self.heavy and not _slow_by_torch(input, dtype):
            return super().forward(input)
        if input.requires_grad and torch.is_grad_enabled():
            output: Tensor = _Convolution.apply(input.to(dtype), self)  # type: ignore[no-untyped-call]
        else:
            output = self.convolve(input.to(dtype))
        return self._marked(output)

    def _by_torch(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        return self._marked(functional.relu(output) if self.fuses_relu else output)

    def _marked(self, output: Tensor) -> Tensor:
        if self.fuses_relu:
            output.rectified = True  # type: ignore[attr-defined]
        return output

    def convolve(self, input: Tensor) -> Tensor:
        """Return the output, in the type of ``input``."""
        bias = None if self.bias is None else self.bias.to(input.dtype)
        if not input.is_contiguous(memory_format=torch.channels_last):
            plain: Tensor = self._conv_forward(input, self.weight.to(input.dtype), bias)
            return plain.relu_() if self.fuses_relu else plain
        geometry = self.padding, self.stride, self.dilation, self.groups
        prepack = torch.ops.mkldnn._reorder_convolution_weight
        weight = self.weights_for(
            "output", input.dtype, input.shape, lambda weight: prepack(weight, *geometry, input.shape)
        )
        convolve = torch.ops.mkldnn._convolution_pointwise.default
        then = "relu" if self.fuses_relu else "none"
        output: Tensor = convolve(input, weight, bias, *geometry, then, [], "")
        return output

    def gradient(self, upstream: Tensor, size: torch.Size) -> Tensor:
        """Return the gradient by inputs of ``size`` from that by the output; itself without a graph."""
        if _has_phases(self):
            return self._gradient_by_phases(upstream, size)
        if not upstream.is_contiguous(memory_format=torch.channels_last):
            return self.differentiable_gradient(upstream, size)
        places: Any = zip(size[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        # The last rows and columns that no stride reaches.
        rest = tuple((n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in places)
        geometry = self.padding, rest, self.stride, self.dilation, self.groups
        prepack = torch.ops.mkldnn._reorder_convolution_transpose_weight
        weight = self.weights_for(
            "gradient",
            upstream.dtype,
            upstream.shape,
            lambda weight: prepack(weight, *geometry, upstream.shape),
        )
        convolve = torch.ops.mkldnn._convolution_transpose_pointwise.default
        gradient: Tensor = convolve(upstream, weight, None, *geometry, "none", [], "")
        return gradient

    def differentiable_gradient(self, upstream: Tensor, size: torch.Size) -> Tensor:
        """Return the same gradient as torch has it, with a graph."""
        weight = self.weight.to(upstream.dtype)
        geometry = self.stride, self.padding, self.dilation, self.groups
        gradient: Tensor = conv2d_input(size, weight, upstream, *geometry)  # type: ignore[no-untyped-call]
        return gradient

    def _gradient_by_phases(self, upstream: Tensor, size: torch.Size) -> Tensor:
        stride, padding = self.stride[0], int(self.padding[0])
        weight = self.weights_for("phases", upstream.dtype, None, lambda weight: phases(weight, stride))
        by_phase = functional.conv2d(upstream, weight, padding=weight.shape[-1] - 1)
        n_rows, _, height, width = by_phase.shape
        apart = by_phase.view(n_rows, self.in_channels, stride, stride, height, width)
        whole = apart.permute(0, 1, 4, 2, 5, 3).reshape(n_rows, -1, height * stride, width * stride)
        # Negative padding cuts; what no stride reaches is zero.
        below, beyond = (padding + n - m for n, m in zip(size[2:], whole.shape[2:], strict=True))
        return functional.pad(whole, (-padding, beyond, -padding, below))


def _slow_by_torch(row: Tensor, dtype: torch.dtype) -> bool:
    few = dtype == torch.float32 and row.numel() <= FEW
    return few and row.is_contiguous(memory_format=torch.channels_last)


class FusedReLU(nn.ReLU):
    """A ReLU that has nothing to do for what a convolution has already rectified; made by
    :func:`~distillgrad.core.acceleration.relu_fusion.fuse_relus`.

    It stands where the ReLU stood, which may be called elsewhere, too.
    """

    torch_layer = nn.ReLU

    def forward(self, input: Tensor) -> Tensor:
        """Return what ``nn.ReLU`` does."""
        if getattr(input, "rectified", False):
            del input.rectified  # type: ignore[attr-defined]  # what is now written into it is to be seen
            return input
        return super().forward(input)


def phases(weight: Tensor, stride: int) -> Tensor:
    """Return the kernel ``(in·stride², out, t, t)`` of the gradient by the inputs, from ``(out, in, k, k)``.

    An input meets every ``stride``-th of the weights, beginning with the one at its place between strides: so
    all inputs at one place see one small kernel, ``t = ⌈k/stride⌉`` wide, and the gradient is a convolution
    of stride 1 whose output channels are these places, to be laid side by side.
    Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"
    """
    n_out, n_in, size, _ = weight.shape
    width = -(-size // stride)
    padded = functional.pad(weight, (0, stride * width - size) * 2)
    apart = padded.view(n_out, n_in, width, stride, width, stride)
    return apart.permute(1, 3, 5, 0, 2, 4).flip(4, 5).reshape(n_in * stride**2, n_out, width, width)


class _Convolution(torch.autograd.Function):
    """A convolution with a gradient by its input alone, of which only a rectified output need be kept."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: PrepackedConv2d) -> Tensor:
        ctx.size, ctx.layer = input.shape, layer
        ctx.channels_last = input.is_contiguous(memory_format=torch.channels_last)
        output = layer.convolve(input)
        if layer.fuses_relu:
            ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (upstream,) = gradients
        wanted = torch.is_grad_enabled() and upstream.requires_grad  # a gradient of the gradient
        if ctx.channels_last and not wanted:
            upstream = upstream.contiguous(memory_format=torch.channels_last)
        for output in ctx.saved_tensors:
            upstream = torch.ops.aten.threshold_backward(upstream, output, 0)
        by_inputs = ctx.layer.differentiable_gradient if wanted else ctx.layer.gradient
        return by_inputs(upstream, ctx.size), None
