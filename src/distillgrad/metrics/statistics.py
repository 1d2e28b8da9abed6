"""Statistics of a metric's per-sample values: means with their uncertainty, methods compared in pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import InputError, ParameterError, UnknownNameError

Better: TypeAlias = Literal["higher", "lower"]
Values: TypeAlias = NDArray[np.float64]

SIGNIFICANCE = 0.05
CHUNK = 2**20
"""Numbers that are drawn at a time: 8 MB, whatever the number of samples."""
ROUNDING = 1e-12
"""Sums of the same numbers in another order differ by less than this share of their magnitude."""


@dataclass(frozen=True)
class Interval:
    """A mean over samples and its bootstrap interval.

    Attributes:
        mean: NaN without samples.
        low, high: The interval's ends; NaN with fewer than two samples, which say nothing of a spread.
        n: The samples that count.
        n_missing: Those left out, because their value is NaN or infinite.
    """

    mean: float
    low: float
    high: float
    n: int
    n_missing: int


@dataclass(frozen=True)
class Difference:
    """The difference of a method from the one that it is compared to, sample by sample.

    Attributes:
        interval: Of the method's value minus the other's, over the samples where both have one.
        p_value: Of the sign-flip test that there is no difference; NaN without a common sample.
        p_adjusted: The same after Holm's correction for the number of methods.
    """

    interval: Interval
    p_value: float
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """The verdict: the adjusted p-value is below 0.05; never, where it is undefined."""
        return self.p_adjusted < SIGNIFICANCE


@dataclass(frozen=True)
class Comparison:
    """A comparison of methods in order of their mean, each with the best, or with a reference.

    Attributes:
        means: By method, over all the samples that it has a value for.
        ranking: From the best mean to the worst; equal ones in the order they were given in, methods
            without a value last.
        reference: What the others are compared to: the best, if no other was asked for.
        differences: By method, all but the reference.
    """

    means: dict[str, Interval]
    ranking: tuple[str, ...]
    reference: str
    differences: dict[str, Difference]

    @property
    def best(self) -> str:
        return self.ranking[0]


def bootstrap_mean(
    values: NDArray[Any], *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the mean of per-sample values with its percentile bootstrap interval.

    Samples are drawn with replacement. Shifting and scaling the values shifts and scales the interval.

    Args:
        values: ``(B,)``; NaN and infinity count as missing.
        level: The share of such intervals that should contain the true mean. With fewer than some 20
            samples the percentile bootstrap falls short of it: its intervals are then too narrow.
        n_resamples: Means that are drawn.
        seed: The same seed gives the same interval.
    Raises:
        InputError: values that are no ``(B,)`` numbers.
        ParameterError: ``level`` outside (0, 1), ``n_resamples`` or ``seed`` out of range.
    Cost: B·n_resamples random numbers, memory of some 8 MB.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; the percentile interval.
    """
    _check_parameters(level, n_resamples, seed, "n_resamples")
    return _interval(_checked_values(values, "values"), level, n_resamples, seed)


