"""Runs of attributions over whole data sets: planned in shards, computed by an engine, resumed."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from distillgrad.errors import ParameterError, SourceError
from distillgrad.runs.attribution.job import AttributionJob, Shards, job_of
from distillgrad.runs.attribution.request import (
    AttributionRequest,
    attribution_manifest,
    check_request,
    read_manifest,
)
from distillgrad.runs.attribution.store import (
    ARRAYS,
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
from distillgrad.runs.files import is_temporary
from distillgrad.runs.folders import LOCK, LocalFolder, RunFolder, alone_in, folder_at, swept
from distillgrad.runs.manifest import MANIFEST, refuse_another, refuse_foreign
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData

_log = logging.getLogger(__name__)

NAMED_FAILURES = 3


@dataclass(frozen=True)
class Progress:
    """The progress of a run: images that are done, those among them that failed, a shard's new failures."""

    n_done: int
    n_failed: int
    failures: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Summary:
    """The end of a run: complete, or stopped after a shard."""

    out: str
    n_entries: int
    n_explained: int
    n_failed: int
    complete: bool
    first_failures: tuple[Entry, ...] = field(default=())

    def record(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return {**vars(self), "first_failures": [each.record() for each in self.first_failures]}


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
        strict: Whether an image that fails ends the run.
    Raises:
        ParameterError: ``out`` holds something else, a run of another request (says what differs), or
            one that another process works on.
        SourceError: ``strict``, and an image failed; or the run cannot be written.
        ModelError: not one image of the first batch could be explained.
    """
    check_request(request, data)
    folder = folder_at(out)
    _refuse_foreign(folder)  # before anything is written there
    with alone_in(folder), _interruptible() as stopped, ExitStack() as until_the_end:
        manifest = _begin(folder, loaded, data, request, fast or loaded.model, engine.default_threads)
        until_the_end.enter_context(swept(folder, (SHARDS, ARRAYS)))
        job = job_of(manifest, folder.url, strict)
        prepare(folder, job.layout, _entries(data))
        finished: set[int] = set()
        failures: list[Entry] = []  # the first; a run may have as many as images
        n_done = n_failed = 0
        for shard, failed in _finished(folder, job):
            finished.add(shard)
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
                    n_failed += len(report.failures)
                    n_done += report.n_explained + len(report.failures)
                    failures = [*failures, *report.failures][:NAMED_FAILURES]
                    on_progress(Progress(max(n_reported, n_done), n_failed, report.failures))
        complete = len(finished) == job.layout.n_shards
        if complete and (pending or not folder.has(COMPLETE)):
            assemble(folder, job.layout)
    return Summary(out, len(data), n_done - n_failed, n_failed, complete, tuple(failures))


def _finished(folder: RunFolder, job: AttributionJob) -> Iterator[tuple[int, list[Entry]]]:
    """Yield the shards that are there and sound, each with its failures.

    Raises:
        SourceError: the job is strict, and an image failed.
    """
    for shard in sorted(finished_shards(folder)):
        if shard >= job.layout.n_shards:
            continue
        try:
            entries = read_part(folder, shard)[0]
            if [each.index for each in entries] != list(job.layout.places(shard)):
                raise SourceError(f"shard {shard} of {folder.url} holds other images than its own")
        except SourceError as error:
            _log.warning("computed again: %s", error)
            continue
        failed = [each for each in entries if each.failed_at]
        if job.strict and failed:
            raise SourceError(f"{failed[0].id}: {failed[0].reason} (--strict)")
        yield shard, failed


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


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts as usual."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.getsignal(signal.SIGINT)

    def on_signal(*_: Any) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
