"""Images in a folder, or in folders named after their classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

from distillgrad.errors import SourceError
from distillgrad.sources.ground_truth import labels_by_ground_truth
from distillgrad.sources.image_data import ImageData, image_files
from distillgrad.sources.names import Names
from distillgrad.sources.samples import FORMATS

IMAGE_FILE = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?|p[bgnp]m|jp2|j2k|avif)", re.IGNORECASE)


def recognises(where: str) -> bool:
    """Return whether something is there: a folder, or what should be an image file."""
    return Path(where).expanduser().exists()


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return the image of a file, or those in a folder; if there are folders of them, these are classes.

    Args:
        where: The file or folder.
        limit: At most so many images; of class folders as many of each as of the others.
        keep_broken: As for :func:`~distillgrad.sources.open_data.open_data`.
    Raises:
        SourceError: no image is there, or images are beside folders of them.
    """
    root = Path(where).expanduser()
    if not root.is_dir():
        return image_files(str(root), root.parent, [root.name])
    names, folders = _visible(root)
    inside = {
        each: Names(_images_below(root, each, {root.resolve()}, keep_broken))
        for each in names
        if each in folders
    }

    def is_image(name: str) -> bool:
        return not inside.get(name) and _is_image(root, name, keep_broken)

    images = Names(filter(is_image, names))
    by_class = {name: each for name, each in inside.items() if not is_image(name)}
    n_inside = sum(map(len, by_class.values()))
    if images and n_inside:
        folder = next(name for name, each in by_class.items() if each)
        raise SourceError(f"{root} holds images ({images[0]}) beside folders of them ({folder}): move one")
    if not images and not n_inside:
        holds = ", ".join(names[:3])
        has = f"which holds {holds}, nor in folders inside it" if holds else "which is empty"
        raise SourceError(f"no images ({', '.join(FORMATS)}) in {root}, {has}")
    if images:
        images = images[:limit]
        return image_files(str(root), root, images, labels=labels_by_ground_truth(root, images))
    shares = _shares([len(each) for each in by_class.values()], limit)
    return image_files(
        str(root),
        root,
        chain.from_iterable(each[:share] for each, share in zip(by_class.values(), shares, strict=True)),
        labels=list(chain.from_iterable(map(repeat, by_class, shares))),
        classes=tuple(sorted(by_class)),
    )


def _shares(sizes: Sequence[int], limit: int | None) -> list[int]:
    """Return how many of each: the first of every class, then the second, until there are enough of them."""
    if limit is None:
        return list(sizes)
    shares = [0] * len(sizes)
    rest = min(limit, sum(sizes))
    while rest:
        for place, size in enumerate(sizes):
            if rest and shares[place] < size:
                shares[place] += 1
                rest -= 1
    return shares


def _visible(folder: Path) -> tuple[Names, set[str]]:
    """Return what a folder holds, in natural order (digits in names compare as numbers); its folders."""
    keys, folders = [], set()
    with os.scandir(folder) as entries:
        for each in entries:
            if each.name.startswith("."):
                continue
            keys.append(_order(each.name))
            if each.is_dir(follow_symlinks=False) or (each.is_symlink() and Path(each).is_dir()):
                folders.add(each.name)
    keys.sort()
    return Names(each.rpartition("\0")[2] for each in keys), folders


def _order(name: str) -> str:
    """Return what sorts a name by the value of its numbers, then by itself, which follows its last NUL.

    A number is a NUL, which no name has and which goes before all others, how many digits it has, and they.
    """

    def by_value(number: re.Match[str]) -> str:
        digits = number[0].lstrip("0")
        return f"\0{chr(1 + len(digits))}{digits}"

    return re.sub(r"[0-9]+", by_value, name) + "\0\0" + name


def _is_image(folder: Path, name: str, keep_broken: bool) -> bool:
    return IMAGE_FILE.fullmatch(name) is not None and (keep_broken or (folder / name).is_file())


def _images_below(root: Path, folder: str, visited: set[Path], keep_broken: bool) -> Iterator[str]:
    """Yield the images in a folder below ``root`` and in those inside it, each of which is entered once."""
    place = root / folder
    if place.resolve() in visited:
        return
    visited.add(place.resolve())
    names, folders = _visible(place)
    for each in names:
        name = f"{folder}/{each}"
        images = Names(_images_below(root, name, visited, keep_broken)) if each in folders else ()
        if images:
            yield from images
        elif _is_image(place, each, keep_broken):
            yield name
