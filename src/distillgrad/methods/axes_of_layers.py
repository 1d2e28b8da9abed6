"""The images' axes after a call of a torch function: layers, products, sums and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distillgrad.methods.axes_of_calls import MOVES, Call, Rule, name_of, rules
from distillgrad.methods.image_axes import Axes, Dimension, channels, holds_rows, matched, resized, size_of

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
"""Sizes that tell a function's dimensions apart in the shape of its result."""


def axes_after(call: Call) -> Sequence[Axes | None]:
    """Return the axes of each result of a call.

    Of a function without a rule a result keeps the axes of the arguments that have its shape.
    """
    return RULES.get(name_of(call.function), _elementwise)(call)


def _elementwise(call: Call) -> list[Axes | None]:
    operands = [axes for axes in map(call.known, _tensors((*call.args, *call.kwargs.values()))) if axes]
    return [matched(operands, each.shape) for each in call.results]


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, tuple | list):
        return [tensor for each in values for tensor in _tensors(each)]
    return []


def _by_shape(call: Call) -> list[Axes | None]:
    """Permutations and reductions: the same call on a shape of primes tells which dimension went where."""
    axes = call.axes(call.values)
    sizes = PRIMES[: len(axes)]
    probe = torch.empty(sizes, device="meta")
    tried = call.function(probe, *call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "input"})
    shape = tried.shape if isinstance(tried, Tensor) else tried[0].shape
    found = tuple(axes[sizes.index(size)] if size in sizes else channels(1) for size in shape)
    return [found for _ in call.results]


def _extremum(call: Call) -> list[Axes | None]:
    """The largest of two tensors, or along a dimension."""
    other = call.argument(1, "other")
    return list(_elementwise(call) if isinstance(other, Tensor) else _by_shape(call))


def _linear(call: Call) -> list[Axes | None]:
    return [(*call.axes(call.values)[:-1], channels(call.shape[-1]))]


def _product(call: Call) -> list[Axes | None]:
    first = call.argument(0, "input")
    second = call.argument(1, "other", call.kwargs.get("mat2"))
    return _product_of(call, first, second)


def _reversed_product(call: Call) -> list[Axes | None]:
    return _product_of(call, call.args[1], call.args[0])


def _added_product(call: Call) -> list[Axes | None]:
    return _product_of(call, call.args[1], call.args[2])


def _product_of(call: Call, first: Tensor, second: Tensor) -> list[Axes | None]:
    """``(…, a, b) @ (…, b, c)``: the sum over ``b`` is a pooling of what it was."""
    left, right = call.axes(first), call.axes(second)
    if len(left) < 2 or len(right) < 2:
        kept = left[:-1] if len(right) < 2 else (*right[:-2], right[-1])
        return [kept]
    batch = matched([left[:-2], right[:-2]], call.shape[:-2]) or ()
    return [(*batch, left[-2], right[-1])]


def _attention(call: Call) -> list[Axes | None]:
    query, value = call.axes(call.argument(0, "query")), call.axes(call.argument(2, "value"))
    batch = matched([query[:-2], value[:-2]], call.shape[:-2])
    return [None if batch is None else (*batch, query[-2], channels(call.shape[-1]))]


def _multi_head_attention(call: Call) -> list[Axes | None]:
    query, key = call.axes(call.argument(0, "query")), call.axes(call.argument(1, "key"))
    found: list[Axes | None] = [(*query[:-2], _rows(query[-2], key[-2]), channels(call.shape[-1]))]
    weights = [tuple(channels(size) for size in each.shape) for each in call.results[1:]]
    return [*found, *weights]


def _rows(query: Dimension, key: Dimension) -> Dimension:
    """Return the rows of a query, which is a parameter repeated where tokens are pooled."""
    return query if any(part.kind != "channels" for part in query) else key


