"""The values of a file that are shown black and white: as its user says, or its type and values."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import ParameterError, SourceError

ValueRange: TypeAlias = tuple[float, float]
"""The values that are shown black and white, as the file has them; those outside are shown like the ends."""

DEPTHS = (8, 10, 12, 14)
"""Bits of sensors whose values are written into files of 16."""
SAY = "say what is black and white: --value-range LOW,HIGH; in Python, value_range=(low, high)"


def checked_range(value_range: ValueRange) -> ValueRange:
    """Return the range as two floats.

    Raises:
        ParameterError: it is not two finite numbers, the lower first.
    """
    try:
        low, high = (float(each) for each in value_range)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"value_range must be two numbers, (low, high), not {value_range!r}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"value_range must be two finite numbers, the lower first, not {low:g},{high:g}")
    return low, high


def parse_range(words: str) -> ValueRange:
    """Return the range that the command line names: ``LOW,HIGH``.

    Raises:
        ParameterError: it is not two numbers, the lower first.
    """
    try:
        low, high = (float(each) for each in words.split(","))
    except ValueError as error:
        raise ParameterError(f"a value range is two numbers, LOW,HIGH, not {words!r}") from error
    return checked_range((low, high))


def written(value_range: ValueRange) -> str:
    """Return the range as the command line takes it."""
    return ",".join(repr(int(each) if each == int(each) else each) for each in value_range)


def range_in(values: NDArray[np.generic], name: str, wanted: ValueRange | None) -> tuple[ValueRange, str]:
    """Return which values are black and white, and what was guessed, as a sentence; "" for nothing.

    Unsigned values of 8 and 16 bits have the range of their type. Where the values would fit fewer bits than
    16, as scanners and cameras write them, they are taken for values of so many; those of floats within
    [0, 1], unless all are 0, for shares of white. Nothing is guessed for others.

    Args:
        values: All of the image's, as the file has them; those of its opacity left out.
        name: What errors call the file.
        wanted: The range that the user says.
    Raises:
        SourceError: a range must be said, or the one that is said reaches beyond what the file can hold;
            or there is a value that is no number.
    """
    if values.dtype.kind == "f":
        return _range_of_floats(values, name, wanted)
    bits = 8 * values.dtype.itemsize
    type_range = np.iinfo(str(values.dtype))
    if wanted is not None:
        if wanted[0] < type_range.min or wanted[1] > type_range.max:
            raise SourceError(
                f"{name} has values of {bits} bits, from {type_range.min} to {type_range.max}, and the value "
                f"range {written(wanted)} reaches beyond; give one for these images alone"
            )
        return wanted, ""
    smallest, largest = int(values.min()), int(values.max())
    if smallest < 0 or largest > 65535:
        raise SourceError(
            f"{name} has values of {bits} bits from {smallest} to {largest}, which have no agreed range; "
            f"{SAY}"
        )
    if bits == 8:
        return (0, type_range.max), ""
    most = min(type_range.max, 65535)
    highest = next((2**depth - 1 for depth in DEPTHS if largest < 2**depth), most)
    if highest == type_range.max:
        return (0, highest), ""
    return (0, highest), (
        f"{name} has {bits} bits, of which its values take {highest.bit_length()}: it is shown from 0 to "
        f"{highest}; if that is wrong, {SAY}"
    )


def _range_of_floats(
    values: NDArray[np.generic], name: str, wanted: ValueRange | None
) -> tuple[ValueRange, str]:
    if not np.isfinite(values).all():
        raise SourceError(
            f"{name} has values that are NaN or infinite, which no colour stands for; fill them in"
        )
    if wanted is not None:
        return wanted, ""
    smallest, largest = float(values.min()), float(values.max())
    if smallest >= 0 and 0 < largest <= 1:
        return (0, 1), f"{name} has floating-point values, taken for shares of white; if that is wrong, {SAY}"
    raise SourceError(
        f"{name} has floating-point values from {smallest:g} to {largest:g}, which have no agreed range; "
        f"{SAY}, or save them as 8 or 16 bits"
    )


def as_bytes(values: NDArray[np.generic], shown: ValueRange) -> NDArray[np.uint8]:
    """Return values from 0, the lower end and below, to 255: integers rounded down, floats to the nearest."""
    low, high = shown
    if values.dtype.kind != "f" and low == int(low) and high == int(high):
        least, most = int(low), int(high)
        whole = values.astype(np.int64).clip(least, most) - least
        return (whole * 255 // (most - least)).astype(np.uint8)
    shares = (values.astype(np.float64).clip(low, high) - low) / (high - low)
    return np.rint(shares * 255).astype(np.uint8)
