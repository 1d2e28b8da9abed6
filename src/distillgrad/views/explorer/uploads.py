"""Images that visitors upload: checked at once, kept as they came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from distillgrad.errors import SourceError
from distillgrad.sources.images import decode_image, sample_photograph
from distillgrad.views.recipe import SAMPLE

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Picture:
    """A visitor's image as it came, since pixels would fill the memory; ``name`` of ``None`` is the sample."""

    content: bytes
    name: str | None

    @property
    def image(self) -> Image.Image:
        """The pixels. Cost: they are decoded each time."""
        return decode_image(self.content, self.name or SAMPLE, max_pixels=MAX_PIXELS)


def picture_of(path: str | None) -> Picture:
    """Return the uploaded image, its first frame if it moves; without a path the sample photograph.

    Raises:
        SourceError: no image, a broken one, or one of more than ``MAX_BYTES`` or ``MAX_PIXELS``; the message
            names it as the visitor does, never where it lies here.
    """
    if path is None:
        return Picture(sample_photograph().read_bytes(), None)
    file = Path(path)
    name = file.name[:120] or "the image"
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise SourceError(f"{name} has {size / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are taken")
        content = file.read_bytes()
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{name} did not arrive; drop it again") from error
    picture = Picture(content, name)
    _ = picture.image  # what cannot be decoded is refused at once
    return picture
