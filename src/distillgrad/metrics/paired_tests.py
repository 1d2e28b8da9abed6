"""Tests of paired differences: p-values, how small they can be, and their correction for many."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import ParameterError
from distillgrad.metrics.intervals import ROUNDING, STRETCH_OF_FEW, studentised_mean
from distillgrad.metrics.resampling import every_subset, random_subsets
from distillgrad.metrics.samples import Values, checked_values

Key = TypeVar("Key")

SIGNIFICANCE = 0.05
DRAWS = 10_000


def difference_p_value(differences: Values, n_resamples: int, n_flips: int, seed: int) -> float:
    """Return the two-sided p-value that the mean of paired differences is 0; NaN without one.

    The larger of two: that of the sign flips, which is exact where differences are symmetric about 0 and far
    too small where they are skewed, and that of the studentised bootstrap, which follows the skewness.
    """
    present = differences[~np.isnan(differences)]
    flipped = sign_flip_p_value(present, n_flips=n_flips, seed=seed)
    if len(present) < 2:
        return flipped
    studentised = studentised_mean(present, n_resamples, seed)
    return flipped if studentised is None else max(flipped, studentised.p_value())


def sign_flip_p_value(differences: NDArray[Any], *, n_flips: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value that paired differences ``(B,)`` are symmetric about 0.

    Dividing by the standard error would change nothing: flips leave the sum of the squares as it is.
    """
    differences = checked_values(differences, "differences")
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if not n:
        return math.nan
    total = differences.sum()
    # Flips that leave the magnitude of the sum as it is must count as equal, whatever their rounding.
    least = abs(total) - ROUNDING * np.abs(differences).sum()
    exact = _all_flips(n, n_flips)
    bits = every_subset(n) if exact else random_subsets(n, n_flips, seed)
    count = sum(int((np.abs(total - 2 * (chunk @ differences)) >= least).sum()) for chunk in bits)
    return count / 2**n if exact else (count + 1) / (n_flips + 1)


def smallest_p_value(n: int, *, n_resamples: int = DRAWS, n_flips: int = DRAWS) -> float:
    """Return the smallest p-value that n differences can have, whatever they are; NaN without one."""
    if n < 1:
        return math.nan
    flipped = 2 / 2**n if _all_flips(n, n_flips) else 1 / (n_flips + 1)
    studentised = 2 * math.exp(STRETCH_OF_FEW / n) / (n_resamples + 1) if n > 1 else 0.0
    return min(1.0, max(flipped, studentised))


def images_needed(n_comparisons: int = 1) -> int:
    """Return how many images it takes for one of so many comparisons to be significant after correction.

    6 for one comparison, 8 for five, 10 for twenty. Whether it will be depends on what is measured.

    Raises:
        ParameterError: ``n_comparisons`` below 1.
    """
    if n_comparisons < 1:
        raise ParameterError(f"n_comparisons must be at least 1, not {n_comparisons}")
    draws, n = draws_for(n_comparisons), 1
    while n_comparisons * smallest_p_value(n, n_resamples=draws, n_flips=draws) >= SIGNIFICANCE:
        n += 1
    return n


def draws_for(n_comparisons: int) -> int:
    """Return how many resamples and flips tell p-values that are small enough for so many comparisons."""
    return max(DRAWS, 500 * n_comparisons)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Return adjusted p-values: the i-th smallest of m, times m − i + 1, at least its predecessor, at most 1.

    NaN stays NaN and is no part of m.
    """
    defined = sorted((name for name, p in p_values.items() if not math.isnan(p)), key=p_values.__getitem__)
    adjusted = dict.fromkeys(p_values, math.nan)
    highest = 0.0
    for place, name in enumerate(defined):
        highest = max(highest, min(1.0, p_values[name] * (len(defined) - place)))
        adjusted[name] = highest
    return adjusted


def _all_flips(n: int, n_flips: int) -> bool:
    """Return whether all 2^n flips are gone through instead of drawing some."""
    return n < 60 and 2**n <= n_flips
