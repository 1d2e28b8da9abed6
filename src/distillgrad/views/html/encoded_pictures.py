"""Pictures as data URIs, so that a page carries them itself, as large as its budget allows."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

COARSE = 96
"""The longest side of a picture whose pixels are drawn as squares, and kept as they are."""
STEPS = ((1.0, 82), (1.0, 60), (0.75, 60), (0.5, 60), (0.5, 40), (0.35, 40), (0.25, 30))
"""Shares of the side and qualities that are tried until a picture is small enough."""


def is_coarse(pixels: NDArray[Any]) -> bool:
    """Return ``True`` if the pixels are few enough to be looked at one by one."""
    return bool(max(pixels.shape[:2]) <= COARSE)


def data_uri(pixels: NDArray[Any], *, at_most: int | None = None, quality: int = 82) -> str:
    """Return a WebP of ``pixels`` ``(H, W, 3)`` or with alpha ``(H, W, 4)``, floats in [0, 1].

    Lossless where the pixels are few.

    Args:
        at_most: The number of characters until which the picture is made coarser, as far as that goes.
    """
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    if is_coarse(pixels):
        uri = _encoded(picture, lossless=True)
        if at_most is None or len(uri) <= at_most:
            return uri
    if at_most is None:
        return _encoded(picture, quality=quality)
    for share, quality_of_step in STEPS:
        size = (max(1, round(picture.width * share)), max(1, round(picture.height * share)))
        smaller = picture.resize(size, Image.Resampling.LANCZOS) if share < 1 else picture
        uri = _encoded(smaller, quality=quality_of_step)
        if len(uri) <= at_most:
            break
    return uri


def _encoded(picture: Image.Image, *, quality: int = 80, lossless: bool = False) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, lossless=lossless, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
