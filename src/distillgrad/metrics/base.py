"""The form of a metric: its input, its values, and the facts that it states."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from torch import Tensor, nn

from distillgrad.core.forward import Model
from distillgrad.metrics.removal import Baseline
from distillgrad.metrics.similarity import Attribute

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The shares that sensitivity-n removes."""


@dataclass(frozen=True)
class Protocol:
    """The choices that a metric leaves open; part of what a number means.

    Attributes:
        n_steps: Steps of the MoRF and LeRF curves.
        baseline: What removed pixels become.
        element: Remove single features instead of pixels (MoRF and LeRF).
        fractions, n_masks: Of sensitivity-n.
        sigmas: Strengths of the noise, in units of the model's inputs.
        seed: Of masks, noise and random parameters.
    """

    n_steps: int = 20
    baseline: Baseline = 0.0
    element: bool = False
    fractions: tuple[float, ...] = FRACTIONS
    n_masks: int = 100
    sigmas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    seed: int = 0


@dataclass(frozen=True)
class MetricInput:
    """A batch of images as several methods explain them: all that a metric may look at.

    Attributes:
        model: What was explained, as fast as it can be had.
        network: The same as the module whose parameters can be randomised.
        inputs: ``(B, C, H, W)``.
        target: The explained classes, ``(B,)``.
        attributions: By method, ``(B, C, H, W)`` or ``(B, 1, H, W)``.
        explainer: By method, from a model to the function that explains its inputs.
        masks: Where the object is, bool ``(B, H, W)``, if it is known.
    """

    model: Model
    network: nn.Module
    inputs: Tensor
    target: Tensor
    attributions: Mapping[str, Tensor]
    explainer: Mapping[str, Callable[[Model], Attribute]]
    masks: Tensor | None = None


@dataclass(frozen=True)
class Values:
    """A metric's values by method: a number per image, ``(B,)``, or along ``axis`` several, ``(B, A)``."""

    by_method: Mapping[str, Tensor]
    axis: tuple[float | str, ...] = field(default=())


Measurement: TypeAlias = Callable[
    [MetricInput, Protocol], "Values | Mapping[str, Values] | Mapping[str, Tensor]"
]
"""Computes a metric: its :class:`Values`, or without an axis the tensors by method. One that computes several
metrics in the same passes, and curves besides, returns :class:`Values` by their names."""


@dataclass(frozen=True)
class Axis:
    """The words of a chart of values along an axis: its title, and what stands below and beside it."""

    title: str
    below: str = ""
    beside: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: its facts, and what computes it.

        inked = Metric(
            better="lower",
            source="me",
            measurement=lambda given, _: {m: a.abs().mean((1, 2, 3)) for m, a in given.attributions.items()},
        )

    Attributes:
        better: Which direction is.
        source: Where it was published.
        measurement: Computes it; metrics that share their passes name the same one.
        cost: Per image and method, in words, for the default protocol.
        needs: ``"attributions"``; ``"method"``: explains again, other inputs or models; ``"masks"``.
        bounds: The lowest and the highest possible value, which no interval of its mean leaves.
        axis: The words of its chart, if it has several values per image.
        curves: The words of the charts of what the measurement returns besides its metrics, by name.
    """

    better: Literal["higher", "lower"]
    source: str
    measurement: Measurement
    cost: str = "not stated"
    needs: Literal["attributions", "method", "masks"] = "attributions"
    bounds: tuple[float, float] = (-math.inf, math.inf)
    axis: Axis | None = None
    curves: Mapping[str, Axis] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def arrow(self) -> str:
        """The direction that is better, as a sign."""
        return "↑" if self.better == "higher" else "↓"
