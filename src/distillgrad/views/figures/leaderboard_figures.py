"""Pictures of an evaluation: means with their intervals, and curves along fractions, noise or stages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distillgrad.metrics.registry import axis_words, find_metric
from distillgrad.runs.evaluation.leaderboard import Leaderboard
from distillgrad.views.figures.explanation_figures import INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by all readers; beyond eight methods the line's form tells, too.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c")
FORMS = ("-", "--", ":", "-.")
Style = dict[str, Any]


def styles_of(methods: Iterable[str]) -> dict[str, Style]:
    """Return a colour and a form of line for each method, in this order."""
    styles = {}
    for index, method in enumerate(methods):
        form = FORMS[index // len(COLOURS) % len(FORMS)]
        width = 2.2 if method.startswith("dga") else 1.3
        styles[method] = {"color": COLOURS[index % len(COLOURS)], "linestyle": form, "linewidth": width}
    return styles


def curves_figure(board: Leaderboard) -> Figure:
    """Return a panel for each metric with several values per sample: means, and their intervals as bands."""
    metrics = list(board.along)
    figure, axes = panels(len(metrics), 4.6, 3.7)
    styles = styles_of(board.evaluation.seconds)
    for axis, metric in zip(axes, metrics, strict=False):
        along = board.evaluation.axes[metric]
        numbers = all(isinstance(each, float | int) for each in along)
        places = np.array(along, float) if numbers else np.arange(len(along))
        for method in board.methods:
            intervals = board.along[metric][method]
            axis.plot(places, [each.mean for each in intervals], label=method, **styles[method])
            low, high = ([getattr(each, end) for each in intervals] for end in ("low", "high"))
            axis.fill_between(places, low, high, color=styles[method]["color"], alpha=0.12, linewidth=0)
        words = axis_words(metric, board.comparisons)
        labelled(axis, words.title, words.below, words.beside)
        if not numbers:
            axis.set_xticks(places, [str(each) for each in along], rotation=60, ha="right")
    legend(figure, axes[0], len(board.methods))
    return figure


def intervals_figure(board: Leaderboard) -> Figure:
    """Return a panel for each metric: every method's mean and interval, the best on top."""
    figure, axes = panels(len(board.comparisons), 4.2, 0.9 + 0.3 * len(board.methods))
    styles = styles_of(board.evaluation.seconds)
    for axis, (metric, comparison) in zip(axes, board.comparisons.items(), strict=False):
        for place, method in enumerate(comparison.ranking):
            mean = comparison.means[method]
            colour = styles[method]["color"]
            axis.plot([mean.low, mean.high], [place, place], color=colour, linewidth=2)
            axis.plot([mean.mean], [place], "o", color=colour, markersize=5)
        axis.set_yticks(range(len(comparison.ranking)), comparison.ranking)
        axis.set_ylim(len(comparison.ranking) - 0.5, -0.5)
        labelled(axis, f"{metric} {find_metric(metric).arrow}", "mean over images, 95 % interval", "")
    return figure


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``count`` panels, at most three in a row, and its axes."""
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=130)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.axis("off")
    return figure, axes


def labelled(axis: Axes, title: str, below: str, beside: str) -> None:
    """Give a panel its title and axes in the house's style."""
    axis.set_title(title, fontsize=10, color=INK, loc="left")
    axis.set_xlabel(below, fontsize=8, color=QUIET)
    axis.set_ylabel(beside, fontsize=8, color=QUIET)
    axis.tick_params(labelsize=7.5, colors=INK)
    axis.grid(alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def legend(figure: Figure, axis: Axes, n_methods: int) -> None:
    """Add one legend for all panels, below them, in as many columns as the figure has room for."""
    handles, labels = axis.get_legend_handles_labels()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for columns in range(min(n_methods, 5), 0, -1):
        key = figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )
        if columns == 1 or key.get_window_extent(renderer).width <= figure.bbox.width:
            break
        key.remove()
