"""Images that visitors upload: checked at once, kept as they came."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from distillgrad.errors import SourceError
from distillgrad.sources.images import decoded_image, sample_photograph
from distillgrad.sources.value_range import ValueRange
from distillgrad.views.recipe import SAMPLE

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Picture:
    """A visitor's image as it came, since pixels would fill the memory.

    Attributes:
        name: The file's; ``None`` for the sample.
        value_range: The file's values that are shown black and white, where they are said.
        notes: What the visitor should know of how it was read.
    """

    content: bytes
    name: str | None
    value_range: ValueRange | None = None
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The pixels. Cost: they are decoded each time."""
        return decoded_image(self.content, self.name or SAMPLE, MAX_PIXELS, self.value_range)[0]


def picture_of(path: str | None, value_range: ValueRange | None = None) -> Picture:
    """Return the uploaded image, its first frame if it moves; without a path the sample photograph.

    Args:
        value_range: The values of uploaded files that are shown black and white.

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
    _, notes = decoded_image(content, name, MAX_PIXELS, value_range)  # or it is refused at once
    return Picture(content, name, value_range, notes)
