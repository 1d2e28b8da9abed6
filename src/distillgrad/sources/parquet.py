"""Data sets in Parquet: their images, labels and class names; CIFAR-10 as arrays."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.sources.image_data import ImageData, shared
from distillgrad.sources.images import decode_image, read_image
from distillgrad.sources.names import Names
from distillgrad.sources.value_range import ValueRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

IMAGES = ("image", "img")
LABELS = ("label", "fine_label")
"""The columns that are looked for in a Parquet file, the first one that is there."""


@dataclass(frozen=True)
class LabelledImages:
    """The images of one size: ``images`` ``(N, H, W, 3)`` uint8, ``labels`` ``(N,)``, class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def open_parquet(path: str | Path) -> Any:
    """Return the ``pyarrow.parquet.ParquetFile`` at ``path``, of which only the metadata is read.

    Raises:
        SourceError: a file that is missing, unreadable or no Parquet.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = optional("pyarrow.parquet", "scale")
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise SourceError(f"cannot read {path} as Parquet: {error}") from error


def class_names(schema: Any, label: str) -> tuple[str, ...]:
    """Return the names of the classes that a Parquet file numbers in its column ``label``; () if it has none.

    They stand in the schema's metadata: separated by commas under ``classes``, or under ``huggingface`` as
    the column's ClassLabel feature.
    """
    metadata: dict[bytes, bytes] = schema.metadata or {}
    if b"classes" in metadata:
        return tuple(metadata[b"classes"].decode().split(","))
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):  # of another data set, or a column that is no ClassLabel
        return ()
    return tuple(map(str, names))


def class_labels(table: Any, path: Path) -> tuple[list[str | int | None], tuple[str, ...]]:
    """Return the label of each row, ``None`` for a row without one, and the names of the classes.

    A label is the class's name, where the file names its classes, or else what is written there. A number
    below 0 is no label: so Hugging Face marks test sets whose labels are kept back.

    Args:
        table: The open Parquet file.
        path: What errors call it.

    Raises:
        SourceError: labels of another kind, or beyond the names.
    """
    column = next((each for each in LABELS if each in table.schema_arrow.names), None)
    if column is None:
        return [None] * table.metadata.num_rows, ()
    classes = class_names(table.schema_arrow, column)
    labels: list[str | int | None] = table.read(columns=[column])[column].to_pylist()
    for row, label in enumerate(labels):
        if label is not None and not isinstance(label, (str, int)):
            raise SourceError(
                f"{path} has a {type(label).__name__} as {column} of row {row}; expected a class"
            )
        if isinstance(label, int) and label < 0:
            labels[row] = None
        elif isinstance(label, int) and classes:
            if label >= len(classes):
                raise SourceError(
                    f"{path} has the {column} {label} in row {row}, but names {len(classes)} classes"
                )
            labels[row] = classes[label]
    return labels, classes


def recognises(where: str) -> bool:
    """Return whether a file has Parquet's suffix."""
    path = Path(where).expanduser()
    return path.suffix.lower() == ".parquet" and path.exists() and not path.is_dir()


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return the encoded images of a Parquet file; one row group at a time is in memory.

    Args:
        where: The file.
        limit: At most so many rows, the first.
        keep_broken: Makes no difference: every row is an image, or says why it is none.
    Raises:
        SourceError: a file that is unreadable, no Parquet, without rows or images, or with wrong labels.
        MissingExtraError: pyarrow is not installed.
    """
    path = Path(where).expanduser()
    table = open_parquet(path)
    n_rows = min(table.metadata.num_rows, limit or table.metadata.num_rows)
    if not n_rows:
        raise SourceError(f"{path} has no rows")
    labels, classes = class_labels(table, path)
    return ImageData(
        name=str(path),
        ids=Names(f"{path.stem}-{row}" for row in range(n_rows)),
        labels=shared(labels[:n_rows]),
        boxes=(None,) * n_rows,
        classes=classes,
        decode=EncodedImages(table, path),
    )


class EncodedImages:
    """The encoded images of a file, bytes or a struct of bytes and path; one row group in memory.

    Raises:
        SourceError: the file has no column of images.
    """

    def __init__(self, table: Any, path: Path, value_range: ValueRange | None = None) -> None:
        names, metadata = table.schema_arrow.names, table.metadata
        column = next((each for each in IMAGES if each in names), None)
        if column is None:
            raise SourceError(
                f"{path} has the columns {', '.join(names)}; expected images in {' or '.join(IMAGES)}"
            )
        self._table, self._column, self._path = table, column, path.absolute()
        self._ends = list(accumulate(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
        self.value_range = value_range
        self._group: tuple[int, Any] = (-1, None)
        self._reading = Lock()

    def __reduce__(self) -> tuple[Any, tuple[Path, ValueRange | None]]:
        return _images_in, (self._path, self.value_range)  # another process opens the file anew

    def shown_from(self, value_range: ValueRange) -> EncodedImages:
        """Return the same images, with these values shown black and white."""
        return EncodedImages(self._table, self._path, value_range)

    def fingerprint(self) -> list[int]:
        """Return the file's size in bytes."""
        return [self._path.stat().st_size]

    def _group_of(self, index: int) -> Any:
        """Return a row group's images; threads that decode share the one that was read last."""
        with self._reading:
            if self._group[0] != index:
                try:
                    read = self._table.read_row_group(index, columns=[self._column])
                except (OSError, ValueError) as error:
                    raise SourceError(f"row group {index} of {self._path} is broken: {error}") from error
                self._group = (index, read[self._column])
            return self._group[1]

    def __call__(self, row: int) -> Image.Image:
        """Return the image in a row.

        Raises:
            SourceError: the row holds none, or a broken one.
        """
        index = bisect_right(self._ends, row)
        value = self._group_of(index)[
            row - self._ends[index]
        ].as_py()  # negative: counted from the group's end
        name = f"row {row} of {self._path}"
        if isinstance(value, dict):
            if value.get("bytes") is None and value.get("path"):
                return read_image(self._path.parent / value["path"], value_range=self.value_range)
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise SourceError(f"{name} holds no encoded image but {value!r:.40}")
        return decode_image(value, name, value_range=self.value_range)


