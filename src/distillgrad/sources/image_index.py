"""Images that an index.csv lists, with their classes and perhaps boxes."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from distillgrad.errors import SourceError
from distillgrad.sources.image_data import Box, ImageData, Label, image_files
from distillgrad.sources.names import Names

INDEX = "index.csv"
INDEX_LABELS = ("class_index", "label", "class_name", "class")
INDEX_BOX = ("x0", "y0", "x1", "y1")


def recognises(where: str) -> bool:
    """Return whether a folder has an index, or a file is one."""
    path = Path(where).expanduser()
    return (path / INDEX).is_file() if path.is_dir() else path.suffix.lower() == ".csv" and path.exists()


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return the images that the rows of an index name.

    Its columns are ``file``, relative to it, the first of ``class_index``, ``label``, ``class_name`` and
    ``class``, and perhaps a box, ``x0 y0 x1 y1``.

    Args:
        where: The index, or the folder with it.
        limit: At most so many rows, the first.
        keep_broken: As for :func:`~distillgrad.sources.open_data.open_data`.
    Raises:
        SourceError: it has no rows, lacks a column, names files that are not there or twice, or has a wrong
            label or box.
    """
    name = Path(where).expanduser()
    path = name / INDEX if name.is_dir() else name
    first = next(_rows(path), None)
    if first is None:
        raise SourceError(f"{path} has no rows")
    columns = [each for each in first if each is not None]
    label_column = next((each for each in INDEX_LABELS if each in columns), None)
    if "file" not in columns or label_column is None:
        has, wanted = ", ".join(columns), ", ".join(INDEX_LABELS)
        raise SourceError(f"{path} has the columns {has}; expected file and one of {wanted}")
    names = Names(map(_name, _rows(path)))
    if not keep_broken:
        _refuse_missing_or_repeated(path, names)
    return _indexed_rows(str(name), path, names[:limit], label_column, keep_broken)


def _rows(path: Path) -> Iterator[Mapping[str, str | None]]:
    """Yield the rows one by one: all of them would take a thousand bytes each."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} is no CSV file in UTF-8: {error}") from error


def _name(row: Mapping[str, str | None]) -> str:
    return (row["file"] or "").strip()


def _refuse_missing_or_repeated(path: Path, names: Names) -> None:
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(f"{path} names files that are not there: {', '.join(map(repr, missing[:3]))}{more}")
    (often, count), *_ = Counter(names).most_common(1)
    if count > 1:
        raise SourceError(f"{path} names {often} in {count} rows; give each image one row")


def _indexed_rows(
    name_of_data: str, path: Path, names: Names, label_column: str, keep_broken: bool
) -> ImageData:
    labels: list[Label] = []
    boxes: list[Box | None] = []
    faults: dict[int, str] = {}
    lines: dict[str, int] = {}
    ids = []
    for place, (name, row) in enumerate(zip(names, _rows(path), strict=False)):
        where = f"line {place + 2} of {path}"
        label, box = None, None
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
    return image_files(name_of_data, path.parent, names, ids, labels, boxes, faults=faults)


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
