"""An exhibit: a table or figure of the paper made anew, its findings, and its files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.core.forward import Model
from distillgrad.errors import SourceError
from distillgrad.metrics.statistics import Groups
from distillgrad.paper.verdicts import Verdict
from distillgrad.runs.files import written_whole
from distillgrad.runs.manifest import read_json
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData, open_data
from distillgrad.sources.photographs import NAME as PHOTOGRAPHS
from distillgrad.sources.photographs import photograph_of, photographs
from distillgrad.views.markdown import markdown_table

RECORD = "exhibit.json"


@dataclass(frozen=True)
class Table:
    """Rows of words under heads."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A file in the exhibit's folder.

    Attributes:
        shows_images: ``True`` if images of the data can be seen in it, whose licence then holds for it.
    """

    file: str
    caption: str
    shows_images: bool = False


@dataclass(frozen=True)
class Exhibit:
    """The content of an exhibit.

    Attributes:
        name, title, source: As in the registry.
        findings: Sentences, computed from the numbers.
        numbers: All of them, for machines.
        images: The number of images that it was made of; 0 if none.
        subject: The subject in words, if it was made of no images.
    """

    name: str
    title: str
    source: str
    findings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0
    subject: str = ""


@dataclass(frozen=True)
class Setting:
    """The model, the data and the folder that exhibits are made from and into.

    Attributes:
        load: Returns the classifier, and the same as fast as it can be had; called once, when it is needed.
        model, data: The names in the request.
        limit: The number of images; ``None``: as many as suit the exhibit.
        methods: As for ``evaluate``; "": the paper's.
        target: The class of Figure 4; ``None``: the predicted one.
        precision: That of the faster equivalent.
        roar_data: As for ``roar``.
        roar_run: The folder of a finished ``roar`` run to take instead of making one.
        roar_device: The device that its networks are trained on; ``None``: the CPU.
    """

    load: Callable[[], tuple[LoadedModel, Model]]
    out: Path
    model: str = "cifar10-cnn"
    data: str = PHOTOGRAPHS
    limit: int | None = None
    methods: str = ""
    target: str | None = None
    roar_data: str = "digits"
    roar_run: Path | None = None
    n_steps: int = 20
    n_masks: int = 100
    precision: Precision = "float32"
    seed: int = 0
    roar_device: torch.device | None = None

    @cached_property
    def _both(self) -> tuple[LoadedModel, Model]:
        return self.load()

    @property
    def loaded(self) -> LoadedModel:
        """The classifier as it was made."""
        return self._both[0]

    @property
    def fast(self) -> Model:
        """An equivalent of the classifier's model that takes less time."""
        return self._both[1]

    @property
    def device(self) -> torch.device:
        """The classifier's device."""
        return self.loaded.device

    def images(self, suitable: int) -> ImageData:
        """Return the data's first images: as many as the request limits them to, or else as many as suit."""
        limit = self.limit or suitable
        return photographs(limit=limit) if self.data == PHOTOGRAPHS else open_data(self.data, limit=limit)

    @property
    def unit(self) -> str:
        """The independent samples in a word: views of one photograph are one of them."""
        return PHOTOGRAPHS if self.data == PHOTOGRAPHS else "images"

    def groups(self, names: Sequence[str]) -> Groups | None:
        """Return the photograph that each of the images is a view of; ``None`` if each is one of its own."""
        return [photograph_of(name) for name in names] if self.data == PHOTOGRAPHS else None

    def folder(self, exhibit: str) -> Path:
        """Return the folder of an exhibit's files."""
        return self.out / exhibit


def save_exhibit(exhibit: Exhibit, folder: Path, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record, and each table as Markdown and CSV, beside the pictures; return the record."""
    record: dict[str, Any] = defined({**asdict(exhibit), "circumstances": dict(circumstances)})
    contents = {RECORD: json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)}
    for place, table in enumerate(exhibit.tables, start=1):
        stem = "table" if len(exhibit.tables) == 1 else f"table-{place}"
        lines = [table.caption, "", *markdown_table(table.heads, table.rows)]
        contents[f"{stem}.md"] = "\n".join(lines) + "\n"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([table.heads, *table.rows])
        contents[f"{stem}.csv"] = text.getvalue()
    for name, content in contents.items():
        with written_whole(folder / name) as file:
            file.write(content.encode())
    return record


def read_exhibit(folder: Path) -> tuple[Exhibit, dict[str, Any]]:
    """Return an exhibit and the circumstances in which it was made, from its folder.

    Raises:
        SourceError: there is none, or in another layout.
    """
    content = read_json(folder / RECORD)
    try:
        circumstances: dict[str, Any] = content.pop("circumstances")
        exhibit = Exhibit(
            **{
                **content,
                "findings": tuple(content["findings"]),
                "verdicts": tuple(Verdict(**each) for each in content["verdicts"]),
                "tables": tuple(
                    Table(each["caption"], tuple(each["heads"]), tuple(map(tuple, each["rows"])))
                    for each in content["tables"]
                ),
                "pictures": tuple(Picture(**each) for each in content["pictures"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise SourceError(f"{folder / RECORD} is in another layout: {error!r}; make it anew") from error
    return exhibit, circumstances


def defined(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers that are not finite become ``None``."""
    if isinstance(value, Mapping):
        return {str(key): defined(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [defined(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
