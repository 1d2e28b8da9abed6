"""An image's values as its file has them, of any depth, with its bands of data told from its opacity."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from distillgrad.errors import SourceError
from distillgrad.sources.preprocess import FOUR_BANDS
from distillgrad.sources.tiff import CMYK, LAB, PALETTE, WHITE_IS_ZERO, TiffFacts, tiff_values
from distillgrad.sources.value_range import ValueRange, as_bytes, range_in

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""The formats that are decoded: pixel formats only, none that runs an interpreter (EPS, PDF)."""
N_BANDS = (1, 3, 4)
OPAQUE_FROM = 64
"""A high byte from here on says that the values of a deep picture take all 16 bits: no sensor has 15."""


@dataclass(frozen=True)
class Samples:
    """The values of an upright image.

    Attributes:
        values: ``(H, W, bands)``, as the file has them.
        opacity: ``(H, W)``, uint8; ``None`` for an image without.
        white_is_zero: Whether the lowest value is white.
    """

    values: NDArray[np.generic]
    opacity: NDArray[np.uint8] | None = None
    white_is_zero: bool = False

    def picture(self, name: str, wanted: ValueRange | None) -> tuple[Image.Image, str]:
        """Return the image in 8 bits, and what was guessed of its range; opacity is laid over white.

        Raises:
            SourceError: as :func:`~distillgrad.sources.value_range.range_in`.
        """
        shown, guess = range_in(self.values, name, wanted)
        pixels = as_bytes(self.values, shown)
        pixels = 255 - pixels if self.white_is_zero else pixels
        if pixels.shape[2] == 4:
            height, width, _ = pixels.shape
            return Image.frombytes(FOUR_BANDS, (width, height), pixels.tobytes()), guess
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        if self.opacity is None:
            return image, guess
        image.putalpha(Image.fromarray(self.opacity))
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"), guess


def refuse_bands(facts: TiffFacts, name: str) -> None:
    """Check that a TIFF's bands are grey, colours, CMYK or four of data.

    Raises:
        SourceError: they are others; names them.
    """
    if facts.photometric in LAB:
        raise SourceError(f"{name} has the colour space CIELAB; save it as RGB")
    allowed = {CMYK: (4,), PALETTE: (1,)}.get(facts.photometric, N_BANDS)
    if facts.n_bands not in allowed or (facts.has_opacity and facts.n_bands == 4):
        raise SourceError(
            f"{name} has {facts.words}; images of 1, 3 or 4 bands are read: write the bands that the model "
            "takes to a file of their own, or give the method a tensor in Python"
        )
    if facts.kind == "other":
        raise SourceError(f"{name} has {facts.words}; save it as 8 or 16 bits")


def samples_of_tiff(content: bytes, facts: TiffFacts, name: str) -> Samples:
    """Return the values of a TIFF that Pillow cannot read, or reads as something else.

    Raises:
        SourceError: it can be read by nobody else, either.
        MissingExtraError: tifffile is not installed.
    """
    if facts.photometric not in (WHITE_IS_ZERO, 1, 2):
        raise SourceError(f"{name} has {facts.words} of colour space {facts.photometric}; save it as RGB")
    try:
        values = tiff_values(content, facts)
    except SourceError as error:
        raise SourceError(f"{name}: {error}") from error
    bands, rest = values[..., : facts.n_bands], values[..., facts.n_bands :]
    white_is_zero = facts.photometric == WHITE_IS_ZERO
    return Samples(bands, _opacity(rest[..., 0]) if facts.has_opacity else None, white_is_zero)


def is_deep(image: Image.Image, facts: TiffFacts | None) -> bool:
    """Return whether an open image's values are more than those that Pillow shows, or other ones."""
    if image.mode.startswith(("I", "F")):
        return not has_declared_depth(image)
    return facts is not None and facts.n_bands == 4 and facts.photometric != CMYK


def has_declared_depth(image: Image.Image) -> bool:
    """Return whether the file says how many of its type's values it uses, and Pillow has scaled them."""
    tiles: Any = getattr(image, "tile", ())
    if image.format == "PPM":
        return bool(tiles) and tiles[0].codec_name == "ppm" and tiles[0].args[-1] not in (255, 65535)
    return image.format in ("JPEG2000", "AVIF")


def deep_colours(image: Image.Image) -> str:
    """Return the raw mode of colours in 16 bits, of which Pillow reads the high byte; "" for others."""
    tiles = getattr(image, "tile", ())
    if not tiles or image.mode not in ("RGB", "RGBA", "LA"):
        return ""
    if image.format == "PPM":
        return "RGB;16B" if tiles[0].codec_name == "ppm" and tiles[0].args[-1] == 65535 else ""
    arguments = tiles[0].args
    raw = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return raw if isinstance(raw, str) and ";16" in raw else ""


