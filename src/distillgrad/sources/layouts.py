"""The ways in which images are kept: one table for ``open_data``, the commands' help and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillgrad.errors import SourceError

if TYPE_CHECKING:
    from distillgrad.sources.image_data import ImageData


@dataclass(frozen=True)
class Layout:
    """A way in which images are kept, and the module that knows it.

    Attributes:
        form: What is given, in Markdown.
        labels: Where the labels come from.
        brief: What is given, in a word or two.
        module: Below ``distillgrad.sources``; it has ``recognises(where)``, and ``open_at(where, limit,
            keep_broken)``, which returns the :class:`~distillgrad.sources.image_data.ImageData`.
    """

    form: str
    labels: str
    brief: str
    module: str

    @property
    def code(self) -> Any:
        """The module, imported when it is needed."""
        return import_module(f"distillgrad.sources.{self.module}")


LAYOUTS = (
    Layout(
        "`hf-dataset:NAME` or `hf-dataset:NAME:SPLIT`: a name, or a saved folder, that Hugging Face's "
        "`datasets` loads",
        "its column `label` or `fine_label`",
        "hf-dataset:NAME",
        "huggingface_data",
    ),
    Layout(
        "CIFAR-10's Python version, a folder (its test part), or `cifar10:FOLDER:train`; no pickle runs code",
        "CIFAR-10's classes",
        "CIFAR-10's folder",
        "cifar10",
    ),
    Layout(
        "a folder with an `index.csv`, or that file: a column `file`, relative to it, and perhaps a box in "
        "`x0 y0 x1 y1`",
        "its column `class_index`, `label`, `class_name` or `class`",
        "index.csv",
        "image_index",
    ),
    Layout(
        "a Parquet file with encoded images in a column `image` or `img`",
        "its column `label` or `fine_label`; below 0: none",
        "Parquet file",
        "parquet",
    ),
    Layout("an image file, a folder of images", "none", "image or folder of images", "image_folders"),
    Layout("a folder of class folders", "the folder's name", "class folders", "image_folders"),
    Layout(
        "ImageNet's `val` folder with a `val.txt` of names and classes in it or beside it",
        "by that file",
        "ImageNet's val",
        "image_folders",
    ),
    Layout(
        "`my_module:my_data`, your function that returns an `ImageData`, or an entry point's name in the "
        "group `distillgrad.data`",
        "as it says",
        "my_module:my_data",
        "own_data",
    ),
)
"""The layouts in the order in which they are tried; a new one is its module and a row here."""

DATA_HELP = f"Images: {', '.join(each.brief for each in LAYOUTS)}."


def layouts_table() -> str:
    """Return the layouts as the documentation shows them."""
    rows = [f"| {each.form} | {each.labels} |" for each in LAYOUTS]
    return "\n".join(["| what | labels |", "|---|---|", *rows])


def open_at(where: str | Path, limit: int | None, keep_broken: bool) -> ImageData:
    """Return the images at a place in whichever layout recognises it.

    Raises:
        SourceError: none does, or what it is cannot be read.
    """
    words = str(where)
    try:
        for layout in LAYOUTS:
            if layout.code.recognises(words):
                opened: ImageData = layout.code.open_at(words, limit, keep_broken)
                return opened
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"cannot read {Path(words).expanduser()}: {error}") from error
    raise SourceError(f"no data at {Path(words).expanduser()}: there is no such file or folder")
