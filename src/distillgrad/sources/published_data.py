"""Data sets as their makers publish them: CIFAR-10's pickles, ImageNet's val folder, Hugging Face's."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.sources.images import decode_image, read_image
from distillgrad.sources.parquet import IMAGES, LABELS

CIFAR_FILES = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}
CIFAR_NAMES = "batches.meta"
GROUND_TRUTH = ("val.txt", "ILSVRC2012_validation_ground_truth.txt")
"""Lines of a file's name and its class, or class numbers by line."""

Decode = Callable[[int], Image.Image]
RawDataset = tuple[list[str], list[str | int | None], tuple[str, ...], Decode]
"""Ids, labels, class names, and what decodes an image."""


@dataclass(frozen=True)
class ArrayImages:
    """Images that are in memory already, ``(N, H, W, 3)`` uint8."""

    images: NDArray[np.uint8]

    def __call__(self, place: int) -> Image.Image:
        return Image.fromarray(self.images[place])

    def part(self, places: range) -> ArrayImages:
        return ArrayImages(self.images[places.start : places.stop])


class _Inert:
    """Stands for an array or its dtype: keeps what the pickle says of it, and does nothing with it.

    NumPy's own would trust a pickle: an array of objects takes its bytes for addresses.
    """

    state: Any = None

    def __init__(self, *said: Any) -> None:
        self.said = said

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        """The array, if it is one of bytes; otherwise whatever error comes of it."""
        _, shape, dtype, fortran, raw = self.state
        if dtype.said[0] not in ("u1", b"u1") or not isinstance(raw, bytes):
            raise ValueError("it holds an array of something else than bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


class _OnlyArrays(pickle.Unpickler):
    """Keeps what is said of arrays, and refuses everything else that a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Inert()
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Inert
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, coding: str(text).encode("latin1") if coding == "latin1" else b""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def is_cifar_pickles(folder: Path) -> bool:
    """Whether a folder is CIFAR-10's Python version."""
    return (folder / CIFAR_NAMES).is_file() and (folder / CIFAR_FILES["test"][0]).is_file()


def cifar_pickles(folder: Path, split: str, limit: int | None) -> RawDataset:
    """One split of CIFAR-10's Python version; no code that its pickles name is run.

    Raises:
        SourceError: a file that is missing, broken, or asks for anything but arrays.
    """
    if split not in CIFAR_FILES:
        raise SourceError(f"CIFAR-10 has the splits train and test, not {split!r}")
    names = _unpickled(folder / CIFAR_NAMES).get(b"label_names", ())
    parts = [_unpickled(folder / name) for name in CIFAR_FILES[split]]
    try:
        classes = tuple(each.decode() for each in names)
        images = np.concatenate([part[b"data"].array() for part in parts])
        images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)[:limit]
        labels: list[str | int | None] = [classes[each] for part in parts for each in part[b"labels"]][:limit]
    except Exception as error:  # what a hostile pickle has instead raises almost anything
        raise SourceError(f"{folder} is not CIFAR-10's Python version: {error!r}") from error
    if len(images) != len(labels):
        raise SourceError(f"{folder} holds {len(images)} images, but {len(labels)} labels")
    ids = [f"{split}-{row}" for row in range(len(labels))]
    return ids, labels, classes, ArrayImages(np.ascontiguousarray(images))


def _unpickled(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as file:
            found = _OnlyArrays(file, encoding="bytes").load()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a hostile pickle raises almost anything
        raise SourceError(f"{path} is no file of CIFAR-10's Python version: {error}") from error
    if not isinstance(found, dict):
        raise SourceError(f"{path} holds a {type(found).__name__}, no batch of CIFAR-10")
    return found


def labels_by_ground_truth(folder: Path, names: Sequence[str]) -> list[str | int | None]:
    """The classes of ImageNet's validation images, by a file in their folder or beside it; [] without one.

    Only a file of names and classes will do (as Caffe's ``val.txt``, numbered from 0 in the order of WordNet
    ids): numbers alone are those of ILSVRC's development kit, in *its* order. One of other images is ignored.

    Raises:
        SourceError: lines of another form, or not one for each image.
    """
    places = [each / name for name in GROUND_TRUTH for each in (folder, folder.absolute().parent)]
    found = (_labels_in(each, names) for each in places if each.is_file())
    return next((each for each in found if each), [])


def _labels_in(path: Path, names: Sequence[str]) -> list[str | int | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no text in UTF-8: {error}") from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    named = {line[0] for line in lines}.intersection(names)
    only_numbers = bool(lines) and all(len(line) == 1 and line[0].isdecimal() for line in lines)
    if not named and not only_numbers:
        return []
    if not all(len(line) == 2 for line in lines):
        raise SourceError(
            f"{path} must have lines of a file's name and its class: numbers alone are in the order of "
            "ILSVRC's development kit, which is no model's; or sort the images into class folders"
        )
    missing = [name for name in names if name not in named]
    if missing:
        raise SourceError(f"{path} has no line for {missing[0]} and {len(missing) - 1} more images")
    by_name: dict[str, str | int] = {
        name: int(label) if label.isdecimal() else label for name, label in lines
    }
    return [by_name[name] for name in names]


class DatasetImages:
    """The images of a Hugging Face data set, as their encoded files."""

    def __init__(self, dataset: Any, column: str) -> None:
        self._dataset, self._column = dataset, column

    def __call__(self, place: int) -> Image.Image:
        value = self._dataset[place][self._column]
        if not isinstance(value, dict) or value.get("bytes") is None:
            if isinstance(value, dict) and value.get("path"):
                return read_image(value["path"])
            raise SourceError(f"row {place} holds no image")
        return decode_image(value["bytes"], f"row {place}")

    def part(self, places: range) -> DatasetImages:
        return DatasetImages(self._dataset.select(range(places.start, places.stop)), self._column)


def hugging_face(spec: str, limit: int | None) -> RawDataset:
    """A data set that ``datasets`` knows, ``NAME[:SPLIT]``, or a folder that it saved.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
        SourceError: it cannot be loaded, or has no column of images.
    """
    datasets = optional("datasets", "huggingface")
    name, _, split = spec.partition(":")
    try:
        found = datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name)
    except Exception as error:  # of the hub, of the network, of the data set's own files
        raise SourceError(f"cannot load the data set {name}: {error}") from error
    if hasattr(found, "keys"):
        wanted = split or ("test" if "test" in found else next(iter(found)))
        if wanted not in found:
            raise SourceError(f"{name} has the splits {', '.join(found)}, not {wanted!r}")
        found = found[wanted]
    column = next((each for each in IMAGES if each in found.features), None)
    if column is None:
        raise SourceError(
            f"{name} has the columns {', '.join(found.features)}; expected images in {' or '.join(IMAGES)}"
        )
    found = found.select(range(min(limit or len(found), len(found))))
    label = next((each for each in LABELS if each in found.features), None)
    classes = tuple(getattr(found.features[label], "names", None) or ()) if label else ()
    numbers = list(found[label]) if label else [None] * len(found)
    # Below 0: labels that are kept back, as those of test sets are.
    known = [None if isinstance(each, int) and each < 0 else each for each in numbers]
    labels = [classes[each] if classes and each is not None else each for each in known]
    encoded = found.cast_column(column, datasets.Image(decode=False))
    ids = [f"{split or 'row'}-{row}" for row in range(len(found))]
    return ids, labels, classes, DatasetImages(encoded, column)
