"""Attributions of a whole data set: planned in shards, computed by an engine, resumed where they ended."""

from __future__ import annotations

import json
import logging
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol

import torch

from distillgrad import __version__
from distillgrad.core.batch import checked_batch
from distillgrad.core.batch_size import best_batch_size
from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError, SourceError
from distillgrad.methods import METHODS
from distillgrad.runs.files import is_temporary
from distillgrad.runs.folders import LOCK, LocalFolder, RunFolder, alone_in, folder_at, swept
from distillgrad.runs.manifest import MANIFEST, parsed_json, refuse_another
from distillgrad.runs.shards import Job, Shard, ShardReport
from distillgrad.runs.store import (
    ARRAYS,
    COMPLETE,
    SHARDS,
    Entry,
    Layout,
    assemble,
    finished_shards,
    prepare,
    read_part,
    sha256,
)
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.datasets import ImageData
from distillgrad.sources.weights import fingerprint

_log = logging.getLogger(__name__)

FORMAT = 1
KIND = "attributions"
SHARD_BYTES = 32 * 2**20
MOST_PER_SHARD = 256
NUMERIC_PACKAGES = ("torch", "captum", "numpy", "pillow", "torchvision", "timm", "transformers")
"""Their versions may decide a map's last bits, so that a run is not continued with others."""


@dataclass(frozen=True)
class AttributionRequest:
    """What is asked for; the same request goes on where an interrupted one ended.

    Attributes:
        model, data: As :func:`~distillgrad.sources.models.load_model` and ``open_data`` take them.
        methods: By label, the method's name and parameters.
        target: What is explained: ``"predicted"``, the image's ``"label"``, or a class's name or number.
        dtype: Of the maps that are kept.
        batch_size, shard_size, threads: Explained at once, written at once, used to compute; ``None``: as
            the run has them that is resumed, or else as suits the model and the machine.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    model: str
    data: str
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    target: str = "predicted"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int | None = None
    shard_size: int | None = None
    threads: int | None = None
    seed: int = 0
    accelerated: bool = True
    device: str = "cpu"


@dataclass(frozen=True)
class Progress:
    """How far a run is: images that are done, those among them that failed, and a shard's new failures."""

    n_done: int
    n_failed: int
    failures: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Summary:
    """How a run ended: complete, or stopped after a shard."""

    out: str
    n_entries: int
    n_explained: int
    n_failed: int
    complete: bool
    first_failures: tuple[Entry, ...] = field(default=())


class Engine(Protocol):
    """Where shards are computed; yields each one's report, in whatever order, and ends early if told to."""

    def __call__(
        self,
        job: Job,
        shards: Sequence[Shard],
        stopped: threading.Event,
        on_images: Callable[[int], None],
    ) -> Iterator[ShardReport]:
        """Computes all of them."""


