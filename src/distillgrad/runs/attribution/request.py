"""The request of a run of attributions, and its manifest: the request resolved, and the circumstances."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any, Literal

import torch

from distillgrad._version import __version__
from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.core.batch import checked_batch
from distillgrad.core.batch_size import best_batch_size
from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError, SourceError
from distillgrad.methods import find_method
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.runs.attribution.arrays import Layout
from distillgrad.runs.folders import RunFolder
from distillgrad.runs.manifest import MANIFEST, parsed_json
from distillgrad.runs.request import (
    as_read_back,
    from_manifest,
    kept_at,
    merged,
    methods_by_keys,
    to_manifest,
)
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData
from distillgrad.sources.value_range import ValueRange
from distillgrad.sources.weights import fingerprint

DTYPES = ("float32", "float16")
FORMAT = 2
"""The format of new runs, whose maps carry checksums; runs of format 1 have none, and go on without."""
KIND = "attributions"
SHARD_BYTES = 32 * 2**20
MOST_PER_SHARD = 256
PIECE = 1_024
NUMERIC_PACKAGES = ("torch", "captum", "numpy", "pillow", "torchvision", "timm", "transformers")
"""Their versions may decide a map's last bits, so that a run is not continued with others."""


@dataclass(frozen=True)
class AttributionRequest:
    """A request of attributions; the same one goes on where an interrupted run ended.

    Attributes:
        model, data: As :func:`~distillgrad.sources.models.load_model` and ``open_data`` take them.
        methods: By label, the method's name and parameters.
        target: The explained class: ``"predicted"``, the image's ``"label"``, or a class's name or number.
        dtype: The type of the maps that are kept.
        batch_size, shard_size, threads: Explained at once, written at once, used to compute; ``None``: as
            the run has them that is resumed, or else as suits the model and the machine.
        precision: That of the faster model, if ``accelerated``; methods that look at layers have the model
            itself.
        value_range: The values of the files that are shown black and white; ``None``: as their type says.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    model: str = field(metadata=kept_at("model", "from"))
    data: str = field(metadata=kept_at("data", "from"))
    methods: MethodSpecs = field(metadata=kept_at("methods", encode=methods_by_keys))
    target: str = "predicted"
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int | None = None
    shard_size: int | None = None
    threads: int | None = None
    seed: int = 0
    accelerated: bool = True
    precision: Precision = "float32"
    value_range: ValueRange | None = field(default=None, metadata=kept_at("data", "value_range"))
    device: str = "cpu"


def check_request(request: AttributionRequest, data: ImageData) -> None:
    """Check that the request can be met.

    Raises:
        ParameterError, InputError: it cannot; says why.
    """
    if not len(data):
        raise InputError(f"{data.name} holds no image")
    if request.dtype not in DTYPES:
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


def read_manifest(folder: RunFolder) -> dict[str, Any]:
    """Return the manifest of a run of attributions.

    Raises:
        SourceError: no run is there, one of another kind, or of a newer format.
    """
    if not folder.has(MANIFEST):
        raise SourceError(f"no run of attributions at {folder.url}: it has no {MANIFEST}")
    manifest = parsed_json(folder.get(MANIFEST), f"{folder.url}/{MANIFEST}")
    check_manifest(manifest, folder.url)
    return manifest


def check_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """Check that the manifest that was read ``where`` is of a run of attributions, in a format known here.

    Raises:
        SourceError: it is of a run of another kind, of a newer format, or broken.
    """
    if manifest.get("kind") != KIND:
        raise SourceError(f"{where} holds another kind of run, no attributions of a data set")
    if not isinstance(manifest.get("format", 1), int):
        raise SourceError(f"the manifest of {where} is broken: its format is {manifest['format']!r}")
    if manifest.get("format", 1) > FORMAT:
        raise SourceError(
            f"{where} was written by a newer distillgrad (format {manifest['format']}; this one reads "
            f"up to {FORMAT}): upgrade distillgrad"
        )
    try:
        layout = layout_of(manifest)
        numbers = (layout.n_entries, layout.shard_size, manifest["batch_size"], manifest["threads"])
        sizes = [size for shape in layout.shapes.values() for size in shape]
        classes = manifest["model"]["classes"]
        from_manifest(AttributionRequest, manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(f"the manifest of {where} is broken: {error!r}") from error
    sound = (
        layout.shapes
        and all(type(each) is int and each > 0 for each in (*numbers, *sizes))
        and layout.dtype in DTYPES
        and isinstance(classes, list)
        and all(isinstance(each, str) for each in classes)
    )
    if not sound:
        raise SourceError(f"the manifest of {where} is broken: its numbers, types or names cannot be a run's")


def layout_of(manifest: Mapping[str, Any]) -> Layout:
    """Return how a run's images are cut into shards."""
    return Layout(
        n_entries=manifest["data"]["n_entries"],
        shard_size=manifest["shard_size"],
        shapes={label: tuple(each["shape"]) for label, each in manifest["methods"].items()},
        dtype=manifest["dtype"],
        checked=manifest.get("format", 1) > 1,
    )


