"""Data sets as arrays: CIFAR-10."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from distillgrad.errors import MissingExtraError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledImages:
    """Images that share one size: ``images`` ``(N, H, W, 3)`` uint8, ``labels`` ``(N,)``, class names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def read_cifar10(folder: str | Path, split: str, *, limit: int | None = None) -> LabelledImages:
    """One split of CIFAR-10, decoded into memory (50,000 images: 150 MB, some 6 seconds).

    Args:
        folder: Holds ``train.parquet`` and ``test.parquet``: a column ``image`` of encoded 32×32 RGB
            files, a column ``label``, and the class names in the schema's metadata key ``classes``.
        split: ``"train"`` or ``"test"``.
        limit: Only the first so many rows.

    Raises:
        SourceError: no such file, or a file in another layout.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "scale") from error

    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        raise SourceError(f"no CIFAR-10 split at {path}; expected train.parquet and test.parquet")
    table = parquet.ParquetFile(path)
    names = (table.schema_arrow.metadata or {}).get(b"classes", b"").decode()
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
    return LabelledImages(images, labels, tuple(names.split(",")))
