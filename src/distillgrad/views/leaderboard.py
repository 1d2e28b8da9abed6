"""The leaderboard of an evaluation as tables, files and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from distillgrad.metrics.registry import find_metric
from distillgrad.metrics.statistics import ENOUGH, images_needed
from distillgrad.runs.evaluation.leaderboard import Leaderboard, groups_of
from distillgrad.runs.evaluation.record import Evaluation
from distillgrad.runs.files import written_whole
from distillgrad.views.figures.explanation_figures import save_figure
from distillgrad.views.figures.leaderboard_figures import curves_figure, intervals_figure
from distillgrad.views.markdown import markdown_table
from distillgrad.views.numbers import decimal

LEADERBOARD_HEADS = (
    *("metric", "method", "mean", "low", "high", "n", "n_missing"),
    *("compared_to", "difference", "difference_low", "difference_high"),
    *("p_value", "p_adjusted", "significant", "smallest_p_adjusted", "n_comparisons"),
)


STAR = "significantly worse than the best (paired, p < 0.05, adjusted for all comparisons of the table)"


def reservations(board: Leaderboard) -> list[str]:
    """Return sentences on what the samples are too few for; none if they are enough."""
    differences = [each for one in board.comparisons.values() for each in one.differences.values()]
    n = max((mean.n for one in board.comparisons.values() for mean in one.means.values()), default=0)
    said = []
    if groups_of(board.evaluation) is not None:
        said.append(f"The images are views of {n} photographs, and those of one count as one.")
    if differences and not any(each.decidable for each in differences):
        m = differences[0].n_comparisons
        if m:
            said.append(
                f"No star is possible: {n} cannot decide {m} comparisons, at least {images_needed(m)} could."
            )
    if 1 < n < ENOUGH:
        said.append(f"Below {ENOUGH} images intervals hold the mean less often, where values are skewed.")
    return said


def leaderboard_rows(
    board: Leaderboard, *, brief: bool = False
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows for people: mean and interval, or if ``brief`` mean and half its width.

    ``*`` marks a method that is significantly worse (or with a reference: different) than its comparison.
    """
    heads = [f"{metric} {find_metric(metric).arrow}" for metric in board.comparisons]
    rows = []
    for method in board.methods:
        cells = []
        for comparison in board.comparisons.values():
            mean = comparison.means[method]
            difference = comparison.differences.get(method)
            mark = "*" if difference is not None and difference.significant else ""
            low, high = decimal(mean.low), decimal(mean.high)
            around = f"±{(mean.high - mean.low) / 2:.3f}" if brief else f"[{low}, {high}]"
            cells.append(f"{decimal(mean.mean)}{mark} {around}")
        rows.append((method, *cells, f"{board.evaluation.seconds[method]:.2g}"))
    return ("method", *heads, "s/image"), rows


def leaderboard_record(board: Leaderboard) -> dict[str, Any]:
    """Return all of the leaderboard for machines; undefined values are ``None``."""
    evaluation = board.evaluation
    content = {
        "n_samples": len(evaluation.ids),
        "n_skipped": len(evaluation.skipped),
        "request": dict(evaluation.manifest),
        "metrics": {
            metric: {
                "better": find_metric(metric).better,
                "ranking": list(comparison.ranking),
                "compared_to": comparison.reference,
                "methods": {
                    method: {
                        **asdict(comparison.means[method]),
                        **(
                            {
                                "difference": {
                                    **asdict(comparison.differences[method].interval),
                                    "p_value": comparison.differences[method].p_value,
                                    "p_adjusted": comparison.differences[method].p_adjusted,
                                    "significant": bool(comparison.differences[method].significant),
                                    "smallest_p_adjusted": comparison.differences[method].smallest_p_adjusted,
                                    "n_comparisons": comparison.differences[method].n_comparisons,
                                }
                            }
                            if method in comparison.differences
                            else {}
                        ),
                    }
                    for method in board.methods
                },
            }
            for metric, comparison in board.comparisons.items()
        },
        "seconds_per_image": dict(evaluation.seconds),
    }
    defined: dict[str, Any] = _defined(content)
    return defined


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def leaderboard_markdown(board: Leaderboard) -> str:
    """Return the tables as a page: the leaderboard, and one along the axis of each metric that has one."""
    evaluation = board.evaluation
    manifest = evaluation.manifest
    left_out = f"; {len(evaluation.skipped)} left out" if evaluation.skipped else ""
    lines = [
        f"Model `{manifest['model']}`, {len(evaluation.ids)} images{left_out}. "
        + ", ".join(f"{key} {value}" for key, value in manifest["protocol"].items())
        + ".",
        "",
        " ".join([f"Mean and 95 % interval over images; `*`: {STAR}.", *reservations(board)]),
        "",
    ]
    heads, rows = leaderboard_rows(board)
    lines += markdown_table(heads, rows)
    for metric in board.comparisons:
        if metric in board.along:
            axis = [f"{each:g}" if isinstance(each, float) else str(each) for each in evaluation.axes[metric]]
            lines += ["", f"{metric}, along its axis:", ""]
            lines += markdown_table(
                ("method", *axis),
                [
                    (method, *(decimal(each.mean) for each in board.along[metric][method]))
                    for method in board.methods
                ],
            )
    return "\n".join(lines) + "\n"


def save_leaderboard(board: Leaderboard, folder: Path) -> dict[str, str]:
    """Write the leaderboard beside the evaluation's values; return the files by name.

    ``leaderboard.json``, ``.csv`` and ``.md``, ``samples.csv`` with every value of every sample,
    ``leaderboard.png`` and, for metrics with several values per sample, ``curves.png``.
    """
    texts = {
        "leaderboard.json": json.dumps(leaderboard_record(board), indent=2),
        "leaderboard.md": leaderboard_markdown(board),
        "leaderboard.csv": _leaderboard_csv(board),
        "samples.csv": _samples_csv(board.evaluation),
    }
    for name, text in texts.items():
        with written_whole(folder / name) as file:
            file.write(text.encode())
    files = {name: str(folder / name) for name in texts}
    figures = {"leaderboard.png": intervals_figure(board)}
    if board.along:
        figures["curves.png"] = curves_figure(board)
    for name, figure in figures.items():
        save_figure(figure, folder / name)
        files[name] = str(folder / name)
    return files


def _leaderboard_csv(board: Leaderboard) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LEADERBOARD_HEADS)
    for metric, comparison in board.comparisons.items():
        for method in comparison.ranking:
            mean, difference = comparison.means[method], comparison.differences.get(method)
            row: list[Any] = [metric, method, mean.mean, mean.low, mean.high, mean.n, mean.n_missing]
            if difference is not None:
                gap = difference.interval
                row += [comparison.reference, gap.mean, gap.low, gap.high]
                row += [difference.p_value, difference.p_adjusted, difference.significant]
                row += [difference.smallest_p_adjusted, difference.n_comparisons]
            writer.writerow(row)
    return text.getvalue()


def _samples_csv(evaluation: Evaluation) -> str:
    """Return one line per sample, method and value: long, so that any tool can pivot it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "label", "target", "method", "metric", "at", "value"))
    for metric, by_method in evaluation.values.items():
        axis = evaluation.axes[metric] or ("",)
        for method, values in by_method.items():
            for index, row in enumerate(values.reshape(len(values), -1)):
                sample = (evaluation.ids[index], evaluation.labels[index], evaluation.targets[index])
                writer.writerows(
                    (*sample, method, metric, at, value) for at, value in zip(axis, row, strict=True)
                )
    return text.getvalue()
