"""An evaluation: images, explained by methods, measured by metrics; resumable, every sample's values kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods.base import Method
from distillgrad.runs.engines.engine import Engine
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.evaluation.record import Evaluation, Request, assembled, manifest_of, part_of
from distillgrad.runs.evaluation.worker import Batch, BatchWorker, EvaluationJob, measurements_of, needs_masks
from distillgrad.runs.manifest import begin
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.models import portable_spec
from distillgrad.sources.open_data import ImageData


def n_units(request: Request, n_samples: int) -> int:
    """How often ``on_unit`` will be called with one image each: for each method and measurement."""
    return n_samples * (len(request.methods) + len(measurements_of(request.metrics)))


def evaluate(
    loaded: LoadedModel,
    data: ImageData,
    request: Request,
    out: Path,
    *,
    fast: Model | None = None,
    known: Mapping[str, type[Method]] = MappingProxyType({}),
    on_unit: Callable[[int], None] = lambda _: None,
    engine: Engine | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Explains the images of ``data`` and measures the explanations, batch by batch, into ``out``.

    The explained class is the predicted one. A batch's values are written when it is done, whole or not at
    all; a second call with the same request computes only the batches that are not there.

    Args:
        fast: An equivalent of ``loaded.model`` for whatever does not look at its layers.
        known: Methods of the request that :func:`~distillgrad.methods.find_method` does not know.
        on_unit: Called with a number of images whenever a method or measurement is done with them.
        engine: Where the batches are computed; by default in this process.
        threads: That a batch is computed with; by default as the engine has them.
        device: Of workers in other processes.
    Raises:
        ParameterError: ``out`` holds a run of another request; says what differs.
        InputError: labels or masks that the data does not have; no sample left.
        ModelError: a method or metric failed; names it and the samples.
    """
    _check(request, data)
    engine = engine or LocalEngine()
    threads = threads or engine.default_threads
    manifest = manifest_of(loaded, data, request)
    begin(out, manifest)
    job = EvaluationJob(
        model=portable_spec(request.model),
        weights=manifest["weights"],
        request=request,
        out=out.absolute(),
        device=device,
        threads=threads,
        known=dict(known),
    )
    starts = range(0, len(data), request.batch_size)
    batches = [range(start, min(start + request.batch_size, len(data))) for start in starts]
    pending = [Batch(places, data.part(places)) for places in batches if not part_of(out, places).is_file()]
    n_done = n_shown = 0

    def show(amount: int) -> None:
        nonlocal n_shown
        n_shown += amount
        on_unit(amount)

    def done(n_images: int) -> None:
        """What workers in other processes do not show in between."""
        nonlocal n_done
        n_done += n_units(request, n_images)
        if n_done > n_shown:
            show(n_done - n_shown)

    done(len(data) - sum(len(each.places) for each in pending))
    if pending:
        here = partial(BatchWorker, job, loaded, fast or loaded.model, show)
        with engine.workers(partial(BatchWorker, job), here=here, cpus=threads) as workers:
            for batch, _ in workers.map(pending):
                done(len(batch.places))
    return assembled([part_of(out, places) for places in batches], manifest)


def _check(request: Request, data: ImageData) -> None:
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
