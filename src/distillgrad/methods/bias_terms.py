"""The bias that each operation of a forward pass adds, for FullGrad's decomposition of the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from distillgrad.core.observation import Operation, places_in
from distillgrad.core.operations import operation_name

AT_ZERO = frozenset(
    """
    addbmm addcdiv addcmul addmv addr baddbmm cat constant_pad_nd copy fill index_add index_copy
    index_put lerp masked_fill masked_scatter scatter scatter_add select_scatter slice_scatter stack
    """.split()  # noqa: SIM905
)
"""Operations that are affine in what depends on the image: their bias is their value where that is zero."""
BROADCAST = frozenset(("add", "sub", "rsub", "subtract", "where"))
"""Those of them whose value at zero needs but one zero, for it is broadcast."""
SATURATING = frozenset(
    "clamp clamp_max clamp_min fmax fmin hardtanh maximum minimum threshold".split()  # noqa: SIM905
)
"""Piecewise-linear operations that are the identity, or a constant, their bias there."""
BATCH_NORMS = frozenset(
    """
    cudnn_batch_norm miopen_batch_norm native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training
    """.split()  # noqa: SIM905
)


def bias_of(operation: Operation, n_rows: int) -> Tensor | str | None:
    """Return what an operation adds, in a shape that broadcasts to its output; ``None`` for nothing.

    Where that cannot be told, return what is wrong, in words.
    """
    rule = RULES.get(operation.name)
    bias = None if rule is None else rule(operation, n_rows)
    if not isinstance(bias, Tensor):
        return bias
    # A mask's −∞ is no bias: what it hides has no gradient.
    bias = torch.nan_to_num(bias.detach(), nan=0.0, posinf=0.0, neginf=0.0)
    return bias if bool(bias.any()) else None


def background_of(operation: Operation) -> Tensor | None:
    """Return the constants among which an operation writes in place, zero where it writes."""
    written = next(iter(operation.tensors))
    base = written._base if operation.in_place and written._is_view() else None
    if base is None or operation.varies(base):
        return None
    constants = base.detach().flatten()
    constants = constants.index_fill(0, places_in(base, written), 0).view(base.shape)
    return constants if bool(constants.any()) else None


def _by_channel(operation: Operation, shift: Tensor | None, values: Tensor) -> Tensor | None:
    """Return a shift by channel in the shape of the channels' place; ``None`` if it depends on the image."""
    if shift is None or operation.varies(shift):
        return None
    return shift.reshape(-1, *(1,) * (values.ndim - 2))


def _convolution(operation: Operation, _: int) -> Tensor | None:
    return _by_channel(operation, operation.arguments["bias"], operation.arguments["weight"])


def _group_norm(operation: Operation, _: int) -> Tensor | None:
    return _by_channel(operation, operation.arguments["bias"], operation.arguments["input"])


def _layer_norm(operation: Operation, _: int) -> Tensor | None:
    bias: Tensor | None = operation.arguments["bias"]
    return None if operation.varies(bias) else bias


def _addmm(operation: Operation, n_rows: int) -> Tensor | None:
    added: Tensor = operation.arguments["self"]
    if operation.varies(added):
        return _value_at_zero(operation, n_rows)
    scaled: Tensor = added * operation.arguments["beta"]
    return scaled


def _batch_norm(operation: Operation, n_rows: int) -> Tensor | str | None:
    """Return ``β − μγ/√(σ²+ε)``, shaped for the channels' place; β for the statistics of one row."""
    found = operation.arguments
    values, scale, shift = found["input"], found["weight"], found["bias"]
    mean, variance = found.get("running_mean"), found.get("running_var")
    if found.get("training", False) or mean is None or variance is None:
        # Instance norm is computed as that of one row, whose channels are those of all rows.
        if n_rows > 1 and (len(values) > 1 or values.shape[1] % n_rows):
            return "batch norm by the statistics of the batch"
        return _by_channel(operation, shift, values)
    bias = -mean * torch.rsqrt(variance + found["eps" if "eps" in found else "epsilon"])
    bias = bias if scale is None else bias * scale
    return _by_channel(operation, bias if shift is None else bias + shift, values)


def _sum(operation: Operation, n_rows: int) -> Tensor | None:
    tensors = operation.tensors
    return None if all(map(operation.varies, tensors)) and len(tensors) > 1 else _at(operation, _one_zero)


def _value_at_zero(operation: Operation, _: int) -> Tensor | None:
    found = operation.arguments
    if operation.name in ("cat", "stack") and all(map(operation.varies, operation.tensors)):
        return None
    if operation.name == "constant_pad_nd" and found["value"] == 0:
        return None
    return _at(operation, torch.zeros_like)


def _one_zero(like: Tensor) -> Tensor:
    return like.new_zeros((1,) * like.ndim)


def _saturated(operation: Operation, _: int) -> Tensor | None:
    varying = [each for each in operation.tensors if operation.varies(each)]
    if len(varying) != 1:
        return None
    value = _at(operation, lambda each: each)
    return torch.where(value == varying[0], torch.zeros_like(value), value)


def _product(operation: Operation, n_rows: int) -> str | None:
    """Return what is wrong with a matrix product in which each row of the batch meets every other."""
    left, right = operation.tensors
    if n_rows > 1 and left.shape[0] == right.shape[1] == n_rows and all(map(operation.varies, (left, right))):
        return "product of the batch's rows by each other (give internal_batch_size=1)"
    return None


def _hardsigmoid(operation: Operation, _: int) -> Tensor:
    values = operation.arguments["self"].detach()
    value = torch.nn.functional.hardsigmoid(values)
    return torch.where(values.abs() < 3, torch.full_like(value, 0.5), value)


def _softshrink(operation: Operation, _: int) -> Tensor:
    values = operation.arguments["self"].detach()
    value = torch.nn.functional.softshrink(values, operation.arguments["lambd"])
    return torch.where(value == 0, value, value - values)


def _at(operation: Operation, place: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the operation's value where ``place`` stands for each tensor that varies; it writes nowhere."""

    def placed(value: Any) -> Any:
        if operation.varies(value):
            return place(value.detach())
        if isinstance(value, tuple | list):
            return type(value)(map(placed, value))
        return value.detach() if isinstance(value, Tensor) else value

    arguments, named = operation.call
    value: Tensor = getattr(torch.ops.aten, operation.name)(
        *map(placed, arguments), **{name: placed(each) for name, each in named.items()}
    )
    return value


RULES: dict[str, Callable[[Operation, int], Tensor | str | None]] = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution"), _convolution),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **dict.fromkeys(AT_ZERO, _value_at_zero),
    **dict.fromkeys(BROADCAST, _sum),
    **dict.fromkeys(SATURATING, _saturated),
    "addmm": _addmm,
    "hardsigmoid": _hardsigmoid,
    "mm": _product,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "softshrink": _softshrink,
}
"""The function that returns an operation's bias, by the operation."""


class AttentionInSteps(TorchFunctionMode):
    """Attention whose logits get a bias, computed step by step, so that the sum is seen."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if operation_name(func) == "scaled_dot_product_attention":
            mask = kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            if isinstance(mask, Tensor) and mask.is_floating_point():
                return torch._scaled_dot_product_attention_math(*args, **kwargs)[0]
        return func(*args, **kwargs)
