"""The view of an evaluation: its leaderboard, its curves, its images with maps made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from distillgrad.errors import SourceError
from distillgrad.explanations.explanation import Map, map_by, seen_by
from distillgrad.methods import METHODS, create_method
from distillgrad.metrics.registry import METRICS
from distillgrad.runs.evaluation.leaderboard import leaderboard_of, metrics_in, per_sample
from distillgrad.runs.evaluation.record import FORMAT, Evaluation, read_evaluation
from distillgrad.runs.kinds import OpenedRun
from distillgrad.sources.open_data import ImageData
from distillgrad.views.html.leaderboard_tables import along_charts, leaderboard_table
from distillgrad.views.html.page import facts, text
from distillgrad.views.opened_runs.run_images import (
    Explainable,
    RunSample,
    RunView,
    data_of_run,
    explainable_of,
)
from distillgrad.views.records import versions


def _is_data(value: Any) -> bool:
    kinds = {"from": str, "n_samples": int, "ids": str}
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in kinds.items())


def _is_methods(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, list) and [type(part) for part in each] == [str, dict] for each in value.values()
    )


CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str),
    "data": _is_data,
    "methods": _is_methods,
    "metrics": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "protocol": lambda value: isinstance(value, dict),
}
"""The checks of a manifest's parts, by key: the form in which the pages read them."""


def evaluation_view(opened: OpenedRun, model: str | None = None, named: Collection[str] = ()) -> RunView:
    """Return the view of an evaluation.

    Raises:
        SourceError: it is no evaluation, a newer one, or a broken one.
        InputError: it has not measured anything yet.
    """
    evaluation = open_evaluation(opened)
    manifest, board = evaluation.manifest, leaderboard_of(evaluation)
    explainable = explainable_of(
        partial(_images, evaluation), manifest["model"], manifest.get("weights"), "Maps are not shown",
        model=model, named=named,
    )  # fmt: skip
    skipped = f", {len(evaluation.skipped)} left out" if evaluation.skipped else ""
    made = {
        "data": manifest["data"]["from"],
        "methods": ", ".join(manifest["methods"]),
        **{key: value for key, value in manifest["protocol"].items() if not isinstance(value, list)},
        "SHA-256 of the weights": manifest.get("weights", "unknown"),
        **versions(),
    }
    return RunView(
        name=opened.folder.resolve().name,
        model=manifest["model"],
        question=f"Which explanation of {manifest['model'].partition('@')[0]} can be trusted?",
        count=f"{len(evaluation.ids)} images{skipped}",
        above=f"<h2>Leaderboard</h2>{leaderboard_table(board)}{_left_out(manifest)}{along_charts(board)}",
        below=f"<h2>How it was made</h2>{facts(made)}",
        samples=tuple(_samples(evaluation, explainable)),
        methods={label: (name, settings) for label, (name, settings) in manifest["methods"].items()},
        maps=partial(_maps_anew, manifest["methods"], explainable),
        orders=("faithfulness", "disagreement", "wrong", "position"),
        explainable=explainable,
    )


def _left_out(manifest: Mapping[str, Any]) -> str:
    """Return a note on the run's methods and metrics that are not known here, or ""."""
    methods = {name for name, _ in manifest["methods"].values() if name not in METHODS}
    unknown = sorted({*methods, *(name for name in manifest["metrics"] if name not in METRICS)})
    if not unknown:
        return ""
    return (
        f'<p class="quiet">Not known here: {text(", ".join(unknown))}. They are of a newer distillgrad, or '
        "of a module, which may run code: name it with --import to see the metrics and the methods' maps.</p>"
    )


def open_evaluation(opened: OpenedRun) -> Evaluation:
    """Return the values of an evaluation so far; raises as :func:`evaluation_view` does."""
    run, manifest = opened.folder, opened.manifest
    name = run.resolve().name
    missing = [
        each for each in ("format", "model", "data", "methods", "metrics", "protocol") if each not in manifest
    ]
    if missing:
        raise SourceError(f"{name} holds no evaluation: its manifest lacks {', '.join(missing)}")
    if not isinstance(manifest["format"], int) or manifest["format"] > FORMAT:
        raise SourceError(
            f"{name} was written in format {manifest['format']}, this distillgrad reads up to {FORMAT}: "
            "upgrade it"
        )
    if not any((run / "parts").glob("*.json")):
        raise SourceError(f"{name} has no finished part yet: let 'distillgrad evaluate' go on")
    wrong = [each for each, is_right in CHECKS.items() if not is_right(manifest[each])]
    if wrong:
        raise SourceError(f"{name} holds a manifest in another layout: {', '.join(wrong)}")
    evaluation = read_evaluation(run, manifest)
    if not all(evaluation.values.values()) or not evaluation.values:
        raise SourceError(f"{name} holds no values: 'distillgrad evaluate' makes a run that does")
    return evaluation


def _samples(evaluation: Evaluation, explainable: Explainable) -> list[RunSample]:
    values = {
        metric: {name: per_sample(each) for name, each in evaluation.values[metric].items()}
        for metric in metrics_in(evaluation)
    }
    samples = []
    for place, (name, target, label) in enumerate(
        zip(evaluation.ids, evaluation.targets, evaluation.labels, strict=True)
    ):
        of_sample = {
            metric: {method: float(each[place]) for method, each in by_method.items()}
            for metric, by_method in values.items()
        }
        known = [each for each in next(iter(of_sample.values()), {}).values() if np.isfinite(each)]
        samples.append(
            RunSample(
                id=name,
                position=place,
                target=target,
                predicted=target,
                label=None if label is None else explainable.class_name(label),
                wrong=None if label is None else label != target,
                spread=max(known) - min(known) if known else float("nan"),
                values=of_sample,
            )
        )
    return samples


def _images(evaluation: Evaluation) -> ImageData:
    made_from = evaluation.manifest["data"]
    data = data_of_run(made_from["from"], value_range=made_from.get("value_range"))
    if not set(evaluation.ids) <= set(data.ids):
        ids = "\n".join(data.ids[: made_from["n_samples"]])
        known = hashlib.sha256(ids.encode()).hexdigest() == made_from["ids"]
        raise SourceError("images are missing" if known else "the images are not those of the run")
    return data


def _maps_anew(methods: Mapping[str, Any], explainable: Explainable, sample: RunSample) -> dict[str, Map]:
    """Return the map by each method of the run. Cost: an explanation by each."""
    image = explainable.image(sample)
    if image is None or explainable.loaded is None:
        raise SourceError(explainable.reason or f"the image {sample.id} is not what it was, or gone")
    inputs = seen_by(explainable.loaded, image)
    return {
        label: map_by(create_method(name, explainable.loaded.model, **settings), inputs, sample.target)
        for label, (name, settings) in methods.items()
        if name in METHODS  # others are of a newer distillgrad
    }
