"""SAMP: the gradient along paths that move the pixels with the most to gain first."""

from __future__ import annotations

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, value_and_gradient
from distillgrad.core.ranking import order_statistic
from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import ALONG_PATH

DIRECTIONS = {"both": (True, False), "deletion": (True,), "insertion": (False,)}
"""The direction: pixels go, from the input to the baseline, or come."""


class SAMP(GradientMethod):
    """The gradient integrated from ``b`` to ``x`` and back, most salient pixels first: the mean of both.

    At each point the pixels are ranked by what the rest of their way promises, ``Σ_c g ⊙ (x − b)``; the
    first s go to their end, and gain ``g ⊙ Δx``. g is the gradient with momentum, ``g ← λg + (1−λ)∇f``. If
    the step were longer than η in L1, all of its pixels go the same part of their way (the infinitesimal
    constraint). Every row has its own paths. Signed, in logit units.

    Sums to ``f(x) − f(b)`` for a linear model, and for a smooth one as n_steps grows. With ReLUs it stays
    above, however many steps: a path chosen by the gradient before each step runs along kinks, from both
    sides of them.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Steps of one path at most, at least 1. Half of them, rounded up, would do to move all pixels,
            s each; the other half, with η = ‖x − b‖₁ / ⌊n_steps/2⌋, covers the whole distance.
        momentum: λ in [0, 1).
        infinitesimal: Whether η holds; without it every step moves the n_steps-th part of the pixels.
        direction: ``"both"``, ``"deletion"`` (x to b) or ``"insertion"`` (b to x).

    Raises:
        ParameterError: a parameter outside its range.
    Cost: at most n_steps forward and backward passes for each direction, of the rows still on their way, and
        a forward pass where the target is the prediction; the memory of one pass, whatever n_steps.
    Source: Zhang et al. 2024, "Path choice matters for clear attribution in path methods" (ICLR): SAMP++,
        SAMP with ``momentum=0, infinitesimal=False``; details by the program of Kim et al. 2026, who
        compare with it. Departures: s and η from n_steps (the defaults are ours); one baseline, where
        insertion began at a blurred image; a mean of the directions, not their sum; the logit.
    """

    signed = True
    cost = "up to 2·n_steps gradient passes (50)"
    source = "Zhang et al. 2024"
    multiplies_by_inputs = True

    def __init__(
        self,
        model: Model,
        n_steps: int = 25,
        momentum: float = 0.5,
        infinitesimal: bool = True,
        direction: str = "both",
    ) -> None:
        super().__init__(model)
        if not 0 <= momentum < 1:
            raise ParameterError(f"momentum must lie in [0, 1), not {momentum}")
        if direction not in DIRECTIONS:
            raise UnknownNameError("direction", str(direction), DIRECTIONS)
        self.n_steps = whole_number("n_steps", n_steps)
        self.momentum = momentum
        self.infinitesimal = infinitesimal
        self.direction = direction

    @property
    def n_passes(self) -> int:
        """The most passes: one for each step in each direction."""
        return self.n_steps * len(DIRECTIONS[self.direction])

    @property
    def _zero_means(self) -> str:
        return ALONG_PATH

    def _attribute(self, batch: Batch) -> Tensor:
        batch = with_target(self.forward_func, batch)
        total = torch.zeros_like(batch.difference)
        for deleting in DIRECTIONS[self.direction]:
            self._follow(batch, deleting, total)
        return total.div_(len(DIRECTIONS[self.direction]))

    def _follow(self, batch: Batch, deleting: bool, total: Tensor) -> None:
        """Add what each row gains on one of its paths."""
        difference, rows = batch.difference, torch.arange(len(batch), device=batch.inputs.device)
        length = by_pixel(difference.abs())
        n_chosen, bound = self._reach(length.shape[1])
        covered = torch.where(length > 0, 0, torch.ones_like(length))
        slope = None
        for _ in range(self.n_steps):
            going = (covered < 1).any(1)
            if not bool(going.all()):
                rows, difference, length, covered = (
                    each[going] for each in (rows, difference, length, covered)
                )
                slope = None if slope is None else slope[going]
            if not len(rows):
                return
            chosen = batch.rows(rows)
            present = 1 - covered if deleting else covered
            inputs = chosen.shifted(difference * to_features(present, difference))
            _, gradient, _ = value_and_gradient(self.forward_func, inputs, chosen.target, chosen.extra)
            gradient = gradient.to(total)
            slope = gradient if slope is None else slope.lerp(gradient, 1 - self.momentum)
            gain = slope * difference  # of the whole way, whichever its direction
            step = salient_step(covered, by_pixel(gain), length, n_chosen, bound)
            total.index_add_(0, rows, gain * to_features(step, gain))
            covered = covered + step

    def _reach(self, n_pixels: int) -> tuple[int, float]:
        """Return s, and η as a share of ``‖x − b‖₁``, with which no path takes more than n_steps.

        A step either brings s pixels to their end or covers η; there are at most so many of each kind.
        """
        n_bound = self.n_steps // 2 if self.infinitesimal else 0
        return -(-n_pixels // (self.n_steps - n_bound)), 1 / n_bound if n_bound else 1.0


def salient_step(covered: Tensor, gain: Tensor, length: Tensor, n_chosen: int, bound: float) -> Tensor:
    """Return the share of its whole way that each pixel goes in this step, all ``(N, P)``.

    The ``n_chosen`` pixels with the highest gain on the rest of their way, and those equal to the last of
    them, go to their end, or as far as ``bound`` of the row's length in L1 allows.
    """
    rest = 1 - covered
    promised = (gain * rest).masked_fill(rest <= 0, -torch.inf)
    step = torch.where(promised >= order_statistic(promised, promised.shape[1] - n_chosen), rest, 0)
    distance, limit = ((each * length).sum(1, keepdim=True) for each in (step, bound))
    return torch.where(distance > limit, step * (limit / distance), step)


def by_pixel(features: Tensor) -> Tensor:
    """Return ``(N, C, …)`` summed over channels, ``(N, P)``; of a table ``(N, d)`` each column is a pixel."""
    return features if features.ndim == 2 else features.sum(1).flatten(1)


def to_features(pixels: Tensor, like: Tensor) -> Tensor:
    """Return ``(N, P)`` so that it broadcasts over the channels of ``like``."""
    return pixels if like.ndim == 2 else pixels.view(len(pixels), 1, *like.shape[2:])
