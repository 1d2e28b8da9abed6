"""Images one by one: their names, their labels, and how they are decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from distillgrad.errors import ParameterError, SourceError
from distillgrad.sources.images import read_image
from distillgrad.sources.names import Names
from distillgrad.sources.value_range import ValueRange, checked_range

Label: TypeAlias = str | int | None
Box: TypeAlias = tuple[float, float, float, float]

ESCAPE = re.compile(r"\\x[0-9a-f]{2}")


@dataclass(frozen=True)
class Sample:
    """An image: its name, its upright RGB pixels, its class and the box around its object.

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
        value_range: The values of the files that are shown black and white; ``None``: as their type says.
    """

    name: str
    ids: Sequence[str]
    labels: tuple[Label, ...]
    boxes: tuple[Box | None, ...]
    classes: tuple[str, ...]
    decode: Callable[[int], Image.Image]
    value_range: ValueRange | None = None

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
        """Return some neighbours among the images, which travel to another process without the rest."""
        cut = slice(places.start, places.stop)
        part_of = getattr(self.decode, "part", None)
        decode = part_of(places) if part_of else partial(_shifted, self.decode, places.start)
        return replace(self, ids=self.ids[cut], labels=self.labels[cut], boxes=self.boxes[cut], decode=decode)

    def shown_from(self, value_range: ValueRange) -> ImageData:
        """Return the images with these values of their files shown black and white.

        Raises:
            ParameterError: a range that is none, or images that are no files.
        """
        checked = checked_range(value_range)
        shown_from = getattr(self.decode, "shown_from", None)
        if shown_from is None:
            raise ParameterError(
                f"a value range does nothing here: {self.name} holds no image files but pixels of 8 bits; "
                "leave it out"
            )
        return replace(self, decode=shown_from(checked), value_range=checked)

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))  # unlike a generator, it survives an error


@dataclass(frozen=True)
class ImageFiles:
    """A decoder that reads the file of a place, or says why there is none to read."""

    root: Path
    names: Names
    faults: Mapping[int, str]
    value_range: ValueRange | None = None

    def __call__(self, place: int) -> Image.Image:
        if place in self.faults:
            raise SourceError(self.faults[place])
        return read_image(self.root / self.names[place], value_range=self.value_range)

    def part(self, places: range) -> ImageFiles:
        """Return some of them, also for a process that works in another folder."""
        faults = {place - places.start: self.faults[place] for place in places if place in self.faults}
        names = self.names[places.start : places.stop]
        return ImageFiles(self.root.absolute(), names, faults, self.value_range)

    def shown_from(self, value_range: ValueRange) -> ImageFiles:
        """Return the same files, with these values shown black and white."""
        return replace(self, value_range=value_range)

    def fingerprint(self) -> Iterator[int]:
        """Yield the files' sizes in bytes, -1 where there is none."""
        for name in self.names:
            try:  # no path objects, which would take as long as the rest
                yield os.stat(os.path.join(self.root, name)).st_size
            except (OSError, ValueError):  # a name that no file can have
                yield -1


def image_files(
    name: str,
    root: Path,
    names: Iterable[str],
    ids: Iterable[str] | None = None,
    labels: Sequence[Label] = (),
    boxes: Sequence[Box | None] = (),
    classes: tuple[str, ...] = (),
    faults: Mapping[int, str] | None = None,
) -> ImageData:
    """Return files as data.

    Args:
        name: Where they come from, in words.
        root: The folder that they lie in.
        names: The files' names below it.
        ids: What to call them, if not by these names.
        labels, boxes, classes: As :class:`ImageData` has them.
        faults: By place, why there is no image to read.
    """
    names = Names(names)
    called = Names(map(distinct, names if ids is None else ids))
    unknown = (None,) * len(names)
    return ImageData(
        name=name,
        ids=names if called == names else called,  # where it can be, one copy of both
        labels=shared(distinct(each) if isinstance(each, str) else each for each in labels) or unknown,
        boxes=tuple(boxes) or unknown,
        classes=tuple(map(distinct, classes)),
        decode=ImageFiles(root, names, {place: readable(each) for place, each in (faults or {}).items()}),
    )


def shared(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Return the labels, of equal ones a single object: a class has many images."""
    known: dict[Label, Label] = {}
    return tuple(known.setdefault(each, each) for each in labels)


def readable(text: str) -> str:
    """Return the text, with escapes for bytes of a file's name that no table could keep, being no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def distinct(name: str) -> str:
    """Return the name of a file as an id: as it is, if it is text; otherwise escaped as no other name is."""
    if readable(name) == name and not ESCAPE.search(name):
        return name
    return readable(name.replace("\\", "\\\\"))


def _shifted(decode: Callable[[int], Image.Image], start: int, place: int) -> Image.Image:
    return decode(start + place)
