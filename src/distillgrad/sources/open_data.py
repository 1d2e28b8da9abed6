"""Images to evaluate on, whatever holds them: a file, folders, an index, a Parquet file, a data set."""

from __future__ import annotations

from pathlib import Path

from distillgrad.errors import ParameterError
from distillgrad.sources.image_data import Box, ImageData, Label, Sample, readable
from distillgrad.sources.labels import label_index
from distillgrad.sources.layouts import open_at
from distillgrad.sources.value_range import ValueRange

__all__ = ["Box", "ImageData", "Label", "Sample", "label_index", "open_data", "readable"]


def open_data(
    path: str | Path,
    *,
    limit: int | None = None,
    keep_broken: bool = False,
    value_range: ValueRange | None = None,
) -> ImageData:
    """Return the images at ``path``, of which none is decoded yet.

    The forms that it takes are those of :data:`distillgrad.sources.layouts.LAYOUTS`: an image, a folder of
    images or of class folders, an ``index.csv``, a Parquet file, CIFAR-10, ImageNet's ``val``,
    ``hf-dataset:NAME[:SPLIT]``, ``my_module:my_data``.

    Files are sorted by name, numbers by value, an index and Parquet keep their order. Hidden files and
    what has no image's suffix is ignored, links are followed, though never in a circle.

    Args:
        path: The file, the folder, or the words that name the data.
        limit: At most so many images: the first; of class folders as many of each as of the others.
        keep_broken: What has an image's suffix but is no file (a link to nothing, a folder without images),
            and a row of an index whose file is missing or named before, or whose label or box is wrong, are
            images, too, which raise why they are none when they are asked for. Otherwise the former are
            left out, and the latter refused.
        value_range: The values that are shown black and white, as the files have them: ``(low, high)``; see
            :func:`~distillgrad.sources.images.read_image`.
    Raises:
        SourceError: nothing is there, or no image; an index or a Parquet file that is not as above.
        ParameterError: ``limit`` below 1; a range that is none, or for data without image files.
        MissingExtraError: a Parquet file, but pyarrow is not installed.
    Cost: the names and labels of all images; later, of a Parquet file, one row group at a time.
    """
    if limit is not None and limit < 1:
        raise ParameterError(f"limit must be at least 1, not {limit}")
    data = open_at(path, limit, keep_broken)
    return data if value_range is None else data.shown_from(value_range)
