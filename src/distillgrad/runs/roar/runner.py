"""Runs of ROAR: train, attribute, remove, retrain, compare; a unit is one method at one fraction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distillgrad.metrics.roar import Roar, check_request
from distillgrad.runs.engines.engine import Engine, Workers
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.files import written_whole
from distillgrad.runs.manifest import begun
from distillgrad.runs.request import as_read_back, merged, to_manifest
from distillgrad.runs.roar.worker import (
    ExplanationUnit,
    RetrainingUnit,
    RoarJob,
    RoarRequest,
    RoarWorker,
    Split,
    TrainingUnit,
    read_accuracies,
    read_ranks,
)
from distillgrad.sources.roar_data import Subject, portable_data

__all__ = ["RoarRequest", "n_units", "roar"]

FORMAT = 1
ROWS_PER_UNIT = 1_024
"""Explained together, and lost together when a run is killed: whole batches of a worker."""


def n_units(request: RoarRequest) -> int:
    """Return how often ``on_unit`` will be called: plain training, each method's attributions, each unit."""
    n_explanations = len({*request.methods, "random"})
    return 1 + len(request.methods) + n_explanations * len(request.fractions)


def roar(
    subject: Subject,
    request: RoarRequest,
    out: Path,
    *,
    device: torch.device | str | None = None,
    on_unit: Callable[[str], None] = lambda _: None,
    engine: Engine | None = None,
    threads: int | None = None,
) -> dict[str, Roar]:
    """Return test accuracies by explanation, as :func:`~distillgrad.metrics.roar.remove_and_retrain` does.

    First the trials of plain training (the control ``"none"``), the first of which is the network that is
    explained, for what it predicts; then each method's ranks of all train and test images; then the units.
    Each is written when it is done, whole or not at all; a second call computes only what is not there.

    Args:
        device: Trains and explains; by default the CPU.
        on_unit: Called with the name of each unit that is done.
        engine: Computes all of it; by default in this process. Workers in other processes read
            ``request.data`` again, and read and write ``out``.
        threads: Those that a worker computes with; by default as the engine has them.
    Raises:
        ParameterError: ``out`` holds a run of another request; a setting outside its range.
        InputError: a class without a train image.
        ModelError: a method failed on the network; names it.
        SourceError: a file of the run is broken, or cannot be written.
    """
    engine = engine or LocalEngine()
    check_request(
        subject.make_network, subject.train, subject.test, {}, request.fractions, request.replacement
    )
    manifest = roar_manifest(subject, request)
    with begun(out, manifest, RoarRequest):
        job = RoarJob(
            request=replace(request, data=portable_data(request.data)),
            fingerprint=manifest["data"]["images"],
            out=out.absolute(),
            device=str(device or "cpu"),
            threads=threads or engine.default_threads,
        )
        here = partial(RoarWorker, job, subject)
        units = [
            RetrainingUnit(label, fraction)
            for label in dict.fromkeys((*request.methods, "random"))
            for fraction in request.fractions
        ]
        with engine.workers(partial(RoarWorker, job), here=here, cpus=job.threads) as workers:
            if not (job.plain.is_file() and job.accuracies("none", 0.0).is_file()):
                list(workers.map([TrainingUnit()]))
            on_unit("none")
            for label in _rank_all(
                job, workers, {"train": len(subject.train[0]), "test": len(subject.test[0])}
            ):
                on_unit(label)
            pending = [each for each in units if not job.accuracies(each.label, each.fraction).is_file()]
            for each in units:
                if each not in pending:
                    on_unit(f"{each.label}, {each.fraction:g}")
            for each, _ in workers.map(pending):
                on_unit(f"{each.label}, {each.fraction:g}")
        return {"none": _read(job, "none", (0.0,))} | {
            label: _read(job, label, request.fractions)
            for label in dict.fromkeys(each.label for each in units)
        }


def _rank_all(job: RoarJob, workers: Workers, sizes: Mapping[Split, int]) -> Iterator[str]:
    """Yield each method when all images are ranked by it."""
    pending = {
        label: [
            ExplanationUnit(label, split, rows)
            for split, size in sizes.items()
            if not job.ranks(label, split).is_file()
            for rows in _row_ranges(size)
        ]
        for label in job.request.methods
    }
    yield from (label for label, units in pending.items() if not units)
    missing = [
        unit
        for units in pending.values()
        for unit in units
        if not job.ranks(unit.label, unit.split, unit.rows).is_file()
    ]
    left = Counter(unit.label for unit in missing)
    whole = [label for label, units in pending.items() if units and not left[label]]
    for label in whole:
        _join(job, pending[label])
        yield label
    for unit, _ in workers.map(missing):
        left[unit.label] -= 1
        if not left[unit.label]:
            _join(job, pending[unit.label])
            yield unit.label


def _row_ranges(size: int) -> list[range]:
    return [range(start, min(start + ROWS_PER_UNIT, size)) for start in range(0, size, ROWS_PER_UNIT)]


def _join(job: RoarJob, units: Sequence[ExplanationUnit]) -> None:
    """Put the parts of a method's ranks together, split by split, and remove them."""
    for split in dict.fromkeys(unit.split for unit in units):
        parts = [job.ranks(unit.label, split, unit.rows) for unit in units if unit.split == split]
        with written_whole(job.ranks(units[0].label, split)) as file:
            np.save(file, torch.cat([read_ranks(part) for part in parts]).numpy(), allow_pickle=False)
        for part in parts:
            part.unlink()


def _read(job: RoarJob, label: str, fractions: Sequence[float]) -> Roar:
    accuracies = [read_accuracies(job.accuracies(label, each), job.request.n_trials) for each in fractions]
    return Roar(torch.tensor(fractions, dtype=torch.float64, device="cpu"), torch.stack(accuracies))


def roar_manifest(subject: Subject, request: RoarRequest) -> dict[str, Any]:
    """Return all that the numbers depend on, as JSON reads it back."""
    resolved = replace(request, **request.training(subject))
    images = {"data": {"images": subject.fingerprint}}
    return as_read_back(merged({"format": FORMAT}, to_manifest(resolved), images))
