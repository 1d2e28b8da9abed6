"""Runs of evaluations: images explained by methods and measured by metrics, resumable, every value kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods import METHODS
from distillgrad.methods.base import Method
from distillgrad.runs.engines.engine import Engine
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.evaluation.record import (
    Evaluation,
    EvaluationRequest,
    assembled,
    evaluation_manifest,
    part_of,
)
from distillgrad.runs.evaluation.worker import (
    EvaluationJob,
    EvaluationUnit,
    EvaluationWorker,
    measurements_of,
    needs_masks,
)
from distillgrad.runs.manifest import begin
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.models import portable_spec
from distillgrad.sources.open_data import ImageData


def n_units(request: EvaluationRequest, n_samples: int) -> int:
    """Return how many images ``on_unit`` will be told of in all: each for every method and measurement."""
    return n_samples * (len(request.methods) + len(measurements_of(request.metrics)))


def run_evaluation(
    loaded: LoadedModel,
    data: ImageData,
    request: EvaluationRequest,
    out: Path,
    *,
    fast: Model | None = None,
    known: Mapping[str, type[Method]] = METHODS,
    on_unit: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Explain the images of ``data`` and measure the explanations, batch by batch, into ``out``.

    The explained class is the predicted one. A batch's values are written when it is done, whole or not at
    all; a second call with the same request computes only the batches that are not there.

    Args:
        fast: An equivalent of ``loaded.model`` for whatever does not look at its layers.
        known: The methods among which the request's are looked up: ``METHODS``, and perhaps your own.
        on_unit: Called with a number of images whenever a method or measurement is done with them.
        engine: Computes the batches; by default in this process.
        threads: Those that a batch is computed with; by default as the engine has them.
        device: The one of workers in other processes.
    Raises:
        ParameterError: ``out`` holds a run of another request; says what differs.
        InputError: labels or masks that the data does not have; no sample left.
        ModelError: a method or metric failed; names it and the samples.
    """
    _check(request, data)
    engine = engine or LocalEngine()
    threads = threads or engine.default_threads
    manifest = evaluation_manifest(loaded, data, request)
    begin(out, manifest, EvaluationRequest)
    job = EvaluationJob(
        request=replace(request, model=portable_spec(request.model)),
        weights=manifest["weights"],
        out=out.absolute(),
        device=device,
        threads=threads,
        known=dict(known),
    )
    starts = range(0, len(data), request.batch_size)
    batches = [range(start, min(start + request.batch_size, len(data))) for start in starts]
    pending = [
        EvaluationUnit(places, data.part(places)) for places in batches if not part_of(out, places).is_file()
    ]
    n_done = n_reported = 0

    def report(amount: int) -> None:
        nonlocal n_reported
        n_reported += amount
        on_unit(amount)

    def done(n_images: int) -> None:
        """Report what workers in other processes do not report in between."""
        nonlocal n_done
        n_done += n_units(request, n_images)
        if n_done > n_reported:
            report(n_done - n_reported)

    done(len(data) - sum(len(each.places) for each in pending))
    if pending:
        here = partial(EvaluationWorker, job, loaded, fast or loaded.model, report)
        with engine.workers(partial(EvaluationWorker, job), here=here, cpus=threads) as workers:
            for unit, _ in workers.map(pending):
                done(len(unit.places))
    return assembled([part_of(out, places) for places in batches], manifest)


def _check(request: EvaluationRequest, data: ImageData) -> None:
    if not request.methods:
        raise ParameterError("no method is asked for")
    if not measurements_of(request.metrics):
        raise ParameterError("no metric is asked for")
    if request.batch_size < 1:
        raise ParameterError(f"batch_size must be at least 1, not {request.batch_size}")
    if not len(data):
        raise InputError(f"{data.name} holds no image")
    if request.only_correct and all(label is None for label in data.labels):
        raise InputError(
            f"{data.name} has no labels, by which the model could be right: sort the images into class "
            "folders, add an index.csv, or evaluate all of them"
        )
    if needs_masks(request.metrics):
        without = [each for each, box in zip(data.ids, data.boxes, strict=True) if box is None]
        if without:
            raise InputError(
                f"{data.name} has no box for {len(without)} of {len(data)} images (the first: {without[0]}), "
                "which 'pointing_game' and 'mass_inside' need: add x0, y0, x1, y1 to its index.csv"
            )
