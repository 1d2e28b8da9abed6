"""Runs of attributions over whole data sets: planned in shards, computed by an engine, resumed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.errors import ParameterError, SourceError
from distillgrad.methods.parsing import MethodSpecs, parse_methods
from distillgrad.runs.attribution.arrays import ARRAYS
from distillgrad.runs.attribution.damage import expect_sound, take_back
from distillgrad.runs.attribution.job import AttributionJob, Shards, job_of
from distillgrad.runs.attribution.progress import Progress, Summary
from distillgrad.runs.attribution.reading import AttributionRun, open_run
from distillgrad.runs.attribution.request import (
    AttributionRequest,
    attribution_manifest,
    check_request,
    read_manifest,
)
from distillgrad.runs.attribution.said import Said, merged_words
from distillgrad.runs.attribution.store import (
    COMPLETE,
    SHARDS,
    Entry,
    assemble,
    finished_shards,
    prepare,
    read_part,
)
from distillgrad.runs.attribution.worker import ShardWorker
from distillgrad.runs.engines.engine import Engine
from distillgrad.runs.engines.interruption import interruptible
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.files import is_temporary
from distillgrad.runs.folders import LOCK, LocalFolder, RunFolder, alone_in, folder_at, swept
from distillgrad.runs.manifest import MANIFEST, refuse_another, refuse_foreign
from distillgrad.runs.model import fast_model, model_on
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.labels import check_labels
from distillgrad.sources.open_data import ImageData, open_data
from distillgrad.sources.value_range import ValueRange

_log = logging.getLogger(__name__)

NAMED_FAILURES = 3


def attribute_data(
    model: LoadedModel | str,
    data: ImageData | str | Path,
    methods: MethodSpecs | str = "dga",
    *,
    out: str | Path = "run",
    target: str = "predicted",
    limit: int | None = None,
    value_range: ValueRange | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int | None = None,
    shard_size: int | None = None,
    seed: int = 0,
    accelerated: bool = True,
    precision: Precision = "float32",
    device: str | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
    strict: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> AttributionRun:
    """Return the attributions of every image of a data set, which are kept in ``out``.

    The same call goes on where an interrupted one ended; ``distillgrad.open_run`` opens the run again.

    Args:
        model: A loaded classifier, or the name by which ``load_model`` finds one.
        data: Images, or the place where ``open_data`` finds some; those that cannot be read are failures.
        methods: As at the command line, ``"dga,smoothgrad(n_samples=31)"``; or by label, name and parameters.
        out: A folder or an fsspec URL; new, empty, or a run of the same request.
        target: The explained class: ``"predicted"``, the image's ``"label"``, or a class's name or number.
        limit: The most images; by default all.
        value_range: The values of the files that are shown black and white, ``(low, high)``; by default as
            ``read_image`` says.
        dtype: The type of the maps that are kept.
        batch_size, shard_size: Images explained, and written, at a time; by default as suits the machine.
        seed: Set before each batch, for models that draw.
        accelerated: Use an equivalent, faster model, which rounds otherwise; ``precision``: that model's.
        device: The model's, ``"cpu"`` or ``"cuda"``; by default where it is.
        engine: Computes the shards; by default in this process.
        threads: Those that a shard is computed with; by default as the engine has them.
        strict, on_progress: As for :func:`run_attribution`.
    Raises:
        ParameterError: ``out`` holds a run of another request (says what differs), or something else.
        UnknownNameError: no such model, method or class; names the nearest.
        InputError: no image, or no labels to explain.
        SourceError: the data or the weights are not to be had; the run cannot be written.
        ModelError: not one image of the first batch could be explained.
    Cost: each method's for every image.
    """
    loaded = model_on(model, device)
    images = data if isinstance(data, ImageData) else open_data(data, limit=limit, keep_broken=True)
    if value_range is not None:
        images = images.shown_from(value_range)
    if limit is not None and limit < len(images):
        images = images.part(range(limit))
    request = AttributionRequest(
        model=model if isinstance(model, str) else loaded.name,
        data=images.name if isinstance(data, ImageData) else str(data),
        methods=parse_methods(methods) if isinstance(methods, str) else methods,
        target=target,
        dtype=dtype,
        batch_size=batch_size,
        shard_size=shard_size,
        threads=threads,
        seed=seed,
        accelerated=accelerated,
        precision=precision,
        value_range=images.value_range,
        device=loaded.device.type,
    )
    fast = fast_model(loaded, accelerated, precision)
    run_attribution(
        loaded, images, request, str(out), engine or LocalEngine(),
        fast=fast, strict=strict, on_progress=on_progress,
    )  # fmt: skip
    return open_run(out)


def run_attribution(
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    out: str,
    engine: Engine,
    *,
    fast: nn.Module | None = None,
    strict: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Explain every image of ``data`` into the run at ``out`` (:mod:`~distillgrad.runs.attribution.store`).

    Shards are planned by the data's order alone, so whatever the engine, the order and the interruptions,
    the files end up the same, byte for byte. An image that fails goes to the failures with its reason.
    Ctrl-C finishes the shards in hand; the same request goes on.

    Args:
        loaded: The model, on the request's device.
        data: Opened with ``keep_broken``, so that nothing is left out in silence.
        out: A folder or an fsspec URL; new, empty, or a run of the same request.
        fast: Its equivalent, where the request is accelerated and it is made already.
        strict: End the run at the first image that fails.
    Raises:
        ParameterError: ``out`` holds something else, a run of another request (says what differs), or
            one that another process works on.
        SourceError: ``strict``, and an image failed; or the run cannot be written.
        ModelError: not one image of the first batch could be explained.
    """
    check_request(request, data)
    check_labels(loaded, data, needed=request.target == "label")
    folder = folder_at(out)
    _refuse_foreign(folder)  # before anything is written there
    with alone_in(folder), interruptible() as stopped, ExitStack() as until_the_end:
        manifest = _begin(folder, loaded, data, request, fast or loaded.model, engine.default_threads)
        until_the_end.enter_context(swept(folder, (SHARDS, ARRAYS)))
        job = job_of(manifest, folder.url, strict)
        for damage in take_back(folder, job.layout):
            _log.warning("mended: %s", damage)
        prepare(folder, job.layout, _entries(data))
        finished: set[int] = set()
        failures: list[Entry] = []  # the first; a run may have as many as images
        n_done = n_failed = 0
        words: list[Mapping[str, Said]] = []
        for shard, failed, said in _finished(folder, job):
            finished.add(shard)
            words.append(said)
            n_done += len(job.layout.places(shard))
            n_failed += len(failed)
            failures = [*failures, *failed][:NAMED_FAILURES]
        on_progress(Progress(n_done, n_failed))
        missing = tuple(number for number in range(job.layout.n_shards) if number not in finished)
        pending = Shards(missing, job.layout, data)
        n_reported = n_done

        def on_images(amount: int) -> None:
            nonlocal n_reported
            n_reported += amount
            on_progress(Progress(n_reported, n_failed))

        if pending:
            here = partial(ShardWorker, job, loaded, fast, on_images)
            elsewhere = partial(ShardWorker, job)
            with engine.workers(elsewhere, here=here, cpus=job.threads) as workers:
                for _, report in workers.map(pending, stopped):
                    finished.add(report.number)
                    words.append(report.said)
                    n_failed += len(report.failures)
                    n_done += report.n_explained + len(report.failures)
                    failures = [*failures, *report.failures][:NAMED_FAILURES]
                    on_progress(Progress(max(n_reported, n_done), n_failed, report.failures))
        complete = len(finished) == job.layout.n_shards
        if complete and (pending or not folder.has(COMPLETE)):
            assemble(folder, job.layout)
    n_explained = n_done - n_failed
    return Summary(out, len(data), n_explained, n_failed, complete, tuple(failures), merged_words(words))


