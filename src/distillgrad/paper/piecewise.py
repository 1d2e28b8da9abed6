"""A ReLU network of two inputs, and its linear regions, exactly: polygons cut by every unit in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Points = NDArray[np.float64]

WEIGHTS: tuple[tuple[list[list[float]], list[float]], ...] = (
    ([[1, 0.5], [-0.5, 1], [1, -1], [0.25, 1]], [-1, -1, 0.5, 1]),
    ([[1, 0.5, 0.5, -0.5], [-0.5, 1, 1, 0.5], [1, 1, -0.5, 0.5]], [0.5, -0.25, -0.5]),
    ([[1, 1, -1]], [-1]),
)
"""Weights and biases of two hidden layers, of four and three units, and of the output. The network's value at
the origin is 0, so that it is linear without a constant in the origin's region. They are sums of quarters, so
that all of it is exact in float64."""


@dataclass(frozen=True)
class Region:
    """A polygon in which no unit changes its state, within the window.

    Attributes:
        pattern: The states of the hidden units, ``True`` for active.
        corners: The convex polygon's, ``(V, 2)``.
        gradient, intercept: The network is ``gradient·x + intercept`` here.
    """

    pattern: tuple[bool, ...]
    corners: Points
    gradient: Points
    intercept: float


def network() -> nn.Sequential:
    """Return the network, from ``(N, 2)`` to ``(N, 1)``, float64."""
    layers: list[nn.Module] = []
    for weights, biases in WEIGHTS:
        linear = nn.Linear(len(weights[0]), len(biases), dtype=torch.float64, device="cpu")
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weights, device="cpu"))
            linear.bias.copy_(torch.tensor(biases, device="cpu"))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def patterns(points: Tensor) -> Tensor:
    """Return the states of the hidden units at each point, bool ``(N, units)``."""
    states, values = [], points
    for layer in network():
        values = layer(values)
        if isinstance(layer, nn.ReLU):
            states.append(values > 0)
    return torch.cat(states, 1)


def linear_regions(half: float = 3.0) -> list[Region]:
    """Return all linear regions in the square ``[−half, half]²``, which they partition.

    Layer by layer: within a region a unit's input is affine, so it cuts the polygon along a line.
    """
    square = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    return list(_regions(square, (), np.eye(2), np.zeros(2), 0))


def _regions(
    corners: Points, pattern: tuple[bool, ...], slopes: Points, offsets: Points, layer: int
) -> Iterator[Region]:
    weights, biases = (np.array(each, float) for each in WEIGHTS[layer])
    slopes, offsets = weights @ slopes, weights @ offsets + biases
    if layer == len(WEIGHTS) - 1:
        yield Region(pattern, corners, slopes[0], float(offsets[0]))
        return
    pieces: list[tuple[Points, tuple[bool, ...]]] = [(corners, ())]
    for slope, offset in zip(slopes, offsets, strict=True):
        pieces = [
            (part, (*state, active))
            for piece, state in pieces
            for active, part in _cut(piece, slope, float(offset))
        ]
    for part, state in pieces:
        on = np.array(state, float)
        yield from _regions(part, (*pattern, *state), on[:, None] * slopes, on * offsets, layer + 1)


def _cut(corners: Points, slope: Points, offset: float) -> Iterator[tuple[bool, Points]]:
    """Yield the parts of a convex polygon where ``slope·x + offset`` is positive, and where it is not."""
    heights = corners @ slope + offset
    for active, sides in ((True, heights), (False, -heights)):
        kept = []
        for place, corner in enumerate(corners):
            after = (place + 1) % len(corners)
            if sides[place] >= 0:
                kept.append(corner)
            if sides[place] * sides[after] < 0:
                share = sides[place] / (sides[place] - sides[after])
                kept.append(corner + share * (corners[after] - corner))
        part = np.array(kept)
        if len(part) > 2 and area(part) > 1e-12:
            yield active, part


def area(corners: Points) -> float:
    """Return the area of a polygon ``(V, 2)``."""
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
