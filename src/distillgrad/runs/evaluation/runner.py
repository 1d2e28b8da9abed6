"""Runs of evaluations: images explained by methods and measured by metrics, resumable, every value kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods.base import Method
from distillgrad.methods.parsing import MethodSpecs, parse_methods
from distillgrad.metrics.base import Protocol
from distillgrad.runs.engines.engine import Engine
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.evaluation.leaderboard import Leaderboard, leaderboard_of
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
from distillgrad.runs.manifest import begun
from distillgrad.runs.model import fast_model, model_on
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.labels import check_labels
from distillgrad.sources.models import portable_spec
from distillgrad.sources.open_data import ImageData, open_data
from distillgrad.sources.value_range import ValueRange


def evaluate_data(
    model: LoadedModel | str,
    data: ImageData | str | Path,
    methods: MethodSpecs | str = "dga,fullgrad,gradient_x_input,guided_backprop,integrated_gradients,random",
    metrics: Sequence[str] | str = "lerf,morf,area_between",
    *,
    out: str | Path = "evaluation",
    protocol: Protocol | None = None,
    limit: int | None = None,
    value_range: ValueRange | None = None,
    only_correct: bool = False,
    batch_size: int = 8,
    accelerated: bool = True,
    precision: Precision = "float32",
    reference: str | None = None,
    device: str | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
    on_unit: Callable[[int], None] = lambda _: None,
) -> Leaderboard:
    """Return the leaderboard of methods that explain a model's predictions on your images.

    Every sample's values are in ``out``, and in ``.evaluation`` of the result. The same call goes on where
    an interrupted one ended.

    Args:
        model: A loaded classifier, or the name by which ``load_model`` finds one.
        data: Images, or the place where ``open_data`` finds some.
        methods: As at the command line, ``"dga,smoothgrad(n_samples=31)"``; or by label, name and parameters.
        metrics: Names of metrics, or these with commas between them.
        out: The folder of the run.
        protocol: Steps of the curves, replacement of removed pixels, and what else metrics leave open.
        limit: The most images; by default all.
        value_range: The values of the files that are shown black and white, ``(low, high)``; by default as
            ``read_image`` says.
        only_correct: Leave out what the model gets wrong; needs labels.
        batch_size: Images that are explained together, and lost together when a run is killed.
        accelerated: Use an equivalent, faster model, which rounds otherwise; ``precision``: that model's.
        reference: The method that the others are compared to; by default each metric's best.
        device: The model's, ``"cpu"`` or ``"cuda"``; by default where it is.
        engine, threads, on_unit: As for :func:`run_evaluation`.
    Raises:
        ParameterError: ``out`` holds a run of another request (says what differs); a setting out of range.
        UnknownNameError: no such model, method or metric; names the nearest.
        InputError: labels or masks that the data does not have; no sample left.
        SourceError: the data or the weights are not to be had; the run cannot be written.
        ModelError: a method or metric failed; names it and the samples.
    Cost: each method's for every image, and each metric's for every method and image.
    """
    loaded = model_on(model, device)
    images = data if isinstance(data, ImageData) else open_data(data, limit=limit)
    if value_range is not None:
        images = images.shown_from(value_range)
    if limit is not None and limit < len(images):
        images = images.part(range(limit))
    names = metrics.replace(" ", "").split(",") if isinstance(metrics, str) else metrics
    request = EvaluationRequest(
        model=model if isinstance(model, str) else loaded.name,
        data=images.name if isinstance(data, ImageData) else str(data),
        methods=parse_methods(methods) if isinstance(methods, str) else methods,
        metrics=tuple(dict.fromkeys(filter(None, names))),
        protocol=protocol or Protocol(),
        only_correct=only_correct,
        batch_size=batch_size,
        accelerated=accelerated,
        precision=precision,
        value_range=images.value_range,
    )
    evaluation = run_evaluation(
        loaded, images, request, Path(out), fast=fast_model(loaded, accelerated, precision), on_unit=on_unit,
        engine=engine, threads=threads, device=loaded.device.type,
    )  # fmt: skip
    return leaderboard_of(evaluation, reference=reference)


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
    known: Mapping[str, type[Method]] = MappingProxyType({}),
    on_unit: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Explain the images of ``data`` and measure the explanations, batch by batch, into ``out``.

    The explained class is the predicted one. A batch's values are written when it is done, whole or not at
    all; a second call with the same request computes only the batches that are not there.

    Args:
        fast: An equivalent of ``loaded.model``, where the request is accelerated and it is made already.
        known: Methods of the request that :func:`~distillgrad.methods.find_method` does not know.
        on_unit: Called with a number of images whenever a method or measurement is done with them.
        engine: Computes the batches; by default in this process.
        threads: Those that a batch is computed with; by default as the engine has them.
        device: The one of workers in other processes.
    Raises:
        ParameterError: ``out`` holds a run of another request; says what differs.
        InputError: labels or masks that the data does not have; labels that the model does not know, but
            they are needed; no sample left.
        ModelError: a method or metric failed; names it and the samples.
    """
    _check(request, data)
    check_labels(loaded, data, needed=request.only_correct)
    engine = engine or LocalEngine()
    threads = threads or engine.default_threads
    manifest = evaluation_manifest(loaded, data, request)
    with begun(out, manifest, EvaluationRequest):
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
            EvaluationUnit(places, data.part(places))
            for places in batches
            if not part_of(out, places).is_file()
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
            here = partial(EvaluationWorker, job, loaded, fast, report)
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
