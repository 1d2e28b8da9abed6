"""Curves as inline SVG: they print, they scale, and the page's script reads their values out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from distillgrad.views.figures.leaderboard_figures import COLOURS, FORMS
from distillgrad.views.html.page import text

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 40
DASHES = {"-": "", "--": "8 4", ":": "2 4", "-.": "8 3 2 3"}


def chart(
    title: str,
    x_name: str,
    y_name: str,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    between: tuple[float, float] | None = None,
) -> str:
    """Return one panel of curves over ``x``; values that are not finite end a curve's line.

    Args:
        between: The ends of the y axis, by default those of the values.
    """
    values = [each for curve in curves.values() for each in curve if math.isfinite(each)] or [0.0]
    low, high = between or (min(values), max(values))
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    first, last = min(x), max(x)
    span = (last - first) or 1.0

    def across(value: float) -> float:
        return LEFT + (value - first) / span * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    grid = ""
    for tick in _ticks(low, high):
        grid += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
        grid += f'<text x="{LEFT - 6}" y="{down(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
    for tick in _ticks(first, last):
        grid += (
            f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
        )
    lines = ""
    for name, (colour, form, width) in styles_of(curves).items():
        known = [(place, value) for place, value in zip(x, curves[name], strict=True) if math.isfinite(value)]
        points = " ".join(f"{across(place):.1f},{down(value):.1f}" for place, value in known)
        numbers = " ".join(f"{value:.3g}" for value in curves[name])
        lines += (
            f'<polyline points="{points}" stroke="{colour}" stroke-width="{width}"'
            f'{_dashes(form)} data-name="{text(name)}" data-values="{numbers}"/>'
        )
    places = " ".join(f"{each:.3g}" for each in x)
    everywhere = " ".join(f"{across(each):.1f}" for each in x)
    spoken = f"{title}: {', '.join(curves)}; {y_name} over {x_name}"
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" '
        f'aria-label="{text(spoken)}" data-x="{text(x_name)}" data-places="{places}" '
        f'data-across="{everywhere}">'
        f'<text class="name" x="{LEFT}" y="14">{text(title)}</text>{grid}{lines}'
        f'<line class="at" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>'
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{text(x_name)}</text>'
        f'<text x="12" y="{(TOP + HEIGHT - BOTTOM) / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2:.0f})">{text(y_name)}</text>'
        "</svg><output></output></div>"
    )


def key_of(names: Iterable[str]) -> str:
    """Return the list of the names with the colour and form of their curves."""
    entries = "".join(
        f'<li><svg viewBox="0 0 28 10" aria-hidden="true"><line x1="0" x2="28" y1="5" y2="5" stroke="{colour}" '
        f'stroke-width="{width}"{_dashes(form)}/></svg>{text(name)}</li>'
        for name, (colour, form, width) in styles_of(names).items()
    )
    return f'<ul class="key">{entries}</ul>'


def interval(low: float, mean: float, high: float, ends: tuple[float, float]) -> str:
    """Return a mark of a mean and its interval between a column's ends; who hears the numbers needs no mark."""
    if not all(math.isfinite(each) for each in (low, mean, high, *ends)) or ends[1] <= ends[0]:
        return ""
    a, b, c = (4 + 102 * (each - ends[0]) / (ends[1] - ends[0]) for each in (low, mean, high))
    return (
        '<svg class="interval" viewBox="0 0 110 12" aria-hidden="true"><rect x="0" y="5" width="110" height="2"/>'
        f'<line x1="{a:.1f}" x2="{c:.1f}" y1="6" y2="6"/><circle cx="{b:.1f}" cy="6" r="4"/></svg>'
    )


def styles_of(names: Iterable[str]) -> dict[str, tuple[str, str, float]]:
    """Return colour, form and width of each name's line; black is the ink's colour, which is light by night."""
    styles = {}
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)].replace("#000000", "currentColor")
        form = FORMS[index // len(COLOURS) % len(FORMS)]
        styles[name] = (colour, form, 2.6 if name.startswith("dga") else 1.7)
    return styles


def _dashes(form: str) -> str:
    return f' stroke-dasharray="{DASHES[form]}"' if DASHES[form] else ""


def _ticks(low: float, high: float) -> list[float]:
    """Return four or so round numbers between two ends, the one number where they are equal."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * each for each in (1, 2, 2.5, 5, 10) if unit * each >= rough * 0.999)
    return [
        round(step * each, 10)
        for each in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
