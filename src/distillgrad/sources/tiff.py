"""The facts that a TIFF states of its values, and the values of those that Pillow cannot read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 262, 274
N_SAMPLES, PLANAR, EXTRA, KIND, SUBFILE = 277, 284, 338, 339, 254
WHITE_IS_ZERO, PALETTE, CMYK, LAB = 0, 3, 5, (8, 9, 10)
OPACITY = (1, 2)
"""ExtraSamples that are a band's opacity; 0, and a band that none is said of, are data."""
KINDS = {1: "unsigned", 2: "signed", 3: "floating-point"}
MOST_PAGES = 64
"""Pages that are looked at, to find a second one: a broken file may name them in a circle."""


@dataclass(frozen=True)
class TiffFacts:
    """The tags of a TIFF's first page.

    Attributes:
        size: Width and height.
        bits: Of one value.
        kind: Of the values, one of ``KINDS``.
        n_bands: Those of data, such as 3 for RGB with opacity.
        has_opacity: Whether one further band is said to be opacity.
        photometric: What the values mean, TIFF's number.
        separate: Whether each band is stored by itself.
        orientation: EXIF's number.
        several: Whether it has further pages, other than thumbnails.
    """

    size: tuple[int, int]
    bits: int
    kind: str
    n_bands: int
    has_opacity: bool
    photometric: int
    separate: bool
    orientation: int
    several: bool

    @property
    def words(self) -> str:
        """The bands and their depth, in words."""
        bands = f"{self.n_bands} band{'s' if self.n_bands > 1 else ''}"
        return f"{bands}{' and opacity' if self.has_opacity else ''} of {self.bits}-bit {self.kind} values"


def is_tiff(content: bytes) -> bool:
    """Return whether the bytes begin as a TIFF or BigTIFF does."""
    return content.startswith(tuple(PREFIXES))


def tiff_facts(content: bytes, name: str) -> TiffFacts:
    """Return what the first page's tags say; ``name`` is what errors call the file.

    Raises:
        SourceError: bands of different types.
        Exception: of whatever kind, where the file is broken.
    """
    pages = _pages(content)
    tags = next(pages, None)
    if tags is None or not {WIDTH, HEIGHT} <= set(tags):
        raise SourceError(f"{name} is a broken or truncated TIFF: it describes no image")
    several = any(not page.get(SUBFILE, 0) & 1 for page in pages)
    n_samples = tags.get(N_SAMPLES, 1)
    bits, kinds = tags.get(BITS, (1,)), tags.get(KIND, (1,))
    if len(set(bits)) > 1 or len(set(kinds)) > 1:
        raise SourceError(f"{name} has bands of different types ({bits} bits); save them as one type")
    n_opacities = sum(each in OPACITY for each in tags.get(EXTRA, ()))
    return TiffFacts(
        size=(tags[WIDTH], tags[HEIGHT]),
        bits=bits[0],
        kind=KINDS.get(kinds[0], "other"),
        n_bands=n_samples - n_opacities,
        has_opacity=n_opacities > 0,
        photometric=tags.get(PHOTOMETRIC, 1),
        separate=n_samples > 1 and tags.get(PLANAR, 1) == 2,
        orientation=tags.get(ORIENTATION, 1),
        several=several,
    )


def tiff_values(content: bytes, facts: TiffFacts) -> NDArray[np.generic]:
    """Return all bands of the first page, ``(H, W, bands)``, turned upright.

    Raises:
        MissingExtraError: tifffile is not installed.
        SourceError: the file is compressed in a way that tifffile cannot read by itself.
    """
    tifffile = optional("tifffile", "vision")
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        try:
            values: NDArray[np.generic] = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise SourceError(
                f"it has {facts.words}, compressed by {page.compression.name}, which needs the package "
                "imagecodecs; install it, or save the file with deflate or uncompressed"
            ) from error
    width, height = facts.size
    if facts.separate:
        values = np.moveaxis(values.reshape(-1, height, width), 0, -1)
    values = values.reshape(height, width, -1)
    if facts.orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if facts.orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if facts.orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _pages(content: bytes) -> Iterator[ImageFileDirectory_v2]:
    stream = io.BytesIO(content)
    header = stream.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += stream.read(8)
    page = ImageFileDirectory_v2(header)
    for _ in range(MOST_PAGES):
        if not page.next:
            return
        stream.seek(page.next)
        following = ImageFileDirectory_v2(header)
        following.load(stream)
        yield following
        page = following
