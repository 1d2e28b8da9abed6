"""The results of a ROAR run: accuracy by explanation and fraction, as a table, files and curves."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from distillgrad.metrics.roar import Roar
from distillgrad.runs.files import written_whole
from distillgrad.views.figures.explanation_figures import save_figure
from distillgrad.views.figures.leaderboard_figures import labelled, legend, panels, styles_of
from distillgrad.views.markdown import markdown_table


def roar_rows(results: Mapping[str, Roar]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows for people: mean ± standard error of the test accuracy, in per cent."""
    fractions = next(each.fractions for name, each in results.items() if name != "none").tolist()
    rows = []
    for name, each in results.items():
        cells = [
            f"{100 * mean:.1f} ± {100 * error:.1f}" if math.isfinite(error) else f"{100 * mean:.1f}"
            for mean, error in zip(each.mean.tolist(), each.standard_error.tolist(), strict=True)
        ]
        rows.append((name, *(cells * len(fractions) if name == "none" else cells)))
    return ("explanation", *(f"{fraction:.0%}" for fraction in fractions)), rows


def roar_record(results: Mapping[str, Roar], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of the results for machines."""
    return {
        "request": dict(request),
        "explanations": {
            name: {"fractions": each.fractions.tolist(), "accuracies": each.accuracies.tolist()}
            for name, each in results.items()
        },
    }


def curves_figure(results: Mapping[str, Roar], title: str, below: str) -> Figure:
    """Return the paper's Figure 5: accuracy over the share removed, beginning at plain training."""
    figure, (axis,) = panels(1, 6.4, 4.6)
    plain = results["none"]
    styles = styles_of([name for name in results if name != "none"])
    axis.axhline(float(plain.mean), color="#8c8c8c", linewidth=0.8, linestyle=":", label="none")
    for name, style in styles.items():
        each = results[name]
        axis.errorbar(each.fractions, each.mean, each.standard_error, label=name, capsize=2, **style)
    labelled(axis, title, below, "test accuracy")
    legend(figure, axis, len(results))
    return figure


def save_roar(
    results: Mapping[str, Roar], request: Mapping[str, Any], folder: Path, title: str, below: str
) -> dict[str, str]:
    """Write ``roar.json``, ``.csv``, ``.md`` and ``.png``; return the files by name."""
    heads, rows = roar_rows(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("explanation", "fraction", "trial", "accuracy"))
    for name, each in results.items():
        for fraction, accuracies in zip(each.fractions.tolist(), each.accuracies.tolist(), strict=True):
            writer.writerows((name, fraction, trial, value) for trial, value in enumerate(accuracies))
    contents = {
        "roar.json": json.dumps(roar_record(results, request), indent=2),
        "roar.csv": text.getvalue(),
        "roar.md": "\n".join(markdown_table(heads, rows)) + "\n",
    }
    for name, content in contents.items():
        with written_whole(folder / name) as file:
            file.write(content.encode())
    save_figure(curves_figure(results, title, below), folder / "roar.png")
    return {name: str(folder / name) for name in (*contents, "roar.png")}
