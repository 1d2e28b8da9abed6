"""Data sets that Hugging Face's ``datasets`` loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.sources.hubs import existing_folder
from distillgrad.sources.image_data import ImageData
from distillgrad.sources.images import decode_image, read_image
from distillgrad.sources.names import Names
from distillgrad.sources.parquet import IMAGES, LABELS
from distillgrad.sources.value_range import ValueRange

PREFIX = "hf-dataset:"


class DatasetImages:
    """The images of a Hugging Face data set, as their encoded files."""

    def __init__(self, dataset: Any, column: str, value_range: ValueRange | None = None) -> None:
        self._dataset, self._column, self.value_range = dataset, column, value_range

    def __call__(self, place: int) -> Image.Image:
        value = self._dataset[place][self._column]
        if not isinstance(value, dict) or value.get("bytes") is None:
            if isinstance(value, dict) and value.get("path"):
                return read_image(value["path"], value_range=self.value_range)
            raise SourceError(f"row {place} holds no image")
        return decode_image(value["bytes"], f"row {place}", value_range=self.value_range)

    def part(self, places: range) -> DatasetImages:
        some = self._dataset.select(range(places.start, places.stop))
        return DatasetImages(some, self._column, self.value_range)

    def shown_from(self, value_range: ValueRange) -> DatasetImages:
        return DatasetImages(self._dataset, self._column, value_range)


def recognises(where: str) -> bool:
    """Return whether the words are ``hf-dataset:NAME``."""
    return where.startswith(PREFIX) and where != PREFIX


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return a data set that ``datasets`` knows, ``hf-dataset:NAME[:SPLIT]``, or a folder that it saved.

    Args:
        where: As above.
        limit: At most so many rows, the first.
        keep_broken: Makes no difference: every row is an image, or says why it is none.
    Raises:
        MissingExtraError: ``datasets`` is not installed.
        SourceError: it cannot be loaded, or has no column of images.
    """
    datasets = optional("datasets", "huggingface")
    name, _, split = where.removeprefix(PREFIX).partition(":")
    name = existing_folder(name, PREFIX.rstrip(":"))
    try:
        loaded = datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name)
    except Exception as error:  # of the hub, of the network, of the data set's own files
        raise SourceError(f"cannot load the data set {name}: {error}") from error
    if hasattr(loaded, "keys"):
        wanted = split or ("test" if "test" in loaded else next(iter(loaded)))
        if wanted not in loaded:
            raise SourceError(f"{name} has the splits {', '.join(loaded)}, not {wanted!r}")
        loaded = loaded[wanted]
    column = next((each for each in IMAGES if each in loaded.features), None)
    if column is None:
        raise SourceError(
            f"{name} has the columns {', '.join(loaded.features)}; expected images in {' or '.join(IMAGES)}"
        )
    loaded = loaded.select(range(min(limit or len(loaded), len(loaded))))
    label = next((each for each in LABELS if each in loaded.features), None)
    classes = tuple(getattr(loaded.features[label], "names", None) or ()) if label else ()
    numbers = list(loaded[label]) if label else [None] * len(loaded)
    # Below 0: labels that are kept back, as those of test sets are.
    known = [None if isinstance(each, int) and each < 0 else each for each in numbers]
    labels = [classes[each] if classes and each is not None else each for each in known]
    encoded = loaded.cast_column(column, datasets.Image(decode=False))
    ids = [f"{split or 'row'}-{row}" for row in range(len(loaded))]
    return ImageData(
        where, Names(ids), tuple(labels), (None,) * len(ids), classes, DatasetImages(encoded, column)
    )
