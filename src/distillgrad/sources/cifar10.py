"""CIFAR-10 as its makers publish it, in pickles; or in a folder, as Parquet or as class folders."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distillgrad.errors import SourceError
from distillgrad.sources import layouts
from distillgrad.sources.image_data import ImageData, Label
from distillgrad.sources.names import Names

CIFAR_FILES = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}
CIFAR_NAMES = "batches.meta"
PREFIX = "cifar10:"


@dataclass(frozen=True)
class ArrayImages:
    """The images that are in memory already, ``(N, H, W, 3)`` uint8."""

    images: NDArray[np.uint8]

    def __call__(self, place: int) -> Image.Image:
        return Image.fromarray(self.images[place])

    def part(self, places: range) -> ArrayImages:
        return ArrayImages(self.images[places.start : places.stop])


class _Inert:
    """An inert stand-in for an array or its dtype, which keeps what the pickle says of it.

    NumPy's own would trust a pickle: an array of objects takes its bytes for addresses.
    """

    state: Any = None

    def __init__(self, *said: Any) -> None:
        self.said = said

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        """Return the array, if it is one of bytes; otherwise raise whatever error comes of it."""
        _, shape, dtype, fortran, raw = self.state
        if dtype.said[0] not in ("u1", b"u1") or not isinstance(raw, bytes):
            raise ValueError("it holds an array of something else than bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


class _OnlyArrays(pickle.Unpickler):
    """An unpickler that keeps what is said of arrays, and refuses all else that a pickle could call."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Inert()
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return _Inert
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, coding: str(text).encode("latin1") if coding == "latin1" else b""
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def recognises(where: str) -> bool:
    """Return whether the words are ``cifar10:FOLDER``, or name a folder that is CIFAR-10's Python version."""
    return (where.startswith(PREFIX) and where != PREFIX) or _is_pickles(Path(where).expanduser())


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return a split of CIFAR-10: ``cifar10:FOLDER[:SPLIT]``, or the test part of a folder of pickles.

    Args:
        where: As above; the folder may also hold ``SPLIT.parquet``, or class folders in ``SPLIT``.
        limit: At most so many images.
        keep_broken: As for :func:`~distillgrad.sources.open_data.open_data`.
    Raises:
        SourceError: it is in none of these layouts, or broken.
    """
    if not where.startswith(PREFIX):
        return _pickles(Path(where).expanduser(), "test", limit)
    folder, _, split = where.removeprefix(PREFIX).partition(":")
    root, split = Path(folder).expanduser(), split or "test"
    if _is_pickles(root):
        return _pickles(root, split, limit)
    table = root / f"{split}.parquet"
    return layouts.open_at(table if table.is_file() else root / split, limit, keep_broken)


def _is_pickles(folder: Path) -> bool:
    """Return whether a folder is CIFAR-10's Python version."""
    return (folder / CIFAR_NAMES).is_file() and (folder / CIFAR_FILES["test"][0]).is_file()


def _pickles(folder: Path, split: str, limit: int | None) -> ImageData:
    """Return one split of CIFAR-10's Python version; no code that its pickles name is run.

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
        labels: list[Label] = [classes[each] for part in parts for each in part[b"labels"]][:limit]
    except Exception as error:  # what a hostile pickle has instead raises almost anything
        raise SourceError(f"{folder} is not CIFAR-10's Python version: {error!r}") from error
    if len(images) != len(labels):
        raise SourceError(f"{folder} holds {len(images)} images, but {len(labels)} labels")
    ids = [f"{split}-{row}" for row in range(len(labels))]
    decode = ArrayImages(np.ascontiguousarray(images))
    return ImageData(str(folder), Names(ids), tuple(labels), (None,) * len(ids), classes, decode)


def _unpickled(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as file:
            content = _OnlyArrays(file, encoding="bytes").load()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a hostile pickle raises almost anything
        raise SourceError(f"{path} is no file of CIFAR-10's Python version: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a {type(content).__name__}, no batch of CIFAR-10")
    return content
