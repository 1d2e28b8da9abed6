"""Images to evaluate on, whatever holds them: a file, folders, an index, a Parquet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distillgrad.errors import ParameterError, SourceError
from distillgrad.sources.image_data import Box, ImageData, Label, Sample, image_files, readable, shared
from distillgrad.sources.image_folders import in_folder
from distillgrad.sources.image_index import INDEX, in_index
from distillgrad.sources.labels import label_index
from distillgrad.sources.names import Names
from distillgrad.sources.parquet import EncodedImages, class_labels, open_parquet
from distillgrad.sources.published_data import RawDataset, cifar_pickles, hugging_face, is_cifar_pickles

__all__ = ["Box", "ImageData", "Label", "Sample", "label_index", "open_data", "readable"]


def open_data(path: str | Path, *, limit: int | None = None, keep_broken: bool = False) -> ImageData:
    """The images at ``path``, of which none is decoded yet.

    - an image file;
    - a folder of images, which have no labels;
    - a folder of class folders (the convention of torchvision's ImageFolder): the folder is the label;
    - a folder with an ``index.csv``, or that file: a column ``file``, relative to it, the first of
      ``class_index``, ``label``, ``class_name`` and ``class``, and perhaps a box, ``x0 y0 x1 y1``;
    - a ``.parquet`` file: images encoded in ``image`` or ``img``, as bytes or as Hugging Face's struct of
      bytes and path, and perhaps ``label`` or ``fine_label``; a label below 0 counts as none;
    - CIFAR-10's Python version, a folder (its test part), or ``cifar10:FOLDER:train``; no pickle runs code;
    - ImageNet's ``val`` folder with a ``val.txt`` in it or beside it, of names and classes;
    - ``hf-dataset:NAME[:SPLIT]``, a name or saved folder that Hugging Face's ``datasets`` loads.

    Files are sorted by name, numbers by value, an index and Parquet keep their order. Hidden files and
    what has no image's suffix is ignored, links are followed, though never in a circle.

    Args:
        path: Of the file or folder.
        keep_broken: What has an image's suffix but is no file (a link to nothing, a folder without images),
            and a row of an index whose file is missing or named before, or whose label or box is wrong, are
            images, too, which raise why they are none when they are asked for. Otherwise the former are
            left out, and the latter refused.
        limit: At most so many images: the first; of class folders as many of each as of the others.
    Raises:
        SourceError: nothing is there, or no image; an index or a Parquet file that is not as above.
        ParameterError: ``limit`` below 1.
        MissingExtraError: a Parquet file, but pyarrow is not installed.
    Cost: the names and labels of all images; later, of a Parquet file, one row group at a time.
    """
    if limit is not None and limit < 1:
        raise ParameterError(f"limit must be at least 1, not {limit}")
    kind, _, rest = str(path).partition(":")
    if kind == "hf-dataset" and rest:
        return _published(str(path), hugging_face(rest, limit))
    if kind == "cifar10" and rest:
        root, _, split = rest.partition(":")
        return _cifar10(Path(root).expanduser(), split or "test", limit, keep_broken)
    path = Path(path).expanduser()
    try:
        if path.is_dir() and is_cifar_pickles(path):
            return _published(str(path), cifar_pickles(path, "test", limit))
        if path.is_dir():
            indexed = (path / INDEX).is_file()
            found = (
                in_index(path / INDEX, limit, keep_broken) if indexed else in_folder(path, limit, keep_broken)
            )
        elif not path.exists():
            raise SourceError(f"no data at {path}: there is no such file or folder")
        elif path.suffix.lower() == ".parquet":
            found = _parquet(path, limit)
        elif path.suffix.lower() == ".csv":
            found = in_index(path, limit, keep_broken)
        else:
            found = image_files(path.parent, [path.name])
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return replace(found, name=str(path))


def _cifar10(root: Path, split: str, limit: int | None, keep_broken: bool) -> ImageData:
    """CIFAR-10 in whichever of its layouts: pickles, Parquet, or class folders of PNGs."""
    if is_cifar_pickles(root):
        return _published(str(root), cifar_pickles(root, split, limit))
    table = root / f"{split}.parquet"
    return open_data(table if table.is_file() else root / split, limit=limit, keep_broken=keep_broken)


def _published(name: str, found: RawDataset) -> ImageData:
    ids, labels, classes, decode = found
    return ImageData(name, Names(ids), tuple(labels), (None,) * len(ids), classes, decode)


def _parquet(path: Path, limit: int | None) -> ImageData:
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
