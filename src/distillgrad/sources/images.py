"""One image file as upright RGB pixels, whatever it is made of and however broken it is."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from distillgrad.errors import MissingExtraError, SourceError
from distillgrad.sources.samples import (
    FORMATS,
    OPAQUE_FROM,
    deep_colours,
    has_declared_depth,
    is_deep,
    refuse_bands,
    samples_of,
    samples_of_tiff,
)
from distillgrad.sources.tiff import TiffFacts, is_tiff, tiff_facts
from distillgrad.sources.value_range import ValueRange, as_bytes, checked_range

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 80_000_000
"""The most pixels, 240 MB of RGB: a file of more is taken for a decompression bomb."""
MIN_SIDE = 2
MAX_ASPECT = 200
"""Classifiers scale the shorter side to some 256 pixels: a thinner strip would become gigantic."""


class _WithoutWarnings:
    """A block without warnings while any thread is inside; then the filters are what the first one met.

    The filters belong to the whole process: were each thread to put back what it found on its own, the
    last one might put back what another had set, and warnings would be off for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._caught: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside and self._caught is not None:
                self._caught.__exit__(None, None, None)
                self._caught = None


_without_warnings = _WithoutWarnings()


def read_image(path: str | os.PathLike[str], *, value_range: ValueRange | None = None) -> Image.Image:
    """Return the image in a file: mode RGB, turned as its EXIF data says, the first frame of an animation.

    Depth: 8 and 16 bits have the range of their type. A 16-bit file whose values would fit 8, 10, 12 or 14
    bits, as scanners and cameras write them, is taken for one of so many, with a warning; so are floats
    within [0, 1]. Signed, wider and other floating-point values need ``value_range``. Bands: 1 is grey, 3
    are RGB, 4 of CMYK are converted, so are palettes; opacity, laid over white, is what the file says it is
    (an alpha channel, TIFF's ExtraSamples 1 or 2). A fourth band of any other kind is data: the image has
    the mode RGBX then, and only a model of four channels takes it.

    Args:
        path: The file.
        value_range: The values that are shown black and white, as the file has them: ``(low, high)``.
    Raises:
        SourceError: the file is missing, unreadable, not an image, truncated, a single pixel wide or
            high, larger than ``MAX_PIXELS`` or ``MAX_BYTES``, or of other bands or values than above.
        ParameterError: a range that is none.
        MissingExtraError: a TIFF that Pillow cannot read, but tifffile is not installed.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceError(f"{path} is not a file but a folder; name the images in it")
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is not a file")
        if status.st_size > MAX_BYTES:
            raise SourceError(
                f"{path} has {status.st_size / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are read"
            )
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"no such image: {path}") from error
    except SourceError:
        raise
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return decode_image(content, str(path), value_range=value_range)


def decode_image(
    content: bytes, name: str, *, max_pixels: int = MAX_PIXELS, value_range: ValueRange | None = None
) -> Image.Image:
    """Return the image in ``content``, as :func:`read_image` says; ``name`` is what errors call it."""
    image, notes = decoded_image(content, name, max_pixels, value_range)
    for each in notes:
        warnings.warn(each, stacklevel=2)
    return image


def decoded_image(
    content: bytes, name: str, max_pixels: int, value_range: ValueRange | None
) -> tuple[Image.Image, tuple[str, ...]]:
    """Return the image in ``content``, and what :func:`decode_image` warns of."""
    if not content:
        raise SourceError(f"{name} is empty")
    wanted = None if value_range is None else checked_range(value_range)
    try:
        with _without_warnings:  # Pillow's of odd metadata; of size we judge below
            return _decoded(content, name, max_pixels, wanted)
    except (SourceError, MissingExtraError):
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"{name} is not an image of a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise SourceError(f"{name} would decode to too many pixels; make it smaller: {error}") from error
    except Exception as error:  # decoders of hostile files raise almost anything
        raise SourceError(f"{name} is broken or truncated: {error}") from error


def sample_photograph() -> Path:
    """Return the photograph of a cat, Chelsea, that scikit-image ships (451×300; CC0, Stéfan van der Walt).

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("scikit-image", "regions")
    return Path(spec.submodule_search_locations[0]) / "data" / "chelsea.png"


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise SourceError(
            f"{name} has {width}×{height} pixels; at most {max_pixels:,} are decoded: make it smaller"
        )
    if max(size) > MAX_ASPECT * min(size) and min(size) >= MIN_SIDE:
        raise SourceError(f"{name} has {width}×{height} pixels: too thin a strip; crop it")
    if min(size) < MIN_SIDE:
        raise SourceError(
            f"{name} has {width}×{height} pixels; an explanation needs at least {MIN_SIDE} on each side"
        )


def _decoded(
    content: bytes, name: str, max_pixels: int, wanted: ValueRange | None
) -> tuple[Image.Image, tuple[str, ...]]:
    facts, pages = None, ""
    if is_tiff(content):
        facts = tiff_facts(content, name)
        _check_size(facts.size, name, max_pixels)
        refuse_bands(facts, name)
        if facts.several:
            pages = f"{name} has several pages, of which the first is read; save the others by themselves"
    image, guess = _shown(content, facts, name, max_pixels, wanted)
    return image, tuple(filter(None, (pages, guess)))


def _shown(
    content: bytes, facts: TiffFacts | None, name: str, max_pixels: int, wanted: ValueRange | None
) -> tuple[Image.Image, str]:
    """Return the image, and what was guessed of its values."""
    if facts is not None and (facts.separate or (facts.kind, facts.bits) == ("signed", 8)):
        return samples_of_tiff(content, facts, name).picture(name, wanted)
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if facts is None:
            raise
        return samples_of_tiff(content, facts, name).picture(name, wanted)
    with opened:
        _check_size(opened.size, name, max_pixels)
        return _converted(opened, content, facts, name, wanted)


def _converted(
    image: Image.Image, content: bytes, facts: TiffFacts | None, name: str, wanted: ValueRange | None
) -> tuple[Image.Image, str]:
    if image.mode == "LAB":
        raise SourceError(f"{name} has the colour space CIELAB; save it as RGB")
    declared = has_declared_depth(image)
    if wanted is not None and declared:
        raise SourceError(
            f"a value range does nothing here: {name} is a {image.format} file, which says its depth itself; "
            "leave it out"
        )
    if wanted is not None or is_deep(image, facts):
        return samples_of(image, content, facts, name).picture(name, wanted)
    deep = deep_colours(image)
    upright = ImageOps.exif_transpose(image)
    if deep and max(high for _, high in upright.getextrema()[:3]) < OPAQUE_FROM:  # type: ignore[misc]
        with Image.open(io.BytesIO(content), formats=FORMATS) as again:
            return samples_of(again, content, facts, name).picture(name, wanted)
    return _to_rgb(upright), ""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16 bits to 255 instead of scaling them
        return Image.fromarray(as_bytes(np.asarray(image), (0, 65535))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
