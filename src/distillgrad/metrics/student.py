"""Student's distribution of whole degrees of freedom, in closed form."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

NEARLY_NORMAL = 10_000
"""Degrees of freedom from which on the normal distribution stands for it, to 1e-4 of a p-value."""


def within(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies in [−t, t], for ``t`` ≥ 0.

    Cost: a sum of ``freedom / 2`` terms.
    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    if math.isinf(t):
        return 1.0
    if freedom >= NEARLY_NORMAL:
        return math.erf(t / math.sqrt(2))
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    steps = np.arange(1, (freedom - odd) // 2)
    ratios = (2 * steps - 1 + odd) / (2 * steps + odd) * math.cos(angle) ** 2
    total = math.sin(angle) * float(1 + np.cumprod(ratios).sum())
    if not odd:
        return min(1.0, total)
    return min(1.0, 2 / math.pi * (angle + (math.cos(angle) * total if freedom > 1 else 0.0)))


@lru_cache
def quantile(level: float, freedom: int) -> float:
    """Return the ``t`` whose [−t, t] holds Student's t with probability ``level``."""
    low, high = 0.0, 1.0
    while within(high, freedom) < level and high < 1e12:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < level else (low, middle)
    return high