def _finished(
    folder: RunFolder, job: AttributionJob
) -> Iterator[tuple[int, list[Entry], Mapping[str, Said]]]:
    """Yield the shards that are there and sound, each with its failures and what was said of its maps.

    Cost: reads all of their files.

    Raises:
        SourceError: the job is strict, and an image failed.
    """
    for shard in sorted(finished_shards(folder)):
        if shard >= job.layout.n_shards:
            continue
        try:
            entries, checksums, said = read_part(folder, shard)
            if [each.index for each in entries] != list(job.layout.places(shard)):
                raise SourceError(f"shard {shard} of {folder.url} holds other images than its own")
            expect_sound(folder, checksums)
        except SourceError as error:
            _log.warning("computed again: %s", error)
            continue
        failed = [each for each in entries if each.failed_at]
        if job.strict and failed:
            raise SourceError(f"{failed[0].id}: {failed[0].reason} (--strict)")
        yield shard, failed, said


def _begin(
    folder: RunFolder,
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    model: nn.Module,
    default_threads: int,
) -> dict[str, Any]:
    before = _refuse_foreign(folder)
    if before is None:
        manifest = attribution_manifest(loaded, data, request, model, default_threads)
        folder.put(MANIFEST, json.dumps(manifest, indent=2).encode())
        return manifest
    now = attribution_manifest(loaded, data, request, model, default_threads, before)
    refuse_another(
        folder.url, {**before, "written_with": None}, {**now, "written_with": None}, AttributionRequest
    )
    return before


def _refuse_foreign(folder: RunFolder) -> dict[str, Any] | None:
    """Return the manifest of the run that is there, ``None`` where there is nothing.

    Raises:
        ParameterError: something else is there.
    """
    if folder.has(MANIFEST):
        try:
            return read_manifest(folder)
        except SourceError as error:
            raise ParameterError(f"{error}; give another folder") from error
    refuse_foreign(folder.url, _visible_in(folder) if isinstance(folder, LocalFolder) else folder.names())
    return None


def _visible_in(folder: LocalFolder) -> list[str]:
    """Return all names but the traces of a run that was killed before its manifest was written."""
    paths = folder.root.iterdir() if folder.root.is_dir() else ()
    return [each.name for each in paths if each.name != LOCK and not is_temporary(each)]


def _entries(data: ImageData) -> Iterator[Entry]:
    for index, (name, label) in enumerate(zip(data.ids, data.labels, strict=True)):
        yield Entry(index, name, None if label is None else str(label))