@lru_cache(maxsize=4)
def _images_in(path: Path, value_range: ValueRange | None) -> EncodedImages:
    return EncodedImages(open_parquet(path), path, value_range)


def read_cifar10(folder: str | Path, split: str, *, limit: int | None = None) -> LabelledImages:
    """Return one split of CIFAR-10, decoded into memory (50,000 images: 150 MB, some 6 seconds).

    Args:
        folder: Holds ``train.parquet`` and ``test.parquet``: a column ``image`` of encoded 32×32 RGB
            files, a column ``label``, and the class names in the schema's metadata key ``classes``.
        split: ``"train"`` or ``"test"``.
        limit: Only the first so many rows.

    Raises:
        SourceError: no such file, or a file in another layout.
        MissingExtraError: pyarrow is not installed.
    """
    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        raise SourceError(f"no CIFAR-10 split at {path}; expected train.parquet and test.parquet")
    table = open_parquet(path)
    names = class_names(table.schema_arrow, "label")
    if not {"image", "label"} <= set(table.schema_arrow.names) or not names:
        raise SourceError(f"{path} is not in the expected layout: columns image and label, classes")
    n_rows = table.metadata.num_rows if limit is None else min(limit, table.metadata.num_rows)

    images = np.empty((n_rows, 32, 32, 3), np.uint8)
    labels = np.empty(n_rows, np.int64)

    def rows() -> Iterator[tuple[bytes, int]]:
        for batch in table.iter_batches(batch_size=1000, columns=["image", "label"]):
            yield from zip(batch["image"].to_pylist(), batch["label"].to_pylist(), strict=True)

    for index, (encoded, label) in zip(range(n_rows), rows(), strict=False):
        with Image.open(io.BytesIO(encoded), formats=("WEBP", "PNG")) as image:
            images[index] = np.asarray(image.convert("RGB"))
        labels[index] = label
    return LabelledImages(images, labels, names)
