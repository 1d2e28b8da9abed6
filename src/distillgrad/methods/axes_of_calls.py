"""The images' axes after a call that puts values elsewhere: rules by the function's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Size, Tensor
from torch.nn import functional

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
    def shape(self) -> Size:
        """The shape of the first result."""
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


def _reshaped(call: Call) -> list[Axes | None]:
    return [regrouped(call.axes(call.values), call.shape)]


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
    return [replaced(axes, place, part_of(axes[place], start, start + call.shape[place]))]


def _split(call: Call) -> list[Axes | None]:
    axes, place = call.axes(call.values), call.argument(2, "dim", 0)
    found: list[Axes | None] = []
    start = 0
    for each in call.results:
        stop = start + each.shape[place]
        found.append(replaced(axes, place, part_of(axes[place], start, stop)))
        start = stop
    return found


def replaced(axes: Axes, place: int, dimension: Dimension) -> Axes:
    """Return axes with another dimension at a place."""
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
    others = matched([replaced(axes, place, ()) for axes in operands], call.shape)
    return [None if others is None else replaced(others, place, along)]


def _stacked(call: Call) -> list[Axes | None]:
    tensors = call.argument(0, "tensors")
    place = call.argument(1, "dim", 0) % len(call.shape)
    axes = matched([call.axes(each) for each in tensors], tensors[0].shape)
    return [None if axes is None else (*axes[:place], channels(len(tensors)), *axes[place:])]


def _padded(call: Call) -> list[Axes | None]:
    axes = list(call.axes(call.values))
    pad = list(call.argument(1, "pad"))
    for place, before in enumerate(pad[::2], start=1):
        dimension, size = axes[-place], call.shape[-place]
        if size != size_of(dimension):
            new = resized(dimension, size)
            if new is None and before >= 0 and len(dimension) >= 1:
                after = size - before - size_of(dimension)
                new = joined([channels(before), dimension, channels(after)]) if after >= 0 else None
            if new is None:
                return [None]
            axes[-place] = new
    return [tuple(axes)]


def _unfolded(call: Call) -> list[Axes | None]:
    """Patches, which may overlap: along one dimension, or of ``functional.unfold`` as tokens."""
    axes, shape = call.axes(call.values), call.shape
    if call.function is not functional.unfold:
        place, size, step = (
            call.argument(at, name) for at, name in enumerate(("dimension", "size", "step"), 1)
        )
        place %= len(axes)
        apart = regrouped((axes[place],), (shape[place], size)) if size == step else None
        patches, within = apart or (resized(axes[place], shape[place]), channels(size))
        return [None if patches is None else (*replaced(axes, place, patches), within)]
    names = ("kernel_size", "dilation", "padding", "stride")
    given = [call.argument(at, name, at not in (1, 3)) for at, name in enumerate(names, 1)]
    sizes = []
    for place in (0, 1):
        kernel, dilation, padding, stride = (int(n if isinstance(n, int) else n[place]) for n in given)
        reach = call.values.shape[place - 2] + 2 * padding - dilation * (kernel - 1) - 1
        sizes.append(reach // stride + 1)
    height, width = (resized(axes[place - 2], size) for place, size in enumerate(sizes))
    if height is None or width is None:
        return [None]
    return [(*axes[:-3], channels(shape[-2]), height + width)]


def _reordered(call: Call) -> list[Axes | None]:
    """An order of its own along one or several dimensions."""
    axes, along = call.axes(call.values), call.argument(1, "dims", call.kwargs.get("dim"))
    places = along if isinstance(along, tuple | list) else [*call.args[1:]] or [along]
    for place in places:
        if not isinstance(place, int):
            continue
        if tells_place(axes[place]):
            return [None]
        axes = replaced(axes, place, channels(call.shape[place]))
    return [axes]


def _scrambled(call: Call) -> list[Axes | None]:
    """Functions that put values where no rule follows them."""
    return [None] * len(call.results)


def rules(rule: Rule, names: str) -> dict[str, Rule]:
    """Return a rule by each of the names, which stand in one string."""
    return dict.fromkeys(names.split(), rule)


MOVES: dict[str, Rule] = {
    **rules(
        _reshaped,
        "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze ravel _unsafe_view",
    ),
    **rules(_indexed, "__getitem__"),
    **rules(_unbound, "unbind select"),
    **rules(_narrowed, "narrow"),
    **rules(_split, "chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split"),
    **rules(_concatenated, "cat concat concatenate"),
    **rules(_stacked, "stack"),
    **rules(_padded, "pad constant_pad_nd"),
    **rules(_unfolded, "unfold"),
    **rules(_reordered, "flip index_select"),
    **rules(_scrambled, "gather take_along_dim sort topk fold rot90 fliplr flipud grid_sample"),
}
