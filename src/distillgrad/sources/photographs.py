"""Views of the photographs that scikit-image ships: images that are always there."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from distillgrad.errors import ParameterError
from distillgrad.sources.images import read_image, sample_photograph
from distillgrad.sources.open_data import ImageData

NAME = "photographs"

PHOTOGRAPHS = ("chelsea.png", "rocket.jpg", "coffee.png", "astronaut.png", "motorcycle_left.png")
"""A cat, a rocket on its pad, a cup, a woman before a shuttle, a motorcycle; four are free of rights."""

VIEWS: dict[str, tuple[float, float, float, bool]] = {
    "whole": (1.0, 0.5, 0.5, False),
    "mirrored": (1.0, 0.5, 0.5, True),
    "left": (0.8, 0.0, 0.5, False),
    "right": (0.8, 1.0, 0.5, False),
    "close": (0.7, 0.5, 0.5, False),
    "close, mirrored": (0.7, 0.5, 0.5, True),
}
"""The views by name: the square's share of the shorter side, its place across and down, mirrored or not."""


def photographs(*, limit: int | None = None) -> ImageData:
    """Return six views of five photographs: first every photograph whole, then mirrored, then closer.

    Views of one photograph are alike, so statistics over them say little of other photographs. They have
    no labels: what a classifier of other things makes of them is its own.

    Args:
        limit: Only the first so many views.
    Raises:
        ParameterError: ``limit`` below 1.
        MissingExtraError: scikit-image is not installed.
    """
    if limit is not None and limit < 1:
        raise ParameterError(f"limit must be at least 1, not {limit}")
    folder = sample_photograph().parent
    chosen = [(name, view) for view in VIEWS for name in PHOTOGRAPHS][:limit]
    unknown = (None,) * len(chosen)

    def decode(place: int) -> Image.Image:
        name, view = chosen[place]
        return _seen(read_image(folder / name), *VIEWS[view])

    return ImageData(
        name=NAME,
        ids=tuple(f"{Path(name).stem}, {view}" for name, view in chosen),
        labels=unknown,
        boxes=unknown,
        classes=(),
        decode=decode,
    )


def photograph_of(name: str) -> str:
    """Return the photograph that a view is of, from the view's id."""
    return name.partition(", ")[0]


def _seen(image: Image.Image, share: float, across: float, down: float, mirrored: bool) -> Image.Image:
    width, height = image.size
    side = round(share * min(width, height))
    left, top = round(across * (width - side)), round(down * (height - side))
    square = image.crop((left, top, left + side, top + side))
    return ImageOps.mirror(square) if mirrored else square
