"""The stability of methods as tables: methods by kind of change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distillgrad.metrics.registry import find_metric
from distillgrad.metrics.self_stability import Stability
from distillgrad.metrics.statistics import bootstrap_mean
from distillgrad.views.markdown import markdown_table
from distillgrad.views.numbers import decimal

MEASURES = {"overlap": "top-10 % overlap", "spearman": "Spearman", "ssim": "SSIM"}
HEADS = ("method", "measure", "float64", "bfloat16", "alone", "jitter")
PREFACE = """# Stability of methods

How alike each method's maps are to its own maps of the same images and classes when something changes that
should not matter: `float64` and `bfloat16`, model and inputs in that precision in place of float32; `alone`,
each image in a batch of its own; `jitter`, inputs moved by at most one 8-bit level. 1 is the same map. Means
over the images, and 95 % bootstrap-t intervals of them where there are several images; those of two or three
images are as wide as so few tell.
"""


def means(measured: Stability) -> dict[str, dict[str, float | None]]:
    """Return, by measure and condition, the mean over the samples where it is defined."""
    return {
        measure: {
            condition: _number(torch.nanmean(getattr(measured, measure), 0)[place])
            for place, condition in enumerate(measured.conditions)
        }
        for measure in MEASURES
    }


def stability_record(stabilities: Mapping[str, Stability | str]) -> dict[str, Any]:
    """Return the means by method, for machines; for a method that refused, the reason."""
    return {
        label: {"refused": each} if isinstance(each, str) else means(each)
        for label, each in stabilities.items()
    }


def stability_rows(
    stabilities: Mapping[str, Stability | str], *, intervals: bool = False
) -> list[tuple[str, ...]]:
    """Return a row for each method and measure; for a refusal one with dashes.

    Args:
        intervals: Add 95 % intervals, where there are several images.
    """
    rows: list[tuple[str, ...]] = []
    for label, measured in stabilities.items():
        if isinstance(measured, str):
            rows.append((label, "refused", "–", "–", "–", "–"))
            continue
        for measure, words in MEASURES.items():
            columns = getattr(measured, measure).unbind(1)
            bounds = find_metric(f"stability_{measure}").bounds
            rows.append((label, words, *(_cell(column, intervals, bounds) for column in columns)))
    return rows


def stability_markdown(stabilities: Mapping[str, Stability | str]) -> str:
    """Return the rows as a Markdown table, and the reasons of the methods that refused."""
    lines = markdown_table(HEADS, stability_rows(stabilities, intervals=True))
    refusals = [f"- `{name}`: {words}" for name, words in stabilities.items() if isinstance(words, str)]
    return "\n".join([*lines, *([""] if refusals else []), *refusals]) + "\n"


def _cell(values: Tensor, interval: bool, bounds: tuple[float, float]) -> str:
    mean = bootstrap_mean(values.double().cpu().numpy(), bounds=bounds)
    if mean.n == 0:
        return "–"
    ends = f" ({decimal(mean.low)} … {decimal(mean.high)})" if interval and mean.n > 1 else ""
    return f"{decimal(mean.mean)}{ends}"


def _number(value: Tensor) -> float | None:
    return float(value) if bool(torch.isfinite(value)) else None
