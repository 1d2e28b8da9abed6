"""The meaning of each dimension of a tensor for its images: rows, height, width, or channels.

A dimension is a sequence of axes, or of parts of them, slowest first: ``(N, h·w, K)`` holds (rows), (height,
width), (channels), and windows ``(N·h/7·w/7, 7·7, K)`` hold (rows, height by 7, width by 7), (height
within 7, width within 7), (channels). So a grid is found again whatever it was cut into.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

Kind: TypeAlias = Literal["rows", "colours", "height", "width", "channels", "tokens"]


class Part(NamedTuple):
    """Every ``stride``-th of an axis of ``length``, so that ``size`` of them remain.

    ``"colours"`` are the image's own channels, ``"channels"`` all that no place can be told of. ``"tokens"``
    are a grid, ``inner``, from ``start`` on, among others such as a class token.
    """

    kind: Kind
    size: int
    stride: int = 1
    length: int = 0
    start: int = 0
    inner: tuple[Part, ...] = ()


Dimension: TypeAlias = tuple[Part, ...]
Axes: TypeAlias = tuple[Dimension, ...]
"""The dimensions of one tensor."""


def image_axes(shape: Sequence[int]) -> Axes:
    """Return the axes of images ``(N, C, H, W)``."""
    kinds: tuple[Kind, ...] = ("rows", "colours", "height", "width")
    return tuple(whole(kind, size) for kind, size in zip(kinds, shape, strict=True))


def whole(kind: Kind, size: int) -> Dimension:
    """Return a dimension that is one axis."""
    return (Part(kind, size, 1, size),)


def channels(size: int) -> Dimension:
    """Return a dimension of which no place in the image can be told."""
    return whole("channels", size)


def size_of(dimension: Dimension) -> int:
    """Return the number of values along a dimension."""
    return math.prod(part.size for part in dimension)


def tells_place(dimension: Dimension) -> bool:
    """Return whether a part of height or width lies in the dimension."""
    return any(part.kind in ("height", "width", "tokens") for part in dimension)


def resized(dimension: Dimension, size: int) -> Dimension | None:
    """Return height or width after a convolution or pooling along it; ``None`` if it is a mixture of axes."""
    kinds = {part.kind for part in dimension}
    if kinds in ({"height"}, {"width"}):
        return whole(kinds.pop(), size)
    return None if tells_place(dimension) else channels(size)


def part_of(dimension: Dimension, start: int, stop: int, step: int = 1) -> Dimension:
    """Return what ``dimension[start:stop:step]`` still is: fewer places, or tokens around all of a grid."""
    size = len(range(start, stop, step))
    if size == size_of(dimension) and step == 1:
        return dimension
    if {part.kind for part in dimension} in ({"height"}, {"width"}) and size > 1:
        return whole(dimension[0].kind, size)
    if len(dimension) == 1 and dimension[0].kind == "tokens" and step == 1:
        first, inner = dimension[0].start, dimension[0].inner
        if start <= first and first + size_of(inner) <= stop:
            return among_others(inner, first - start, size)
    return channels(size)


def among_others(grid: Dimension, start: int, size: int) -> Dimension:
    """Return a dimension of ``size`` in which the grid begins at ``start``."""
    return grid if size == size_of(grid) else (Part("tokens", size, 1, size, start, grid),)


def holds_rows(dimension: Dimension) -> bool:
    """Return whether a part of the rows lies in the dimension."""
    return any(part.kind == "rows" for part in dimension)


def joined(dimensions: Sequence[Dimension]) -> Dimension | None:
    """Return a concatenation along these; ``None`` if several of them tell places."""
    placed = [dimension for dimension in dimensions if tells_place(dimension)]
    total = sum(map(size_of, dimensions))
    if not placed:
        return channels(total)
    if len(placed) > 1:
        return None
    before = sum(map(size_of, dimensions[: dimensions.index(placed[0])]))
    if len(placed[0]) == 1 and placed[0][0].kind == "tokens":
        return among_others(placed[0][0].inner, before + placed[0][0].start, total)
    return among_others(placed[0], before, total)


def matched(operands: Sequence[Axes], shape: Sequence[int]) -> Axes | None:
    """Return the axes of an elementwise result; ``None`` if no operand has its shape or broadcasts to it.

    Where operands differ, the one that knows of its place is right: a layer over the tokens loses it, and
    the sum with what went around the layer has it.
    """
    known = [axes for axes in operands if _broadcasts(axes, shape)]
    if not known:
        return None
    result = []
    for place in range(-len(shape), 0):
        here = [
            axes[place]
            for axes in known
            if len(axes) >= -place and size_of(axes[place]) == shape[place] and axes[place]
        ]
        telling = [each for each in here if any(part.kind != "channels" for part in each)]
        result.append((telling or here or [channels(shape[place])])[0])
    return tuple(result)


def _broadcasts(axes: Axes, shape: Sequence[int]) -> bool:
    sizes = [size_of(dimension) for dimension in axes]
    aligned = zip(reversed(sizes), reversed(shape), strict=False)
    return len(sizes) <= len(shape) and all(size in (1, whole) for size, whole in aligned)


def regrouped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes after a reshape; ``None`` if it cuts through them.

    A batch's only row has no place among the values that tells where it went: a dimension left empty is its.
    """
    rest = [part for dimension in axes for part in dimension][::-1]
    result: list[Dimension] = []
    for size in shape:
        if rest and _is_single(rest[-1]) and () in result:
            result[result.index(())] = (rest.pop(),)
        taken: list[Part] = []
        n = 1
        if size == 1 and rest and rest[-1].size == 1:
            taken.append(rest.pop())
        while n < size:
            if not rest or size % n:
                return None
            part, wanted = rest.pop(), size // n
            if wanted % part.size:
                if part.size % wanted or part.kind == "tokens":
                    return None
                finer = part.size // wanted
                rest.append(part._replace(size=finer))
                part = part._replace(size=wanted, stride=part.stride * finer)
            taken.append(part)
            n *= part.size
        result.append(_merged(taken))
    if rest and result:
        result[-1] = _merged([*result[-1], *reversed(rest)])
    return tuple(result)


