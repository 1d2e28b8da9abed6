"""A leaderboard as HTML: means with their intervals, and means along the axis of a metric that has one."""

from __future__ import annotations

import math

from distillgrad.metrics.registry import axis_words, find_metric
from distillgrad.runs.evaluation.leaderboard import Leaderboard
from distillgrad.views.html.page import Cell, table, text
from distillgrad.views.html.vector_curves import chart, interval, key_of
from distillgrad.views.leaderboard import STAR, reservations
from distillgrad.views.numbers import decimal


def leaderboard_table(board: Leaderboard) -> str:
    """Return the table of means with their intervals; a star marks a method significantly worse than the best."""
    heads = [
        "method",
        *(f"{metric} {find_metric(metric).arrow}" for metric in board.comparisons),
        "s/image",
    ]
    rows = []
    for method in board.methods:
        cells = [Cell(text(method))]
        for comparison in board.comparisons.values():
            mean, difference = comparison.means[method], comparison.differences.get(method)
            known = [
                end
                for each in comparison.means.values()
                for end in (each.low, each.high)
                if math.isfinite(end)
            ]
            ends = (min(known), max(known)) if known else (math.nan, math.nan)
            mark = "*" if difference is not None and difference.significant else ""
            words = f"{decimal(mean.mean)}{mark} <small>[{decimal(mean.low)}, {decimal(mean.high)}]</small>"
            cells.append(Cell(words + interval(mean.low, mean.mean, mean.high, ends), mean.mean))
        seconds = board.evaluation.seconds[method]
        rows.append([*cells, Cell(f"{seconds:.2g}", seconds)])
    return (
        f'{table(heads, rows, "Leaderboard")}<p class="quiet">Mean and 95 % interval over images; '
        f"* {text(' '.join([f'{STAR}.', *reservations(board)]))}</p>"
    )


def along_charts(board: Leaderboard) -> str:
    """Return charts of means along the axis of each metric that has one in numbers."""
    charts = ""
    for metric, by_method in board.along.items():
        axis = board.evaluation.axes[metric]
        if not all(isinstance(each, float | int) for each in axis):
            continue
        words = axis_words(metric, board.comparisons)
        curves = {method: [each.mean for each in by_method[method]] for method in board.evaluation.seconds}
        charts += chart(words.title, words.below, words.beside, [float(each) for each in axis], curves)
    return f'{key_of(board.evaluation.seconds)}<div class="sides">{charts}</div>' if charts else ""