def attribution_manifest(
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    model: Model,
    default_threads: int,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return all that a run's bytes depend on; what the request leaves open is as in the manifest ``before``.

    Args:
        model: The one whose passes are timed, if the request leaves the batch size open.
        default_threads: The threads of a new run, if the request leaves them open.
    """
    before = before or {}
    shapes = {
        label: loaded.input_size if find_method(name).result == "features" else (1, *loaded.input_size[1:])
        for label, (name, _) in request.methods.items()
    }
    batch_size = request.batch_size or before.get("batch_size") or suitable_batch_size(loaded, data, model)
    shard_size = request.shard_size or before.get("shard_size") or _suitable_shard(shapes, batch_size)
    resolved = replace(
        request,
        batch_size=batch_size,
        shard_size=shard_size,
        threads=request.threads or before.get("threads") or default_threads,
    )
    facts = {
        "model": {
            "weights": fingerprint(loaded.model),
            "classes": list(loaded.classes),
            "input_size": list(loaded.input_size),
        },
        "data": {"n_entries": len(data), "fingerprint": _data_fingerprint(data)},
        "methods": {label: {"shape": list(shape)} for label, shape in shapes.items()},
        "versions": {"distillgrad": __version__, **_versions(NUMERIC_PACKAGES)},
        "written_with": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **_versions(("zarr", "pyarrow", "numcodecs")),
        },
    }
    return as_read_back(
        merged({"kind": KIND, "format": before.get("format", FORMAT)}, to_manifest(resolved), facts)
    )


def suitable_batch_size(loaded: LoadedModel, data: ImageData, model: Model) -> int:
    """Return the number of images at which one is explained in the least time, measured with zeros."""
    most = min(len(data), 32 if loaded.device.type == "cpu" else 256)
    batch = checked_batch(torch.zeros(most, *loaded.input_size, device=loaded.device), 0)
    return best_batch_size(model, batch, gradients=True)


def _suitable_shard(shapes: Mapping[str, Sequence[int]], batch_size: int) -> int:
    """Return so many whole batches that a file of maps stays small, and that a kill costs little."""
    map_bytes = max(4 * int(torch.Size(shape).numel()) for shape in shapes.values())
    images = min(MOST_PER_SHARD, max(1, SHARD_BYTES // map_bytes))
    return max(1, images // batch_size) * batch_size


def _data_fingerprint(data: ImageData) -> str:
    """Return the SHA-256 of ids, labels and, where images are files, their sizes: not of their contents."""
    sizes: Iterable[int] = getattr(data.decode, "fingerprint", tuple)()
    digest = hashlib.sha256(b"[")
    for place, values in enumerate((data.ids, data.labels, data.classes, sizes)):
        digest.update(b", " if place else b"")
        for piece in _json_of(values):
            digest.update(piece.encode("utf-8", "surrogateescape"))
    digest.update(b"]")
    return digest.hexdigest()


def _json_of(values: Iterable[Any]) -> Iterator[str]:
    """Yield a list as JSON in pieces, since all of it would be as long as the data."""
    rest, between = iter(values), ""
    yield "["
    while some := list(islice(rest, PIECE)):
        yield between + json.dumps(some, ensure_ascii=False)[1:-1]
        between = ", "
    yield "]"


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions
