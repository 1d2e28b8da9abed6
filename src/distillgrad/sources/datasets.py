"""Images to evaluate on, whatever holds them: a file, folders, an index, a Parquet file."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from distillgrad.core.optional import optional
from distillgrad.errors import ParameterError, SourceError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.data import EncodedImages, class_labels, open_parquet
from distillgrad.sources.images import FORMATS, read_image
from distillgrad.sources.layouts import (
    Found,
    cifar_pickles,
    hugging_face,
    is_cifar_pickles,
    labels_by_ground_truth,
)

Label: TypeAlias = str | int | None
Box: TypeAlias = tuple[float, float, float, float]

IMAGE_FILE = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?|p[bgnp]m|jp2|j2k|avif)", re.IGNORECASE)
INDEX = "index.csv"
INDEX_LABELS = ("class_index", "label", "class_name", "class")
INDEX_BOX = ("x0", "y0", "x1", "y1")
WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Sample:
    """One image: what it is called, its upright RGB pixels, its class and the box around its object.

    Attributes:
        label: The class's number or name, as the data has it; see :func:`label_index`.
        box: ``(x0, y0, x1, y1)`` in pixels of the image, the ends excluded; ``None`` if the data has none.
    """

    id: str
    image: Image.Image
    label: Label
    box: Box | None = None


@dataclass(frozen=True)
class ImageData:
    """A sequence of images, each decoded when it is asked for; the rest is known beforehand.

    ``data[i]`` raises a SourceError that names a broken image and says why; the others are not concerned.
    Neither is an iterator's next step, so that whoever catches the error can go on.

    Attributes:
        name: Where the images come from.
        ids: One per image, none twice; they do not depend on ``limit``.
        labels: As the data has them, ``None`` where it does not say.
        boxes: As for :class:`Sample`.
        classes: The names of the data's classes in its own order; () if it names none.
    """

    name: str
    ids: tuple[str, ...]
    labels: tuple[Label, ...]
    boxes: tuple[Box | None, ...]
    classes: tuple[str, ...]
    decode: Callable[[int], Image.Image]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        place = range(len(self))[index]
        try:
            image = self.decode(place)
        except SourceError as error:
            raise SourceError(f"image {self.ids[place]}: {error}") from error
        return Sample(self.ids[place], image, self.labels[place], self.boxes[place])

    def part(self, places: range) -> ImageData:
        """Some neighbours among the images, which travel to another process without the rest."""
        cut = slice(places.start, places.stop)
        part_of = getattr(self.decode, "part", None)
        decode = part_of(places) if part_of else partial(_shifted, self.decode, places.start)
        return replace(self, ids=self.ids[cut], labels=self.labels[cut], boxes=self.boxes[cut], decode=decode)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))  # unlike a generator, it survives an error


@dataclass(frozen=True)
class _ImageFiles:
    """Reads the file of a place, or says why there is none to read."""

    paths: tuple[Path, ...]
    faults: Mapping[int, str]

    def __call__(self, place: int) -> Image.Image:
        if place in self.faults:
            raise SourceError(self.faults[place])
        return read_image(self.paths[place])

    def part(self, places: range) -> _ImageFiles:
        """Some of them, also for a process that works in another folder."""
        faults = {place - places.start: self.faults[place] for place in places if place in self.faults}
        return _ImageFiles(tuple(each.absolute() for each in self.paths[places.start : places.stop]), faults)

    def fingerprint(self) -> list[int]:
        """The files' sizes in bytes, -1 where there is none."""
        return [each.stat().st_size if each.exists() else -1 for each in self.paths]


def readable(text: str) -> str:
    """The text, with escapes for the bytes of a file's name that are no UTF-8, which no table could keep."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shifted(decode: Callable[[int], Image.Image], start: int, place: int) -> Image.Image:
    return decode(start + place)


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
            found = _index(path / INDEX, limit, keep_broken) if indexed else _folder(path, limit, keep_broken)
        elif not path.exists():
            raise SourceError(f"no data at {path}: there is no such file or folder")
        elif path.suffix.lower() == ".parquet":
            found = _parquet(path, limit)
        elif path.suffix.lower() == ".csv":
            found = _index(path, limit, keep_broken)
        else:
            found = _files([path], [path.name])
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


def _published(name: str, found: Found) -> ImageData:
    ids, labels, classes, decode = found
    return ImageData(name, tuple(ids), tuple(labels), (None,) * len(ids), classes, decode)


def label_index(label: str | int, loaded: LoadedModel, classes: Sequence[str] = ()) -> int:
    """The number of a label's class among those of a model.

    A number stands for itself. A name is one of the model's, with blanks or underscores, or up to its first
    comma. Where the data has as many classes as the model, a class's place decides between several of one
    name, and for a model that does not name its classes. WordNet ids mean ImageNet's classes.

    Args:
        label: As in the data.
        loaded: The model.
        classes: The data's own, ``ImageData.classes``.
    Raises:
        UnknownNameError: the model has no such class; names the nearest.
        TargetError: a number outside the model's classes, or a name that several of them share.
        MissingExtraError: a WordNet id of incomplete data, but timm, which knows all, is not installed.
    """
    if isinstance(label, int) or label.lstrip("-").isdecimal():
        return loaded.class_index(str(label))
    known = {name.lower() for name in loaded.classes}
    spellings = [label, label.replace("_", " "), label.partition(",")[0]]
    name = next((each for each in spellings if each.lower() in known), label)
    if label in classes and len(classes) == len(loaded.classes):
        place = list(classes).index(label)
        if loaded.classes[place].lower() in (name.lower(), f"class {place}"):
            return place
    if WORDNET_ID.fullmatch(label) and loaded.classes[0].lower() == "tench" and len(loaded.classes) == 1000:
        ids = _imagenet_ids(classes)
        if label in ids:
            return ids.index(label)
    return loaded.class_index(name)


def _imagenet_ids(classes: Sequence[str]) -> list[str]:
    """The WordNet ids of ImageNet's classes, which are in their order: the data's own where it has all."""
    if len(classes) == 1000 and all(map(WORDNET_ID.fullmatch, classes)):
        return sorted(classes)
    return list(optional("timm.data", "vision").ImageNetInfo("imagenet-1k").label_names())


def _files(
    paths: Sequence[Path],
    ids: Iterable[str],
    labels: Sequence[Label] = (),
    boxes: Sequence[Box | None] = (),
    classes: tuple[str, ...] = (),
    faults: Mapping[int, str] | None = None,
) -> ImageData:
    unknown = (None,) * len(paths)
    return ImageData(
        name="",  # open_data knows it
        ids=tuple(map(readable, ids)),
        labels=tuple(readable(each) if isinstance(each, str) else each for each in labels) or unknown,
        boxes=tuple(boxes) or unknown,
        classes=tuple(map(readable, classes)),
        decode=_ImageFiles(tuple(paths), {place: readable(each) for place, each in (faults or {}).items()}),
    )


def _folder(root: Path, limit: int | None, keep_broken: bool) -> ImageData:
    entries = _visible(root)
    by_class = {
        each.name: list(_images_below(each, {root.resolve()}, keep_broken))
        for each in entries
        if each.is_dir()
    }
    images = [each for each in entries if _is_image(each, keep_broken) and not by_class.get(each.name, [])]
    by_class = {name: each for name, each in by_class.items() if root / name not in images}
    n_inside = sum(map(len, by_class.values()))
    if images and n_inside:
        inside = next(name for name, each in by_class.items() if each)
        raise SourceError(
            f"{root} holds images ({images[0].name}) beside folders of them ({inside}): move one"
        )
    if not images and not n_inside:
        holds = ", ".join(each.name for each in entries[:3])
        has = f"which holds {holds}, nor in folders inside it" if holds else "which is empty"
        raise SourceError(f"no images ({', '.join(FORMATS)}) in {root}, {has}")
    if images:
        names_of = [each.name for each in images[:limit]]
        return _files(images[:limit], names_of, labels_by_ground_truth(root, names_of))
    # The first of every class, then the second, until there are enough of them; listed by class.
    turns = [(turn, place) for place, each in enumerate(by_class.values()) for turn in range(len(each))]
    names, groups = zip(*by_class.items(), strict=True)
    chosen = sorted((place, turn) for turn, place in sorted(turns)[:limit])
    paths = [groups[place][turn] for place, turn in chosen]
    ids = [each.relative_to(root).as_posix() for each in paths]
    labels = [names[place] for place, _ in chosen]
    return _files(paths, ids, labels, classes=tuple(sorted(names)))


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, in natural order: the runs of digits in names compare as numbers."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"([0-9]+)", path.name)
        return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name

    return sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=key)


def _is_image(path: Path, keep_broken: bool) -> bool:
    return IMAGE_FILE.fullmatch(path.name) is not None and (keep_broken or path.is_file())


def _images_below(folder: Path, visited: set[Path], keep_broken: bool) -> Iterator[Path]:
    """The images in a folder and in those inside it, each of which is entered once."""
    if folder.resolve() in visited:
        return
    visited.add(folder.resolve())
    for each in _visible(folder):
        inside = list(_images_below(each, visited, keep_broken)) if each.is_dir() else []
        if inside:
            yield from inside
        elif _is_image(each, keep_broken):
            yield each


def _index(path: Path, limit: int | None, keep_broken: bool) -> ImageData:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise SourceError(f"{path} has no rows")
    columns = [each for each in rows[0] if each is not None]
    label_column = next((each for each in INDEX_LABELS if each in columns), None)
    if "file" not in columns or label_column is None:
        has, wanted = ", ".join(columns), ", ".join(INDEX_LABELS)
        raise SourceError(f"{path} has the columns {has}; expected file and one of {wanted}")
    names = [(row["file"] or "").strip() for row in rows]
    paths = [path.parent / name for name in names]
    missing = [name for name, each in zip(names, paths, strict=True) if not each.is_file()]
    if missing and not keep_broken:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(f"{path} names files that are not there: {', '.join(map(repr, missing[:3]))}{more}")
    (often, count), *_ = Counter(names).most_common(1)
    if count > 1 and not keep_broken:
        raise SourceError(f"{path} names {often} in {count} rows; give each image one row")
    return _indexed_rows(path, rows[:limit], names, paths, label_column, keep_broken)


def _indexed_rows(
    path: Path,
    rows: Sequence[Mapping[str, str | None]],
    names: Sequence[str],
    paths: Sequence[Path],
    label_column: str,
    keep_broken: bool,
) -> ImageData:
    labels: list[Label] = []
    boxes: list[Box | None] = []
    faults: dict[int, str] = {}
    lines: dict[str, int] = {}
    ids = []
    for place, row in enumerate(rows):
        where = f"line {place + 2} of {path}"
        name, label, box = names[place], None, None
        if name in lines:
            faults[place] = f"{where} names it again, after line {lines[name]}"
        ids.append(f"{name} (line {place + 2})" if name in lines or not name else name)
        lines.setdefault(name, place + 2)
        try:
            label, box = _index_label(row, label_column, where), _index_box(row, where)
        except SourceError as error:
            if not keep_broken:
                raise
            faults[place] = str(error)
        labels.append(label)
        boxes.append(box)
    return _files(paths[: len(rows)], ids, labels, boxes, faults=faults)


def _index_label(row: Mapping[str, str | None], column: str, where: str) -> Label:
    text = (row[column] or "").strip()
    if column != "class_index" or not text:
        return text or None
    if not text.isdecimal():
        raise SourceError(f"{where}: class_index must be a number from 0, not {text!r}")
    return int(text)


def _index_box(row: Mapping[str, str | None], where: str) -> Box | None:
    texts = [(row.get(column) or "").strip() for column in INDEX_BOX]
    if not any(texts):
        return None
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    if not (0 <= x0 < x1 < math.inf and 0 <= y0 < y1 < math.inf):
        raise SourceError(f"{where}: a box needs x0 < x1 and y0 < y1, in pixels from 0, not {texts}")
    return x0, y0, x1, y1


def _parquet(path: Path, limit: int | None) -> ImageData:
    table = open_parquet(path)
    n_rows = min(table.metadata.num_rows, limit or table.metadata.num_rows)
    if not n_rows:
        raise SourceError(f"{path} has no rows")
    labels, classes = class_labels(table, path)
    return ImageData(
        name=str(path),
        ids=tuple(f"{path.stem}-{row}" for row in range(n_rows)),
        labels=tuple(labels[:n_rows]),
        boxes=(None,) * n_rows,
        classes=classes,
        decode=EncodedImages(table, path),
    )