def compare(
    values: Mapping[str, NDArray[Any]],
    *,
    better: Better,
    reference: str | None = None,
    level: float = 0.95,
    n_resamples: int = 10_000,
    n_flips: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare methods by a metric's values on the same samples: which is best, and is it more than luck.

    The test flips the signs of the paired differences, which changes nothing if neither method is better.
    All 2^B flips are gone through where that is no more than ``n_flips``, so that small p-values are exact;
    otherwise ``p = (count + 1) / (n_flips + 1)``. A method's numbers do not depend on the others present,
    but for Holm's correction and for who the best is.

    The best is chosen on the samples that then judge it, which favours it: among ten methods that are all
    equal, some other was called significantly worse in 14 % of 600 simulations, not in 5 %. Where that
    matters, name a ``reference`` beforehand.

    Args:
        values: By method, ``(B,)``, the same samples in the same order; NaN and infinity are missing.
        better: ``"higher"`` or ``"lower"`` values.
        reference: The method that the others are compared to, instead of the best.
        level: Of the intervals.
        n_resamples: Of the bootstrap.
        n_flips: Of the test.
        seed: The same seed gives the same numbers.
    Raises:
        InputError: no methods, or values of another shape.
        UnknownNameError: ``better`` or ``reference`` is none of the names.
        ParameterError: as for :func:`bootstrap_mean`.
    Cost: per method two bootstraps and B·n_flips random bits.
    Source: Fisher 1935, "The Design of Experiments", §21; Phipson and Smyth 2010 for the p-value;
        Holm 1979.
    """
    _check_parameters(level, n_resamples, seed, "n_resamples")
    _check_parameters(level, n_flips, seed, "n_flips")
    if better not in ("higher", "lower"):
        raise UnknownNameError("direction", str(better), ("higher", "lower"))
    columns = {name: _checked_values(each, f"the values of {name}") for name, each in values.items()}
    if not columns:
        raise InputError("there is nothing to compare: values holds no method")
    lengths = {name: len(each) for name, each in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"methods are compared on the same samples, but their numbers differ: {lengths}")
    if reference is not None and reference not in columns:
        raise UnknownNameError("method", reference, columns)

    means = {name: _interval(each, level, n_resamples, seed) for name, each in columns.items()}
    sign = -1 if better == "higher" else 1
    ranking = tuple(sorted(columns, key=lambda name: (not means[name].n, sign * means[name].mean)))
    chosen = ranking[0] if reference is None else reference
    intervals, p_values = {}, {}
    for name in ranking:
        if name != chosen:
            differences = columns[name] - columns[chosen]
            intervals[name] = _interval(differences, level, n_resamples, seed)
            p_values[name] = sign_flip_p_value(differences, n_flips=n_flips, seed=seed)
    adjusted = holm(p_values)
    return Comparison(
        means,
        ranking,
        chosen,
        {name: Difference(intervals[name], p_values[name], adjusted[name]) for name in intervals},
    )


def sign_flip_p_value(differences: NDArray[Any], *, n_flips: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value that paired differences ``(B,)`` are symmetric about 0."""
    differences = _checked_values(differences, "differences")
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if not n:
        return math.nan
    total = differences.sum()
    # Flips that leave the magnitude of the sum as it is must count as equal, whatever their rounding.
    least = abs(total) - ROUNDING * np.abs(differences).sum()
    exact = n < 60 and 2**n <= n_flips
    bits = _every_subset(n) if exact else _random_subsets(n, n_flips, seed)
    count = sum(int((np.abs(total - 2 * (chunk @ differences)) >= least).sum()) for chunk in bits)
    return count / 2**n if exact else (count + 1) / (n_flips + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return adjusted p-values: the i-th smallest of m, times m − i + 1, at least its predecessor, at most 1.

    NaN stays NaN and is no part of m.
    """
    defined = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted = dict.fromkeys(p_values, math.nan)
    highest = 0.0
    for place, (p, name) in enumerate(defined):
        highest = max(highest, min(1.0, p * (len(defined) - place)))
        adjusted[name] = highest
    return adjusted


def _interval(values: Values, level: float, n_resamples: int, seed: int) -> Interval:
    """Return the interval of checked values: NaN is the only kind of missing."""
    present = values[~np.isnan(values)]
    n, n_missing = len(present), len(values) - len(present)
    if n < 2:
        return Interval(float(present[0]) if n else math.nan, math.nan, math.nan, n, n_missing)
    mean = float(present.mean())
    generator = np.random.default_rng(seed)
    deviations = present - mean
    means = [deviations[generator.integers(0, n, (rows, n))].mean(1) for rows in _chunks(n_resamples, n)]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(mean, mean + float(low), mean + float(high), n, n_missing)


def _chunks(total: int, width: int) -> Iterator[int]:
    """Return how many rows of ``width`` numbers to draw at a time, ``total`` in all."""
    step = max(1, CHUNK // width)
    for start in range(0, total, step):
        yield min(step, total - start)


def _every_subset(n: int) -> Iterator[Values]:
    """Return all subsets of n things as rows of zeros and ones."""
    for start in range(0, 2**n, CHUNK // 64):
        numbers = np.arange(start, min(start + CHUNK // 64, 2**n))[:, None]
        yield ((numbers >> np.arange(n)) & 1).astype(np.float64)


def _random_subsets(n: int, n_subsets: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    for rows in _chunks(n_subsets, n):
        # Whole words of 32 bits for each row: so cutting into chunks throws none away.
        drawn = np.frombuffer(generator.bytes(rows * 4 * math.ceil(n / 32)), np.uint8).reshape(rows, -1)
        yield np.unpackbits(drawn, axis=1, count=n).astype(np.float64)


def _checked_values(values: NDArray[Any], name: str) -> Values:
    """Return the values as float64, with NaN for all that is missing."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be numbers, one per sample (B,); got {array.shape} {array.dtype}")
    array = array.astype(np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def _check_parameters(level: float, number: int, seed: int, name: str) -> None:
    if not 0 < level < 1:
        raise ParameterError(f"level must lie between 0 and 1, like 0.95, not {level}")
    if number < 1:
        raise ParameterError(f"{name} must be at least 1, not {number}")
    if seed < 0:
        raise ParameterError(f"seed must be at least 0, not {seed}")
