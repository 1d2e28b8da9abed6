"""What becomes of the images' axes in each call of a torch function: rules by the function's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from distillgrad.methods.image_axes import (
    Axes,
    Dimension,
    channels,
    joined,
    matched,
    part_of,
    regrouped,
    resized,
    size_of,
    tells_place,
)

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
"""Sizes that tell a function's dimensions apart in the shape of its result."""


@dataclass(frozen=True)
class Call:
    """A call of a torch function, what it returned, and what is known of the tensors that it got."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: Sequence[Tensor]
    known: Callable[[Any], Axes | None]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by place or by name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def axes(self, values: Any) -> Axes:
        """Return the axes of an argument; all channels, if it does not depend on the images."""
        return self.known(values) or tuple(channels(size) for size in values.shape)

    @property
    def values(self) -> Tensor:
        """The first argument."""
        values: Tensor = self.argument(0, "input")
        return values

    @property
    def shape(self) -> torch.Size:
        """That of the first result."""
        return self.results[0].shape


Rule: TypeAlias = Callable[[Call], Sequence[Axes | None]]
"""Returns the axes of each result, ``None`` where a grid cannot be followed."""


def name_of(function: Any) -> str:
    """Return ``"relu"`` for ``torch.relu``, ``Tensor.relu_`` and ``aten.relu.default``."""
    name: str = getattr(function, "__name__", repr(function))
    if name == "__get__":
        name = function.__self__.__name__
    name = name.split(".")[0]
    return name if name.startswith("__") else name.removesuffix("_")


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


def _reshaped(call: Call) -> list[Axes | None]:
    return [regrouped(call.axes(call.values), call.shape)]


def _by_shape(call: Call) -> list[Axes | None]:
    """Permutations and reductions: the same call on a shape of primes tells which dimension went where."""
    axes = call.axes(call.values)
    sizes = PRIMES[: len(axes)]
    probe = torch.empty(sizes, device="meta")
    tried = call.function(probe, *call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "input"})
    shape = tried.shape if isinstance(tried, Tensor) else tried[0].shape
    found = tuple(axes[sizes.index(size)] if size in sizes else channels(1) for size in shape)
    return [found for _ in call.results]


def _indexed(call: Call) -> list[Axes | None]:
    axes, index = call.axes(call.values), call.argument(1, "index")
    indices = list(index) if isinstance(index, tuple) else [index]
    n_used = sum(each is not None and each is not ... for each in indices)
    if not any(each is ... for each in indices):
        indices.append(...)
    at = next(place for place, each in enumerate(indices) if each is ...)
    indices[at : at + 1] = [slice(None)] * (len(axes) - n_used)
    n_lists = sum(isinstance(each, list | Tensor) for each in indices)
    rest = iter(axes)
    found: list[Dimension] = []
    for each in indices:
        if each is None:
            found.append(channels(1))
            continue
        dimension = next(rest, ())
        if isinstance(each, slice):
            found.append(part_of(dimension, *each.indices(size_of(dimension))))
        elif not isinstance(each, int):
            if n_lists > 1 or tells_place(dimension) or len(call.shape) != len(axes):
                return [None]
            found.append(channels(call.shape[len(found)]))
    return [tuple(found)]


def _unbound(call: Call) -> list[Axes | None]:
    axes, place = call.axes(call.values), call.argument(1, "dim", 0)
    place %= len(axes)
    return [axes[:place] + axes[place + 1 :]] * len(call.results)


def _narrowed(call: Call) -> list[Axes | None]:
    axes, place = call.axes(call.values), call.argument(1, "dim")
    start = int(call.argument(2, "start")) % size_of(axes[place])
    return [_replaced(axes, place, part_of(axes[place], start, start + call.shape[place]))]


def _split(call: Call) -> list[Axes | None]:
    axes, place = call.axes(call.values), call.argument(2, "dim", 0)
    found: list[Axes | None] = []
    start = 0
    for each in call.results:
        stop = start + each.shape[place]
        found.append(_replaced(axes, place, part_of(axes[place], start, stop)))
        start = stop
    return found


def _replaced(axes: Axes, place: int, dimension: Dimension) -> Axes:
    place %= len(axes)
    return (*axes[:place], dimension, *axes[place + 1 :])


def _concatenated(call: Call) -> list[Axes | None]:
    operands = [call.axes(each) for each in call.argument(0, "tensors")]
    place = call.argument(1, "dim", 0) % len(call.shape)
    operands = [axes for axes in operands if len(axes) == len(call.shape)]
    along = joined([axes[place] for axes in operands])
    if along is None:
        return [None]
    # Along the other dimensions all have one size.
    others = matched([_replaced(axes, place, ()) for axes in operands], call.shape)
    return [None if others is None else _replaced(others, place, along)]


def _stacked(call: Call) -> list[Axes | None]:
    tensors = call.argument(0, "tensors")
    place = call.argument(1, "dim", 0) % len(call.shape)
    axes = matched([call.axes(each) for each in tensors], tensors[0].shape)
    return [None if axes is None else (*axes[:place], channels(len(tensors)), *axes[place:])]


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
    """Convolutions: maps of other channels, and another size."""
    axes, weight = call.axes(call.values), call.argument(1, "weight")
    n = weight.ndim - 2
    found = [*axes[: -n - 1], channels(call.shape[-n - 1])]
    for place in range(-n, 0):
        dimension, size = axes[place], call.shape[place]
        kept = weight.shape[place] == 1 and size == size_of(dimension)
        new = dimension if kept else resized(dimension, size)
        if new is None:
            return [None]
        found.append(new)
    return [tuple(found)]


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


def _padded(call: Call) -> list[Axes | None]:
    axes = list(call.axes(call.values))
    pad = list(call.argument(1, "pad"))
    for place, before in enumerate(pad[::2], start=1):
        dimension, size = axes[-place], call.shape[-place]
        if size != size_of(dimension):
            new = resized(dimension, size)
            if new is None and before >= 0 and len(dimension) >= 1:
                new = joined([channels(before), dimension, channels(size - before - size_of(dimension))])
            if new is None:
                return [None]
            axes[-place] = new
    return [tuple(axes)]


def _pooled(call: Call) -> list[Axes | None]:
    """Adaptive pooling: a grid of the head's own, whatever the images' was."""
    axes = call.axes(call.values)
    n = 1 if "1d" in name_of(call.function) else 2
    return [(*axes[:-n], *(channels(size) for size in each.shape[-n:])) for each in call.results]


def _reordered(call: Call) -> list[Axes | None]:
    """An order of its own along one or several dimensions."""
    axes, along = call.axes(call.values), call.argument(1, "dims", call.kwargs.get("dim"))
    places = along if isinstance(along, tuple | list) else [*call.args[1:]] or [along]
    for place in places:
        if not isinstance(place, int):
            continue
        if tells_place(axes[place]):
            return [None]
        axes = _replaced(axes, place, channels(call.shape[place]))
    return [axes]


def _scrambled(call: Call) -> list[Axes | None]:
    """Functions that put values where no rule follows them."""
    return [None] * len(call.results)


def _extremum(call: Call) -> list[Axes | None]:
    """The largest of two tensors, or along a dimension."""
    other = call.argument(1, "other")
    return list(_elementwise(call) if isinstance(other, Tensor) else _by_shape(call))


def _rules(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_rules(
        _reshaped,
        "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze ravel _unsafe_view",
    ),
    **_rules(_by_shape, "permute transpose swapaxes swapdims movedim moveaxis t T mT H mH adjoint"),
    **_rules(_by_shape, "mean sum amax amin logsumexp prod var std norm nanmean nansum"),
    **_rules(_by_shape, "linalg_vector_norm linalg_norm vector_norm var_mean std_mean"),
    **_rules(_extremum, "max min"),
    **_rules(_indexed, "__getitem__"),
    **_rules(_unbound, "unbind select"),
    **_rules(_narrowed, "narrow"),
    **_rules(_split, "chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split"),
    **_rules(_concatenated, "cat concat concatenate"),
    **_rules(_stacked, "stack"),
    **_rules(_linear, "linear"),
    **_rules(_product, "matmul mm bmm __matmul__"),
    **_rules(_reversed_product, "__rmatmul__"),
    **_rules(_added_product, "addmm baddbmm"),
    **_rules(_einsum, "einsum"),
    **_rules(_attention, "scaled_dot_product_attention"),
    **_rules(_multi_head_attention, "multi_head_attention_forward"),
    **_rules(_convolved, "conv1d conv2d conv3d convolution deform_conv2d"),
    **_rules(_convolved, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_rules(_rescaled, "max_pool2d max_pool2d_with_indices avg_pool2d lp_pool2d fractional_max_pool2d"),
    **_rules(_rescaled, "max_pool1d avg_pool1d interpolate upsample pixel_shuffle pixel_unshuffle"),
    **_rules(_rescaled, "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d"),
    **_rules(_pooled, "adaptive_avg_pool1d adaptive_max_pool1d adaptive_avg_pool2d adaptive_max_pool2d"),
    **_rules(_pooled, "_adaptive_avg_pool2d"),
    **_rules(_padded, "pad constant_pad_nd"),
    **_rules(_reordered, "flip index_select"),
    **_rules(_scrambled, "gather take_along_dim sort topk fold unfold rot90 fliplr flipud grid_sample"),
}