def _einsum(call: Call) -> list[Axes | None]:
    equation = str(call.argument(0, "equation")).replace(" ", "")
    operands = call.args[1] if len(call.args) == 2 and not isinstance(call.args[1], Tensor) else call.args[1:]
    if "..." in equation or "->" not in equation:
        return [None]
    inputs, output = equation.split("->")
    meaning: dict[str, Dimension] = {}
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        for letter, dimension in zip(letters, call.axes(operand), strict=True):
            if letter not in meaning or not any(part.kind != "channels" for part in meaning[letter]):
                meaning[letter] = dimension
    return [tuple(meaning[letter] for letter in output)]


def _convolved(call: Call) -> list[Axes | None]:
    """Convolutions: maps of other channels, and another size.

    Rows whose weights differ, as in a mixture of experts, are convolved as groups of channels of one row.
    """
    axes, weight = call.axes(call.values), call.argument(1, "weight")
    n = weight.ndim - 2
    inner, n_channels = axes[-n - 1], call.shape[-n - 1]
    if holds_rows(inner):
        n_rows = inner[0].size
        if inner[0].kind != "rows" or inner[0].length != n_rows or _groups(call) % n_rows:
            return [None]
        found = [*axes[: -n - 1], (inner[0], *channels(n_channels // n_rows))]
    else:
        found = [*axes[: -n - 1], channels(n_channels)]
    for place in range(-n, 0):
        dimension, size = axes[place], call.shape[place]
        kept = weight.shape[place] == 1 and size == size_of(dimension)
        new = dimension if kept else resized(dimension, size)
        if new is None:
            return [None]
        found.append(new)
    return [tuple(found)]


def _groups(call: Call) -> int:
    groups: int = call.argument(8 if name_of(call.function) == "convolution" else 6, "groups", 1)
    return groups


def _rescaled(call: Call) -> list[Axes | None]:
    """Pooling and interpolation: the last two dimensions have another size, channels may have."""
    axes = call.axes(call.values)
    found: list[Axes | None] = []
    for result in call.results:
        new = [
            dimension if size == size_of(dimension) else resized(dimension, size)
            for dimension, size in zip(axes, result.shape, strict=True)
        ]
        found.append(None if None in new else tuple(each for each in new if each is not None))
    return found


def _pooled(call: Call) -> list[Axes | None]:
    """Adaptive pooling: a grid of the head's own, whatever the images' was."""
    axes = call.axes(call.values)
    n = 1 if "1d" in name_of(call.function) else 2
    return [(*axes[:-n], *(channels(size) for size in each.shape[-n:])) for each in call.results]


RULES: dict[str, Rule] = {
    **MOVES,
    **rules(_by_shape, "permute transpose swapaxes swapdims movedim moveaxis t T mT H mH adjoint"),
    **rules(_by_shape, "mean sum amax amin logsumexp prod var std norm nanmean nansum"),
    **rules(_by_shape, "linalg_vector_norm linalg_norm vector_norm var_mean std_mean"),
    **rules(_extremum, "max min"),
    **rules(_linear, "linear"),
    **rules(_product, "matmul mm bmm __matmul__"),
    **rules(_reversed_product, "__rmatmul__"),
    **rules(_added_product, "addmm baddbmm"),
    **rules(_einsum, "einsum"),
    **rules(_attention, "scaled_dot_product_attention"),
    **rules(_multi_head_attention, "multi_head_attention_forward"),
    **rules(_convolved, "conv1d conv2d conv3d convolution deform_conv2d"),
    **rules(_convolved, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **rules(_rescaled, "max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d fractional_max_pool2d"),
    **rules(_rescaled, "max_pool1d avg_pool1d interpolate upsample pixel_shuffle pixel_unshuffle"),
    **rules(_rescaled, "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d"),
    **rules(_pooled, "adaptive_avg_pool1d adaptive_max_pool1d adaptive_avg_pool2d adaptive_max_pool2d"),
    **rules(_pooled, "_adaptive_avg_pool2d"),
}