def attribute_data(
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    out: str,
    engine: Engine,
    *,
    fast: Model | None = None,
    strict: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Explains every image of ``data`` into the run at ``out``; see :mod:`~distillgrad.runs.store`.

    Shards are planned by the data's order alone, so whatever the engine, the order and the interruptions,
    the files end up the same, byte for byte. An image that fails goes to the failures with its reason.
    Ctrl-C finishes the shards in hand; the same request goes on.

    Args:
        loaded: The model, on the request's device.
        data: Opened with ``keep_broken``, so that nothing is left out in silence.
        out: A folder or an fsspec URL; new, empty, or a run of the same request.
        strict: Whether an image that fails ends the run.
    Raises:
        ParameterError: ``out`` holds something else, a run of another request (says what differs), or
            one that another process works on.
        SourceError: ``strict``, and an image failed; or the run cannot be written.
        ModelError: not one image of the first batch could be explained.
    """
    _check(request, data)
    folder = folder_at(out)
    _refuse_foreign(folder)  # before anything is written there
    with alone_in(folder), _interruptible() as stopped, ExitStack() as until_the_end:
        manifest = _begin(folder, loaded, data, request, fast or loaded.model)
        until_the_end.enter_context(swept(folder, (SHARDS, ARRAYS)))
        job = job_of(manifest, folder.url, strict)
        prepare(folder, job.layout, _entries(data))
        finished = finished_shards(folder)
        n_done = n_failed = 0
        failures: list[Entry] = []
        for shard in sorted(finished):
            try:
                entries = read_part(folder, shard)[0]
            except SourceError as error:
                _log.warning("computed again: %s", error)
                finished.discard(shard)
                continue
            failed = tuple(each for each in entries if each.stage)
            failures += failed[: 3 - len(failures)] if len(failures) < 3 else ()
            n_done, n_failed = n_done + len(entries), n_failed + len(failed)
            if strict and failed:
                raise SourceError(f"{failed[0].id}: {failed[0].reason} (--strict)")
        on_progress(Progress(n_done, n_failed))
        pending = [
            Shard(number, data.part(job.layout.places(number)), first=not number)
            for number in range(job.layout.n_shards)
            if number not in finished
        ]
        shown = n_done

        def on_images(amount: int) -> None:
            nonlocal shown
            shown += amount
            on_progress(Progress(shown, n_failed))

        if pending:
            for report in engine(job, pending, stopped, on_images):
                finished.add(report.number)
                n_failed += len(report.failures)
                n_done += report.n_explained + len(report.failures)
                failures += report.failures[: max(0, 3 - len(failures))]
                on_progress(Progress(max(shown, n_done), n_failed, report.failures))
        complete = len(finished) == job.layout.n_shards
        if complete and (pending or not folder.has(COMPLETE)):
            assemble(folder, job.layout)
    return Summary(out, len(data), n_done - n_failed, n_failed, complete, tuple(failures))


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """What a run was asked for.

    Raises:
        SourceError: no run is there, one of another kind, or of a newer format.
    """
    if not folder.has(MANIFEST):
        raise SourceError(f"no run of attributions at {folder.url}: it has no {MANIFEST}")
    manifest = parsed_json(folder.get(MANIFEST), f"{folder.url}/{MANIFEST}")
    if manifest.get("kind") != KIND:
        raise SourceError(f"{folder.url} holds another kind of run, no attributions of a data set")
    if manifest.get("format", FORMAT) > FORMAT:
        raise SourceError(
            f"{folder.url} was written by a newer distillgrad (format {manifest['format']}; this one reads "
            f"up to {FORMAT}): upgrade distillgrad"
        )
    return manifest


def layout_of(manifest: Mapping[str, Any]) -> Layout:
    """How a run's images are cut into shards."""
    return Layout(
        n_entries=manifest["data"]["n_entries"],
        shard_size=manifest["shard_size"],
        shapes={label: tuple(each["shape"]) for label, each in manifest["methods"].items()},
        dtype=manifest["dtype"],
    )


def job_of(manifest: Mapping[str, Any], out: str, strict: bool) -> Job:
    """What workers need of a run's manifest."""
    return Job(
        model=manifest["model"]["from"],
        weights=manifest["model"]["weights"],
        methods={label: (each["name"], each["parameters"]) for label, each in manifest["methods"].items()},
        target=manifest["target"],
        layout=layout_of(manifest),
        batch_size=manifest["batch_size"],
        threads=manifest["threads"],
        seed=manifest["seed"],
        accelerated=manifest["accelerated"],
        device=manifest["device"],
        out=out,
        strict=strict,
    )


def manifest_of(
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    model: Model,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that a run's bytes depend on; what is not asked for is taken from the manifest ``before``."""
    before = before or {}
    shapes = {
        label: loaded.input_size if METHODS[name].result == "features" else (1, *loaded.input_size[1:])
        for label, (name, _) in request.methods.items()
    }
    batch_size = request.batch_size or before.get("batch_size") or suitable_batch_size(loaded, data, model)
    shard_size = request.shard_size or before.get("shard_size") or _suitable_shard(shapes, batch_size)
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "model": {
            "from": request.model,
            "weights": fingerprint(loaded.model),
            "classes": list(loaded.classes),
            "input_size": list(loaded.input_size),
        },
        "data": {"from": request.data, "n_entries": len(data), "fingerprint": _data_fingerprint(data)},
        "methods": {
            label: {"name": name, "parameters": dict(parameters), "shape": list(shapes[label])}
            for label, (name, parameters) in request.methods.items()
        },
        "target": request.target,
        "dtype": request.dtype,
        "batch_size": batch_size,
        "shard_size": shard_size,
        "threads": request.threads or before.get("threads") or torch.get_num_threads(),
        "seed": request.seed,
        "accelerated": request.accelerated,
        "device": request.device,
        "versions": {"distillgrad": __version__, **_versions(NUMERIC_PACKAGES)},
        "written_with": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **_versions(("zarr", "pyarrow", "numcodecs")),
        },
    }
    same: dict[str, Any] = json.loads(json.dumps(manifest))
    return same