def samples_of(image: Image.Image, content: bytes, facts: TiffFacts | None, name: str) -> Samples:
    """Return the values of an open image that is not loaded yet.

    Raises:
        SourceError: they are no intensities but places of a palette, inks, or yes and no.
    """
    white_is_zero = facts is not None and facts.photometric == WHITE_IS_ZERO
    if image.mode.startswith(("I", "F")):
        values = np.asarray(ImageOps.exif_transpose(image))[..., None]
        values = values.astype(_type_of(image, facts) or values.dtype.newbyteorder("="))
        return Samples(values, _where_not(values, image), white_is_zero)
    raw = deep_colours(image)
    four = facts is not None and facts.n_bands == 4 and facts.photometric != CMYK
    if four:
        raw = raw.replace("RGBX", "RGBA") or "RGBA"
    elif image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise SourceError(
            f"{name} has the mode {image.mode}, whose values are no intensities: a value range does nothing "
            "here; leave it out, or save the file as grey or RGB"
        )
    values = _sixteen_bits(content, raw, four=four) if ";" in raw else _bytes(content, raw)
    if white_is_zero:  # Pillow has turned 8 bits round
        values = 255 - values
    n_bands = 4 if four else 1 if image.mode in ("L", "LA") or raw.startswith("LA") else 3
    bands, rest = values[..., :n_bands], values[..., n_bands:]
    opacity = _opacity(rest[..., 0]) if rest.shape[2] else _where_not(bands, image)
    return Samples(bands, opacity, white_is_zero)


def _type_of(image: Image.Image, facts: TiffFacts | None) -> type[np.integer[Any]] | None:
    """The type of grey values in the file, which Pillow may widen."""
    if facts is None:
        return np.uint16 if image.format == "PPM" and image.mode == "I" else None
    types: dict[tuple[str, int], type[np.integer[Any]]] = {
        ("unsigned", 16): np.uint16,
        ("signed", 16): np.int16,
        ("unsigned", 32): np.uint32,
        ("signed", 32): np.int32,
    }
    return types.get((facts.kind, facts.bits))


def _bytes(content: bytes, raw: str) -> NDArray[np.uint8]:
    values = _read(content, raw, four=bool(raw))
    return values if values.ndim == 3 else values[..., None]


def _sixteen_bits(content: bytes, raw: str, *, four: bool) -> NDArray[np.uint16]:
    """Return all bits of values of which Pillow reads one byte: the other is the high one of the other order.

    Grey with opacity lies there like four bands of bytes.
    """
    if raw == "LA;16B":
        pairs = _read(content, "RGBA")
        return _joined(pairs[..., ::2], pairs[..., 1::2])
    colours, _, order = raw.partition(";")
    native = "16L" if sys.byteorder == "little" else "16B"
    order = native if order == "16N" else order
    other = "16B" if order == "16L" else "16L"
    high, low = (_read(content, f"{colours.upper()};{each}", four=four) for each in (order, other))
    values = _joined(high, low)
    if colours == "RGBa":  # multiplied by opacity
        opacity = values[..., 3:].clip(1).astype(np.uint32)
        values[..., :3] = (values[..., :3] * np.uint32(65535) // opacity).clip(0, 65535)
    return values


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return high * np.uint16(256) + low


def _read(content: bytes, raw: str = "", *, four: bool = False) -> NDArray[np.uint8]:
    """Return an image's bytes, upright, unpacked by another raw mode than the one that Pillow takes."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if raw:
            image.tile = [_with_raw(each, raw) for each in image.tile]
        if four:
            image._mode = "RGBA"  # Pillow would drop the fourth
        return np.asarray(ImageOps.exif_transpose(image))


def _with_raw(tile: Any, raw: str) -> Any:
    if tile.codec_name == "ppm":  # which reads one byte of the two
        return tile._replace(codec_name="raw", args=(raw, 0, 1))
    return tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))


def _opacity(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    return as_bytes(values, (0, 1 if values.dtype.kind == "f" else 2 ** (8 * values.dtype.itemsize) - 1))


def _where_not(values: NDArray[np.generic], image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the opacity of a PNG in which one value or colour is transparent."""
    key = image.info.get("transparency")
    if not isinstance(key, int | tuple):
        return None
    opaque = np.any(values != np.asarray(key).reshape(1, 1, -1), axis=-1)
    return np.where(opaque, np.uint8(255), np.uint8(0))