def _is_single(part: Part) -> bool:
    return part.kind == "rows" and part.length == 1


def _merged(parts: list[Part]) -> Dimension:
    """Return the parts with those in one that follow each other in the axis that they are of."""
    result: list[Part] = []
    for part in parts:
        if part.kind == "channels" and part.size == 1:
            continue
        last = result[-1] if result else None
        if last is None or last.kind != part.kind or part.kind == "tokens":
            result.append(part)
        elif part.kind == "channels":
            result[-1] = channels(last.size * part.size)[0]
        elif last.length == part.length and last.stride == part.stride * part.size:
            result[-1] = part._replace(size=last.size * part.size)
        else:
            result.append(part)
    return tuple(result)


class Layout(NamedTuple):
    """The places of rows, channels, height and width of feature maps in a tensor taken apart."""

    rows: list[int]
    channels: list[int]
    height: list[int]
    width: list[int]
    grid: tuple[int, int]
    has_others: bool  # tokens that are no place, such as a class token


def layout_of(axes: Axes) -> Layout | None:
    """Return how feature maps are to be read; ``None`` where these axes are none.

    Rows, height and width must be whole, and in dimensions of their own. Where the channels hold the finest
    part of height and width, as after a patch was merged into them, the rest of these is the grid.
    """
    places: dict[Kind, list[tuple[int, Part]]] = {"rows": [], "height": [], "width": []}
    mixed: list[tuple[int, Part]] = []
    n = 0
    for dimension in axes:
        parts = [inner for part in dimension for inner in (part.inner or (part,))]
        own = all(part.kind in places for part in parts if part.size > 1)
        for part in parts:
            if part.kind == "colours":
                return None
            if part.kind in places and (own or part.size == 1):
                places[part.kind].append((n, part))
            else:
                mixed.append((n, part))
            n += 1
    ordered = {kind: sorted(each, key=lambda at: -at[1].stride) for kind, each in places.items()}
    finest = {kind: _finest([part for _, part in each]) for kind, each in ordered.items()}
    if any(
        stride is None or any(part.kind == kind and part.stride * part.size > stride for _, part in mixed)
        for kind, stride in finest.items()
    ):
        return None
    height, width = (math.prod(part.size for part in _parts(ordered[kind])) for kind in ("height", "width"))
    if finest["rows"] != 1:
        return None
    others = any(part.kind == "tokens" for dimension in axes for part in dimension)
    rows, rises, runs = ([at for at, _ in ordered[kind]] for kind in ("rows", "height", "width"))
    return Layout(rows, [at for at, _ in mixed], rises, runs, (height, width), others)


def _parts(places: list[tuple[int, Part]]) -> list[Part]:
    return [part for _, part in places]


def _finest(parts: list[Part]) -> int | None:
    """Return the stride down to which an axis is whole; ``None`` if a part is missing, or there twice."""
    reach = parts[0].length if parts else None
    for part in parts:
        if part.stride * part.size != reach:
            return None
        reach = part.stride
    return reach


def folded(values: Tensor, axes: Axes, layout: Layout) -> Tensor:
    """Return maps ``(N, K, h, w)`` of a tensor that has these axes; tokens that are no place are left out."""
    parts = [part for dimension in axes for part in dimension]
    apart = values.reshape([part.size for part in parts])
    for place in reversed(range(len(parts))):
        part = parts[place]
        if part.inner:
            apart = apart.narrow(place, part.start, size_of(part.inner))
            sizes = (inner.size for inner in part.inner)
            apart = apart.reshape(*apart.shape[:place], *sizes, *apart.shape[place + 1 :])
    order = (*layout.rows, *layout.channels, *layout.height, *layout.width)
    n_rows = math.prod(apart.shape[place] for place in layout.rows)
    return apart.permute(order).reshape(n_rows, -1, *layout.grid)