def suitable_batch_size(loaded: LoadedModel, data: ImageData, model: Model) -> int:
    """The number of images at which one is explained in the least time, measured with zeros."""
    device = next((each.device for each in loaded.model.parameters()), torch.device("cpu"))
    most = min(len(data), 32 if device.type == "cpu" else 256)
    batch = checked_batch(torch.zeros(most, *loaded.input_size, device=device), 0)
    return best_batch_size(model, batch, gradients=True)


def _begin(
    folder: RunFolder, loaded: LoadedModel, data: ImageData, request: AttributionRequest, model: Model
) -> dict[str, Any]:
    before = _refuse_foreign(folder)
    if before is None:
        manifest = manifest_of(loaded, data, request, model)
        folder.put(MANIFEST, json.dumps(manifest, indent=2).encode())
        return manifest
    now = manifest_of(loaded, data, request, model, before)
    refuse_another(folder.url, {**before, "written_with": None}, {**now, "written_with": None})
    return before


def _refuse_foreign(folder: RunFolder) -> dict[str, Any] | None:
    """The manifest of the run that is there, ``None`` where there is nothing.

    Raises:
        ParameterError: something else is there.
    """
    if folder.has(MANIFEST):
        try:
            return read_manifest(folder)
        except SourceError as error:
            raise ParameterError(f"{error}; give another folder") from error
    others = _visible_in(folder) if isinstance(folder, LocalFolder) else folder.names()
    if others:
        raise ParameterError(
            f"{folder.url} is not empty and holds no run (it has {', '.join(others[:3])}); "
            "give another folder"
        )
    return None


def _visible_in(folder: LocalFolder) -> list[str]:
    """What is there but the traces of a run that was killed before its manifest was written."""
    found = folder.root.iterdir() if folder.root.is_dir() else ()
    return sorted(each.name for each in found if each.name != LOCK and not is_temporary(each))


def _check(request: AttributionRequest, data: ImageData) -> None:
    if not len(data):
        raise InputError(f"{data.name} holds no image")
    if request.dtype not in ("float32", "float16"):
        raise ParameterError(f"dtype must be float32 or float16, not {request.dtype!r}")
    for name in ("batch_size", "shard_size", "threads"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise ParameterError(f"{name} must be at least 1, not {value}")
    if request.target == "label" and all(label is None for label in data.labels):
        raise InputError(
            f"{data.name} has no labels to explain: sort the images into class folders, add an index.csv, "
            "or explain what is predicted"
        )


def _suitable_shard(shapes: Mapping[str, Sequence[int]], batch_size: int) -> int:
    """So many whole batches that a file of maps stays small, and that a kill costs little."""
    map_bytes = max(4 * int(torch.Size(shape).numel()) for shape in shapes.values())
    images = min(MOST_PER_SHARD, max(1, SHARD_BYTES // map_bytes))
    return max(1, images // batch_size) * batch_size


def _entries(data: ImageData) -> Iterator[Entry]:
    for index, (name, label) in enumerate(zip(data.ids, data.labels, strict=True)):
        yield Entry(index, name, None if label is None else str(label))


def _data_fingerprint(data: ImageData) -> str:
    """SHA-256 of ids, labels and, where images are files, of their sizes: not of what is in them."""
    sizes: list[int] = getattr(data.decode, "fingerprint", list)()
    content = json.dumps([data.ids, data.labels, data.classes, sizes], ensure_ascii=False)
    return sha256(content.encode("utf-8", "surrogateescape"))


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as usual."""
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
