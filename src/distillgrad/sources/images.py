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

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is decoded: pixel formats only, none that runs an interpreter (EPS, PDF)."""
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 80_000_000
"""Above this a file is taken for a decompression bomb: 240 MB of RGB."""
DEPTHS = (8, 10, 12, 14)
"""Bits of sensors whose values are written into files of 16."""
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


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Return the image in a file: mode RGB, turned as its EXIF data says, the first frame of an animation.

    16-bit greyscale is scaled to 8 bits, transparency is laid over white, palettes and CMYK are converted.
    A 16-bit file whose values would fit 8, 10, 12 or 14 bits, as scanners and cameras write them, is taken
    for one of so many, with a warning.

    Raises:
        SourceError: the file is missing, unreadable, not an image, truncated, a single pixel wide or
            high, or larger than ``MAX_PIXELS`` or ``MAX_BYTES``.
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
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image in ``content``, as :func:`read_image` says; ``name`` is what errors call it."""
    if not content:
        raise SourceError(f"{name} is empty")
    try:
        # Pillow warns of odd metadata; of size we judge below.
        with _without_warnings, Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image.size, name, max_pixels)
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "F":
                raise SourceError(
                    f"{name} has floating-point pixels, which have no agreed range; save them as 8 or 16 bits"
                )
            levels = _levels(upright)
            guessed = 0 < levels < 65535 and (upright.mode, levels) != ("I", 255)
            converted = _to_rgb(upright, levels)
    except SourceError:
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"{name} is not an image of a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise SourceError(f"{name} would decode to too many pixels; make it smaller: {error}") from error
    except Exception as error:  # decoders of hostile files raise almost anything
        raise SourceError(f"{name} is broken or truncated: {error}") from error
    if guessed:
        warnings.warn(
            f"{name} has 16 bits, of which its values take {levels.bit_length()}: it is shown from 0 to "
            f"{levels}; scale it to all 16 bits if that is wrong",
            stacklevel=2,
        )
    return converted


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


def _levels(image: Image.Image) -> int:
    """Return the largest value of as many bits as the values of a deep picture need; 0 for others."""
    if not image.mode.startswith("I"):
        return 0
    largest = int(np.asarray(image).max(initial=0))
    return next((2**bits - 1 for bits in DEPTHS if largest < 2**bits), 65535)


def _to_rgb(image: Image.Image, levels: int) -> Image.Image:
    if levels:
        # Pillow would clip 16 bits to 255 instead of scaling them.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values.clip(0, levels) * 255 // levels).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")
