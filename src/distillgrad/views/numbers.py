"""Numbers in the form that people read."""

from __future__ import annotations


def decimal(value: float, *, signed: bool = False) -> str:
    """Return a number with three decimal places; one that rounds to zero is not negative.

    >>> decimal(0.6264), decimal(-0.0001), decimal(0.25, signed=True)
    ('0.626', '0.000', '+0.250')
    """
    return f"{round(value, 3) + 0.0:{'+' if signed else ''}.3f}"  # -0.0 + 0.0 is 0.0
