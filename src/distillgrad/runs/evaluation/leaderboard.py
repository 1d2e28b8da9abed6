"""Leaderboards: methods compared by an evaluation, in means with intervals and in paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import UnknownNameError
from distillgrad.metrics.registry import METRICS, find_metric
from distillgrad.metrics.statistics import (
    Comparison,
    Groups,
    Interval,
    adjusted_together,
    bootstrap_mean,
    compare,
    draws_for,
)
from distillgrad.runs.evaluation.record import Evaluation
from distillgrad.sources.photographs import NAME as PHOTOGRAPHS
from distillgrad.sources.photographs import photograph_of


@dataclass(frozen=True)
class Leaderboard:
    """A comparison of methods by each metric, over the samples of an evaluation.

    Attributes:
        methods: From the best to the worst by the first metric.
        comparisons: By metric; of a metric with several values per sample, of their mean.
        along: By metric with several values per sample and by method, an interval for each of them.
        evaluation: The measurements.
    """

    methods: tuple[str, ...]
    comparisons: Mapping[str, Comparison]
    along: Mapping[str, Mapping[str, tuple[Interval, ...]]]
    evaluation: Evaluation


def leaderboard_of(evaluation: Evaluation, *, reference: str | None = None) -> Leaderboard:
    """Return means with 95 % intervals over samples, and paired differences to the best.

    The differences of all metrics and methods, which stand in one table, are corrected together.

    Args:
        reference: The method that the others are compared to, instead of each metric's best.
    Raises:
        UnknownNameError: no such method in the evaluation.
    """
    metrics = metrics_in(evaluation)
    methods = tuple(next(iter(evaluation.values.values())))
    if reference is not None and reference not in methods:
        raise UnknownNameError("method", reference, methods)
    groups = groups_of(evaluation)
    draws = draws_for(len(metrics) * (len(methods) - 1))
    comparisons = adjusted_together(
        {
            metric: compare(
                {name: per_sample(values) for name, values in evaluation.values[metric].items()},
                better=find_metric(metric).better,
                reference=reference,
                groups=groups,
                bounds=find_metric(metric).bounds,
                n_resamples=draws,
                n_flips=draws,
            )
            for metric in metrics
        }
    )
    along = {
        metric: {
            name: tuple(bootstrap_mean(column, groups=groups, n_resamples=1000) for column in values.T)
            for name, values in evaluation.values[metric].items()
        }
        for metric, axis in evaluation.axes.items()
        if axis
    }
    ranking = comparisons[metrics[0]].ranking if metrics else methods
    return Leaderboard(ranking, comparisons, along, evaluation)


def groups_of(evaluation: Evaluation) -> Groups | None:
    """Return by sample the photograph that it is a view of; ``None`` where each sample is one of its own."""
    if evaluation.manifest.get("data", {}).get("from") != PHOTOGRAPHS:
        return None
    return [photograph_of(each) for each in evaluation.ids]


def metrics_in(evaluation: Evaluation) -> list[str]:
    """Return the metrics that were measured, the library's in its order, then others that are known here.

    Unknown ones are of a newer version, or of a module that is not imported: a run may name any.
    """
    library = [name for name in METRICS if name in evaluation.values]
    return library + [name for name in evaluation.values if name in METRICS and name not in library]


def per_sample(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the axis that a metric may have; NaN only where nothing on it is defined."""
    if values.ndim == 1:
        return values
    defined = np.isfinite(values)
    counts = defined.sum(1)
    sums = np.where(defined, values, 0).sum(1)
    means = np.full(len(values), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
