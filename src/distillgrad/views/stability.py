"""How far methods agree with themselves, as tables: methods by kind of change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distillgrad.metrics.self_stability import Stability
from distillgrad.metrics.statistics import bootstrap_mean
from distillgrad.views.numbers import decimal

MEASURES = {"overlap": "top-10 % overlap", "spearman": "Spearman", "ssim": "SSIM"}
HEADS = ("method", "measure", "float64", "bfloat16", "alone", "jitter")
PREFACE = """# Agreement of methods with themselves

How alike each method's maps are to its own maps of the same images and classes when something changes that
should not matter: `float64` and `bfloat16`, model and inputs in that precision in place of float32; `alone`,
each image in a batch of its own; `jitter`, inputs moved by at most one 8-bit level. 1 is the same map. Means
over the images, and 95 % bootstrap intervals of them where there are several images.
"""


def means(agreement: Stability) -> dict[str, dict[str, float | None]]:
    """By measure and condition, the mean over the samples where it is defined."""
    return {
        measure: {
            condition: _number(torch.nanmean(getattr(agreement, measure), 0)[place])
            for place, condition in enumerate(agreement.conditions)
        }
        for measure in MEASURES
    }


def stability_record(found: Mapping[str, Stability | str]) -> dict[str, Any]:
    """The means by method, for machines; of a method that refused, why."""
    return {name: {"refused": each} if isinstance(each, str) else means(each) for name, each in found.items()}


def stability_rows(found: Mapping[str, Stability | str], *, intervals: bool = False) -> list[tuple[str, ...]]:
    """A row for each method and measure, with intervals if asked; one with dashes for a refusal."""
    rows: list[tuple[str, ...]] = []
    for label, agreement in found.items():
        if isinstance(agreement, str):
            rows.append((label, "refused", "–", "–", "–", "–"))
            continue
        for measure, words in MEASURES.items():
            columns = getattr(agreement, measure).unbind(1)
            rows.append((label, words, *(_cell(column, intervals) for column in columns)))
    return rows


def stability_markdown(found: Mapping[str, Stability | str]) -> str:
    """The rows as a Markdown table, and what the methods that refused said."""
    table = (HEADS, ("---",) * len(HEADS), *stability_rows(found, intervals=True))
    lines = ["| " + " | ".join(row) + " |" for row in table]
    refusals = [f"- `{name}`: {words}" for name, words in found.items() if isinstance(words, str)]
    return "\n".join([*lines, *([""] if refusals else []), *refusals]) + "\n"


def _cell(values: Tensor, interval: bool) -> str:
    found = bootstrap_mean(values.double().cpu().numpy())
    if found.n == 0:
        return "–"
    shown = decimal(found.mean)
    return f"{shown} ({decimal(found.low)} … {decimal(found.high)})" if interval and found.n > 1 else shown


def _number(value: Tensor) -> float | None:
    return float(value) if bool(torch.isfinite(value)) else None
