"""Labels of ImageNet's validation images, by the file of names and classes that lies with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distillgrad.errors import SourceError

GROUND_TRUTH = ("val.txt", "ILSVRC2012_validation_ground_truth.txt")
"""Lines of a file's name and its class, or class numbers by line."""


def labels_by_ground_truth(folder: Path, names: Sequence[str]) -> list[str | int | None]:
    """Return the classes of ImageNet's validation images, by a file with them or beside them; [] without one.

    Only a file of names and classes will do (as Caffe's ``val.txt``, numbered from 0 in the order of WordNet
    ids): numbers alone are those of ILSVRC's development kit, in *its* order. One of other images is ignored.

    Raises:
        SourceError: lines of another form, or not one for each image.
    """
    places = [each / name for name in GROUND_TRUTH for each in (folder, folder.absolute().parent)]
    labelled = (_labels_in(each, names) for each in places if each.is_file())
    return next((each for each in labelled if each), [])


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
