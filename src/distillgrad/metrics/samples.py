"""Per-sample values as statistics take them: checked, without what is missing, one for each photograph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import InputError, ParameterError

Values: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = Sequence[object]

UNBOUNDED = (-math.inf, math.inf)


def checked_values(values: NDArray[Any], name: str) -> Values:
    """Return the values as float64, with NaN for all that is missing.

    Raises:
        InputError: they are no ``(B,)`` numbers.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be numbers, one per sample (B,); got {array.shape} {array.dtype}")
    array = array.astype(np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def group_places(groups: Groups | None, length: int) -> NDArray[np.intp] | None:
    """Return the number of each sample's group, in the order of their appearance; ``None`` without groups.

    Raises:
        InputError: not one group for each sample.
    """
    if groups is None:
        return None
    if len(groups) != length:
        raise InputError(f"groups must name one photograph for each of {length} samples; got {len(groups)}")
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(each, len(seen)) for each in groups], dtype=np.intp)


def by_group(values: Values, places: NDArray[np.intp] | None) -> Values:
    """Return the mean of each group's values, those that are missing left out; without groups the values."""
    if places is None or not len(places):
        return values
    there = ~np.isnan(values)
    n_groups = int(places.max()) + 1
    counts = np.bincount(places[there], minlength=n_groups)
    sums = np.bincount(places[there], values[there], minlength=n_groups)
    means = np.full(n_groups, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def check_parameters(level: float, number: int, seed: int, name: str) -> None:
    """Check what intervals and tests are asked for with.

    Raises:
        ParameterError: ``level`` outside (0, 1), the number of draws or ``seed`` out of range.
    """
    if not 0 < level < 1:
        raise ParameterError(f"level must lie between 0 and 1, like 0.95, not {level}")
    if number < 1:
        raise ParameterError(f"{name} must be at least 1, not {number}")
    if seed < 0:
        raise ParameterError(f"seed must be at least 0, not {seed}")


def check_bounds(bounds: tuple[float, float], columns: dict[str, Values]) -> None:
    """Check that values lie in the range that is said of them.

    Raises:
        ParameterError: the bounds are no range.
        InputError: a value lies outside.
    """
    low, high = bounds
    if not low < high:
        raise ParameterError(f"bounds must be the lowest and the highest possible value, not {bounds}")
    slack = 1e-2 * (high - low) if math.isfinite(high - low) else 0.0  # rounding of bfloat16
    for name, values in columns.items():
        wrong = values[(values < low - slack) | (values > high + slack)]
        if len(wrong):
            raise InputError(f"{name} lie outside of {bounds}: {wrong[0]:g}")
