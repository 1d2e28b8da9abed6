"""Evaluations on disk: the request in the manifest, and each batch's values in a file of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.errors import InputError, SourceError
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.metrics.base import Protocol
from distillgrad.runs.manifest import MANIFEST, read_json
from distillgrad.runs.request import as_read_back, kept_at, merged, to_manifest
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData
from distillgrad.sources.value_range import ValueRange
from distillgrad.sources.weights import fingerprint

FORMAT = 1


@dataclass(frozen=True)
class EvaluationRequest:
    """A request of an evaluation; the same one goes on where an interrupted run ended.

    Attributes:
        methods: By label, the method's name and parameters.
        metrics: Names in ``METRICS``.
        only_correct: Leave out what the model gets wrong; needs labels.
        batch_size: Images that are explained together, and lost together when a run is killed.
        accelerated: Use an equivalent, faster model, which rounds otherwise.
        precision: That of the faster model; methods that look at layers have the model itself.
        value_range: The values of the files that are shown black and white; ``None``: as their type says.
    """

    model: str
    data: str = field(metadata=kept_at("data", "from"))
    methods: MethodSpecs
    metrics: tuple[str, ...] = ("lerf", "morf", "area_between")
    protocol: Protocol = field(default_factory=Protocol)
    only_correct: bool = False
    batch_size: int = 8
    accelerated: bool = False
    precision: Precision = "float32"
    value_range: ValueRange | None = field(default=None, metadata=kept_at("data", "value_range"))


@dataclass(frozen=True)
class Evaluation:
    """The measurements of a run.

    Attributes:
        ids: Those of the samples, in the data's order.
        targets: The explained (predicted) classes.
        labels: The true ones, ``None`` where unknown.
        skipped: Id and reason of each sample that was left out.
        values: By metric (or curve) and method, ``(B,)`` or ``(B, len(axis))``; NaN where undefined.
        axes: By metric, the fractions, strengths or stages along its values' second axis.
        seconds: By method, the time of attribution per image on the machine that ran it.
        manifest: The request and the circumstances.
    """

    ids: tuple[str, ...]
    targets: tuple[int, ...]
    labels: tuple[int | None, ...]
    skipped: tuple[tuple[str, str], ...]
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]
    axes: Mapping[str, tuple[float | str, ...]]
    seconds: Mapping[str, float]
    manifest: Mapping[str, Any]


def read_evaluation(run: Path, manifest: Mapping[str, Any] | None = None) -> Evaluation:
    """Return the measurements of a run so far, from its folder.

    Args:
        manifest: The run's, where it has been read already.
    Raises:
        SourceError: no run is there, or a part of it is broken.
    """
    parts = sorted((run / "parts").glob("*.json"))
    return assembled(parts, read_json(run / MANIFEST) if manifest is None else manifest)


def part_of(out: Path, places: range) -> Path:
    """Return the file of a batch's values."""
    return out / "parts" / f"{places.start:08d}-{places.stop:08d}.json"


def evaluation_manifest(loaded: LoadedModel, data: ImageData, request: EvaluationRequest) -> dict[str, Any]:
    """Return all that a run's numbers depend on, as JSON reads it back."""
    facts = {
        "format": FORMAT,
        "model": request.model,  # before the weights, as runs have it since the first
        "weights": fingerprint(loaded.model),
    }
    ids = hashlib.sha256("\n".join(data.ids).encode()).hexdigest()
    images = {"data": {"n_samples": len(data), "ids": ids}}
    return as_read_back(merged(facts, to_manifest(request), images))


def assembled(paths: Sequence[Path], manifest: Mapping[str, Any]) -> Evaluation:
    """Return the parts end to end.

    Raises:
        InputError: no sample is in them.
        SourceError: one of them is broken.
    """
    try:
        return _put_together([read_json(path) for path in paths], manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise SourceError(f"{paths[0].parent} holds a part in another layout: {error!r}") from error


def _put_together(parts: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> Evaluation:
    samples = [row for part in parts for row in part["samples"]]
    skipped = tuple((name, reason) for part in parts for name, reason in part["skipped"])
    if not samples:
        reason = f"; the first: {skipped[0][0]} ({skipped[0][1]})" if skipped else ""
        raise InputError(f"no sample is left to evaluate: {len(skipped)} were left out{reason}")
    filled = [part for part in parts if part["samples"]]
    values: dict[str, dict[str, NDArray[np.float64]]] = {}
    for metric, content in filled[0]["values"].items():
        values[metric] = {
            label: np.array(
                [row for part in filled for row in part["values"][metric]["methods"][label]], np.float64
            )
            for label in content["methods"]
        }
    return Evaluation(
        ids=tuple(row["id"] for row in samples),
        targets=tuple(row["target"] for row in samples),
        labels=tuple(row["label"] for row in samples),
        skipped=skipped,
        values=values,
        axes={metric: tuple(content["axis"]) for metric, content in filled[0]["values"].items()},
        seconds={
            label: sum(part["seconds"][label] for part in filled) / len(samples)
            for label in filled[0]["seconds"]
        },
        manifest=manifest,
    )
