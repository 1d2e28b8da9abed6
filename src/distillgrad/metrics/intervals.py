"""The mean of per-sample values, the interval that it lies in, and how far it is from zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillgrad.metrics import student
from distillgrad.metrics.resampling import counts
from distillgrad.metrics.samples import (
    UNBOUNDED,
    Groups,
    Values,
    by_group,
    check_bounds,
    check_parameters,
    checked_values,
    group_places,
)

ENOUGH = 16
"""Samples from which on the intervals of the simulation keep what they promise, however skewed the values."""
STRETCH_OF_FEW, STRETCH_OF_SKEWED = 8, 6
ROUNDING = 1e-12
"""Sums of the same numbers in another order differ by less than this share of their magnitude."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples and its interval.

    Attributes:
        mean: NaN without samples.
        low, high: The interval's ends; NaN with fewer than two samples, which say nothing of a spread, and
            both the mean where all values are the same, which say nothing of it either.
        n: The samples that count; of grouped ones the groups.
        n_missing: Those left out, because their value is NaN or infinite.
    """

    mean: float
    low: float
    high: float
    n: int
    n_missing: int

    @property
    def few(self) -> bool:
        """The warning that samples are too few for the interval to hold where values are skewed: below 16."""
        return self.n < ENOUGH


@dataclass(frozen=True)
class StudentisedMean:
    """A mean with the distribution of its studentised deviation in resamples.

    Attributes:
        mean: Of the values.
        error: Its standard error.
        spread: What deviations are divided by: the standard deviation, and that of a mean of n such values.
        resampled: The deviations of the resamples' means, each divided by the resample's own spread; sorted.
        n: The number of values.
        stretch: How many times less the tails of ``resampled`` hold than they would of enough samples.
    """

    mean: float
    error: float
    spread: float
    resampled: Values
    n: int
    stretch: float

    def ends(self, level: float) -> tuple[float, float]:
        """Return the ends of the interval of the mean."""
        n_resamples = len(self.resampled)
        place = math.floor((1 - level) / 2 / self.stretch * (n_resamples + 1))
        place = min(max(place, 1), (n_resamples + 1) // 2)
        least, most = self.resampled[place - 1], self.resampled[n_resamples - place]
        student_t = student.quantile(level, self.n - 1) * self.error
        return (
            self.mean - max(float(most) * self.spread, student_t),
            self.mean + max(-float(least) * self.spread, student_t),
        )

    def p_value(self) -> float:
        """Return the two-sided p-value that the true mean is 0: one minus the level that just reaches it."""
        found = self.mean / self.spread
        below = np.searchsorted(self.resampled, found * (1 + math.copysign(ROUNDING, found)), "right")
        above = len(self.resampled) - np.searchsorted(
            self.resampled, found * (1 - math.copysign(ROUNDING, found)), "left"
        )
        tail = (min(int(below), int(above)) + 1) / (len(self.resampled) + 1)
        student_p = 1 - student.within(abs(self.mean) / self.error, self.n - 1)
        return min(1.0, max(2 * tail * self.stretch, student_p))


def bootstrap_mean(
    values: NDArray[Any],
    *,
    groups: Groups | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the mean of per-sample values with its studentised bootstrap interval (bootstrap-t).

    It is as skewed as the values are, and never narrower than Student's. Shifting and scaling the values
    shifts and scales it. How often such intervals hold the true mean, ``make statistics-table`` measures:
    from 16 samples on at least 92 % of those of LeRF, MoRF and their differences do; with 6 or 8 samples
    fewer, where values are skewed. A rare value that is in no sample is in no interval.

    Args:
        values: ``(B,)``; NaN and infinity count as missing.
        groups: By sample the photograph that it is a view of: views are averaged first, and count as one.
        bounds: The lowest and the highest possible value, which the interval does not leave.
        level: The share of such intervals that should contain the true mean.
        n_resamples: Means that are drawn.
        seed: The same seed gives the same interval.
    Raises:
        InputError: values that are no ``(B,)`` numbers, or out of bounds; not a group for each of them.
        ParameterError: ``level`` outside (0, 1), ``n_resamples`` or ``seed`` out of range.
    Cost: B·n_resamples random numbers, memory of some 16 MB.
    Source: Efron 1979; Hall 1992, "The Bootstrap and Edgeworth Expansion", §3.5. Ours: the stretch.
    """
    check_parameters(level, n_resamples, seed, "n_resamples")
    column = checked_values(values, "values")
    check_bounds(bounds, {"values": column})
    return interval_of(by_group(column, group_places(groups, len(column))), bounds, level, n_resamples, seed)


def interval_of(
    values: Values, bounds: tuple[float, float], level: float, n_resamples: int, seed: int
) -> Interval:
    """Return the interval of checked values: NaN is the only kind of missing."""
    present = values[~np.isnan(values)]
    n, n_missing = len(present), len(values) - len(present)
    if not n:
        return Interval(math.nan, math.nan, math.nan, n, n_missing)
    mean = float(present.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, n_missing)
    studentised = studentised_mean(present, n_resamples, seed)
    low, high = (mean, mean) if studentised is None else studentised.ends(level)
    return Interval(mean, max(low, min(mean, bounds[0])), min(high, max(mean, bounds[1])), n, n_missing)


def studentised_mean(present: Values, n_resamples: int, seed: int) -> StudentisedMean | None:
    """Return the mean of at least two values and its studentised deviations; ``None`` if all are the same.

    Few samples, and skewed ones above all, show less of their distribution's tail than there is. So the
    tails are stretched: what is asked of a tail is divided by exp(8 / n + 6 |skewness| / √n), which was
    chosen by simulation, and goes to 1 with many samples.
    """
    n, mean = len(present), float(present.mean())
    deviations = present - mean
    scale = float(np.abs(deviations).max())
    if scale <= ROUNDING * float(np.abs(present).max()):
        return None
    units = deviations / scale
    units -= units.mean()
    variance = float(units @ units) / (n - 1)
    sums = np.concatenate([each @ np.stack([units, units**2], 1) for each in counts(n, n_resamples, seed)])
    means = sums[:, 0] / n
    variances = np.maximum(sums[:, 1] / n - means**2, 0) * n / (n - 1)
    # A resample of one value again and again has no spread: that of a mean of n keeps it from infinity.
    resampled = np.sort(means / np.sqrt(variances + variance / n))
    skewness = float(np.mean(units**3)) / float(np.mean(units**2)) ** 1.5
    return StudentisedMean(
        mean,
        scale * math.sqrt(variance / n),
        scale * math.sqrt(variance * (1 + 1 / n)),
        resampled,
        n,
        math.exp(STRETCH_OF_FEW / n + STRETCH_OF_SKEWED * abs(skewness) / math.sqrt(n)),
    )
