"""Images in a folder, or in folders named after their classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from distillgrad.errors import SourceError
from distillgrad.sources.image_data import ImageData, image_files
from distillgrad.sources.images import FORMATS
from distillgrad.sources.layouts import labels_by_ground_truth

IMAGE_FILE = re.compile(r".+\.(jpe?g|png|webp|gif|bmp|tiff?|p[bgnp]m|jp2|j2k|avif)", re.IGNORECASE)


def in_folder(root: Path, limit: int | None, keep_broken: bool) -> ImageData:
    """The images in a folder; if there are folders of them, these are their classes.

    Raises:
        SourceError: no image is there, or images are beside folders of them.
    """
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
        return image_files(images[:limit], names_of, labels_by_ground_truth(root, names_of))
    # The first of every class, then the second, until there are enough of them; listed by class.
    turns = [(turn, place) for place, each in enumerate(by_class.values()) for turn in range(len(each))]
    names, groups = zip(*by_class.items(), strict=True)
    chosen = sorted((place, turn) for turn, place in sorted(turns)[:limit])
    paths = [groups[place][turn] for place, turn in chosen]
    ids = [each.relative_to(root).as_posix() for each in paths]
    labels = [names[place] for place, _ in chosen]
    return image_files(paths, ids, labels, classes=tuple(sorted(names)))


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
