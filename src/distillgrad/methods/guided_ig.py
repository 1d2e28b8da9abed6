"""Guided IG: the gradient along a path that moves the features with the lowest gradients first."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, value_and_gradient
from distillgrad.core.ranking import order_statistic
from distillgrad.errors import ParameterError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import ALONG_PATH
from distillgrad.methods.path import PathPoint, riemann_sum

CLOSE = 1e-9
"""Path lengths that differ by less, relatively and absolutely, are equal: the published tolerance."""


class GuidedIG(GradientMethod):
    """The gradient integrated along a path that moves the features with the lowest ``|∇f|`` first.

    Each step brings the path ``1/n_steps`` of the L1 distance nearer to the input; no feature is further
    than ``max_dist`` from where the straight path has it. Every row has its own path. Sums to
    ``f(x) − f(b)`` up to the error of the left Riemann sum.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Steps of the path, at least 1.
        fraction: Share of the features, by rank of ``|∇f|``, that move together; in (0, 1].
        max_dist: In [0, 1]: 0 is the straight path of Integrated Gradients, 1 sets no bound.

    Raises:
        ParameterError: a parameter outside its range.
    Cost: n_steps forward and backward passes, and a forward pass where the target is the prediction;
        some 1/fraction selections a step; the memory of one pass, whatever n_steps.
    Source: Kapishnikov et al. 2021, "Guided Integrated Gradients", with the bounded path of the authors'
        ``saliency`` package, whose values it gives in float64. Departure: for other inputs the path is
        kept in float32 instead of float64.
    """

    signed = True
    cost = "n_steps gradient passes (200)"
    source = "Kapishnikov et al. 2021"
    multiplies_by_inputs = True

    def __init__(
        self, model: Model, n_steps: int = 200, fraction: float = 0.25, max_dist: float = 0.02
    ) -> None:
        super().__init__(model)
        if not 0 < fraction <= 1:
            raise ParameterError(f"fraction must lie in (0, 1], not {fraction}")
        if not 0 <= max_dist <= 1:
            raise ParameterError(f"max_dist must lie in [0, 1], not {max_dist}")
        self.n_steps = whole_number("n_steps", n_steps)
        self.fraction = fraction
        self.max_dist = max_dist

    @property
    def n_passes(self) -> int:
        """One pass for each step of the path."""
        return self.n_steps

    @property
    def _zero_means(self) -> str:
        return ALONG_PATH

    def _attribute(self, batch: Batch) -> Tensor:
        batch = with_target(self.forward_func, batch)
        points = guided_path(self.forward_func, batch, self.n_steps, self.fraction, self.max_dist)
        return riemann_sum(points, batch.difference)


def guided_path(
    model: Model, batch: Batch, n_steps: int, fraction: float = 0.25, max_dist: float = 0.02
) -> Iterator[PathPoint]:
    """Yield the points of Guided IG's path; the parameters are those of :class:`GuidedIG`."""
    difference = batch.difference.flatten(1)
    length, direction = difference.abs(), difference.sign()
    covered = torch.zeros_like(length)
    for step in range(n_steps):
        inputs = batch.shifted((covered * direction).view_as(batch.inputs))
        score, gradient, _ = value_and_gradient(model, inputs, batch.target, batch.extra)
        magnitude = gradient.flatten(1).to(length).abs()
        moved = advanced(covered, length, magnitude, (step + 1) / n_steps, fraction, max_dist)
        way = ((moved - covered) * direction).view_as(batch.inputs)
        yield PathPoint(score.to(length), gradient.to(length), way)
        covered = moved


def advanced(
    covered: Tensor, length: Tensor, magnitude: Tensor, alpha: float, fraction: float, max_dist: float
) -> Tensor:
    """Return the distance that each feature has covered after the step to ``alpha``, all ``(N, d)``.

    Laggards are pulled to ``alpha − max_dist``. Then, until the rows have come ``alpha`` of their whole
    length, the features of the lowest magnitude among those with room below ``alpha + max_dist`` use up
    that room, the last of them in equal shares of it.

    Args:
        covered: Where the features are, in [0, length].
        length: ``|x − b|``, the way of each.
        magnitude: ``|∇f|``.
    """
    last_chosen = int(fraction * (length.shape[1] - 1))  # as numpy's quantile takes the lower of two values
    highest = torch.finfo(magnitude.dtype).max
    top = length * min(alpha + max_dist, 1.0)
    covered = torch.maximum(covered, length * max(alpha - max_dist, 0.0))
    room = top - covered
    magnitude = magnitude.masked_fill(room <= 0, torch.inf)
    way, come = length.sum(1), covered.sum(1)
    gap = alpha * way - come
    gap = torch.where(gap > CLOSE * (way - come).clamp(min=1), gap, 0)
    while True:
        threshold = order_statistic(magnitude, last_chosen).clamp(max=highest)
        chosen = (magnitude <= threshold).to(room)
        reach = (room * chosen).sum(1)
        share = torch.where(reach > 0, gap / reach, 0).clamp(max=1)
        covered = covered.lerp(top, chosen * share[:, None])
        gap = torch.where((reach > 0) & (gap > reach), gap - reach, 0)
        if not bool(gap.any()):
            return covered
        room.mul_(1 - chosen)
        magnitude.masked_fill_(chosen.bool(), torch.inf)
