"""Gradients along a path from the baseline to the input: its points, the straight one, its Riemann sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, value_and_gradient


class PathPoint(NamedTuple):
    """A point of a path: the score there ``(N,)``, its gradient, and the way to the next point."""

    score: Tensor
    gradient: Tensor
    step: Tensor


def points_along(
    model: Model, batch: Batch, n_steps: int, kept: Callable[[float], Tensor]
) -> Iterator[PathPoint]:
    """Yield ``n_steps`` points of the path ``b + kept(α)``, at even steps of α from 0, without the input.

    Cost: a gradient pass for each; the memory of one.
    """
    here = kept(0.0)
    for step in range(n_steps):
        score, gradient, _ = value_and_gradient(model, batch.shifted(here), batch.target, batch.extra)
        there = kept((step + 1) / n_steps)
        yield PathPoint(score.to(here), gradient.to(here), there - here)
        here = there


def straight_path(model: Model, batch: Batch, n_steps: int) -> Iterator[PathPoint]:
    """Yield the points ``b + α(x − b)`` of Integrated Gradients, from the baseline."""
    difference = batch.difference
    return points_along(model, batch, n_steps, lambda alpha: alpha * difference)


def riemann_sum(points: Iterator[PathPoint], like: Tensor) -> Tensor:
    """Return ``Σ ∇f(xⱼ) ⊙ (xⱼ₊₁ − xⱼ)``: the left sum of the path's integral, in the dtype of ``like``."""
    total = torch.zeros_like(like)
    for point in points:
        total.addcmul_(point.gradient, point.step)
    return total
