"""The places of FullGrad's terms in the image: maps, channels first or last, and tokens of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor
from torch.autograd.graph import Node

from distillgrad.core.observation import Operation, operation_of

Axis: TypeAlias = Literal["first", "last"] | None
"""The place of a term's channels: after the rows, at the end, or unknown."""
Grid: TypeAlias = tuple[int, ...]

MAPPED = frozenset(
    """
    convolution _convolution mkldnn_convolution native_batch_norm native_group_norm cudnn_batch_norm
    max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d
    upsample_nearest2d upsample_bilinear2d
    """.split()  # noqa: SIM905
)
"""Operations whose output is a map ``(N, C, …)``, channels first."""
CHANNELS_LAST = frozenset(("addmm", "native_layer_norm"))
"""Operations that add a bias along the last axis."""
MOST_PREFIX_TOKENS = 8
"""Class, distillation and register tokens before those of the grid."""


@dataclass(frozen=True)
class Term:
    """A bias times the score's gradient by it, in the shape of what it is added to."""

    values: Tensor
    axis: Axis


class Grids:
    """The resolutions of the maps that one pass computes of ``(N, C, …)`` images, seen at its operations."""

    def __init__(self, images: Tensor) -> None:
        self.n_rows = len(images)
        self.n_dimensions = images.ndim
        self._image: Grid = tuple(images.shape[2:])
        self._sizes: dict[Grid, None] = {self._image: None}
        self._unflattened: dict[Node, Grid] = {}

    def see(self, operation: Operation) -> None:
        """Remember the resolution of the maps that an operation takes, and how it views what it takes."""
        if operation.name in ("view", "_unsafe_view") and operation.tensors[0].grad_fn is not None:
            self._unflattened[operation.tensors[0].grad_fn] = tuple(operation.arguments["size"])
        for each in operation.tensors:
            if each.ndim != self.n_dimensions or len(each) != self.n_rows or not operation.varies(each):
                continue
            if each.grad_fn is not None and operation_of(each.grad_fn) in MAPPED:
                self._sizes[tuple(each.shape[2:])] = None
            elif operation.name == "native_layer_norm" and len(operation.arguments["normalized_shape"]) == 1:
                self._add_if_like_image(tuple(each.shape[1:-1]))

    def _add_if_like_image(self, size: Grid) -> None:
        """Add a size unless its sides' ratio is another than the image's, as that of heads by tokens."""
        longest = max(self._image)
        if all(
            abs(size[0] * side - of * self._image[0]) <= longest
            for of, side in zip(size, self._image, strict=True)
        ):
            self._sizes[size] = None

    def unflattened(self, values: Tensor, node: Node) -> Tensor:
        """Return what an operation adds as it is viewed next: a linear layer computes on flattened rows."""
        shape = self._unflattened.get(node, ())
        if (
            values.ndim != 2
            or not shape
            or shape[-1] != values.shape[-1]
            or math.prod(shape) != values.numel()
        ):
            return values
        return values.view(shape)

    def placed(self, term: Term) -> Tensor | None:
        """Return a term as maps ``(N, C, …)``; ``None`` if its values have no place in the image."""
        values = term.values
        if len(values) == 1 and values.ndim == self.n_dimensions and values.shape[1] % self.n_rows == 0:
            # Instance norm works on one row, with the channels of all.
            values = values.view(self.n_rows, -1, *values.shape[2:])
        if len(values) != self.n_rows:
            return None
        if values.ndim == self.n_dimensions:
            if term.axis == "first" or (term.axis is None and tuple(values.shape[2:]) in self._sizes):
                return values
            return values.movedim(-1, 1) if tuple(values.shape[1:-1]) in self._sizes else None
        return self._folded(values) if values.ndim == 3 and self.n_dimensions == 4 else None

    def _folded(self, values: Tensor) -> Tensor | None:
        """Return tokens ``(N, prefix + h·w, C)``, or ``(N, C, h·w)``, as maps."""
        n_tokens, last = values.shape[1:]
        fitting = [size for size in self._sizes if 0 <= n_tokens - size[0] * size[1] <= MOST_PREFIX_TOKENS]
        if fitting:
            height, width = max(fitting, key=lambda size: size[0] * size[1])
            of_grid = values[:, n_tokens - height * width :]
            return of_grid.transpose(1, 2).reshape(len(values), last, height, width)
        for height, width in self._sizes:
            if height * width == last:
                return values.reshape(len(values), n_tokens, height, width)
        return None


def axis_of(operation: Operation) -> Axis:
    """Return where the channels lie in what an operation returns, if it tells."""
    if operation.name in MAPPED:
        return "first"
    return "last" if operation.name in CHANNELS_LAST else None
