"""Agreements on disk: every image's values, method by method, so that a killed measurement goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillgrad.errors import ParameterError, SourceError
from distillgrad.metrics.self_stability import Stability
from distillgrad.runs.evaluation.record import listed
from distillgrad.runs.files import written_whole
from distillgrad.runs.manifest import read_json
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.weights import fingerprint
from distillgrad.views.stability import MEASURES, PREFACE, stability_markdown

FORMAT = "distillgrad stability 1"


@dataclass
class Subject:
    """A network, its inputs, and what is known of methods on them, by label."""

    loaded: LoadedModel
    inputs: Tensor
    found: dict[str, Stability | str]


class StabilityRecord:
    """The JSON file beside a page of tables; what it holds need not be measured again.

    Values belong to a network's weights and its inputs, to the bit, and to a method with its parameters.

    Args:
        page: The Markdown file; the record has its name, ending in ``.json``.

    Raises:
        ParameterError: the page itself would be the record.
        SourceError: a file of that name that is no such record.
    """

    def __init__(self, page: Path) -> None:
        self.path = page.with_suffix(".json")
        if self.path == page:
            raise ParameterError(f"{page} is the name of the values' file; give the tables another, like .md")
        self._tables: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            content = read_json(self.path)
            if content.get("format") != FORMAT or not isinstance(content.get("tables"), dict):
                raise SourceError(f"{self.path} holds something else; name the tables otherwise or remove it")
            self._tables = content["tables"]

    def known(self, key: str) -> dict[str, Stability | str]:
        """What was measured of a network on these inputs, by label.

        Raises:
            SourceError: the file holds it in another layout.
        """
        try:
            return {
                label: _read(values) for label, values in self._tables.get(key, {}).get("methods", {}).items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"{self.path} is in another layout ({error!r}); remove it") from error

    def keep(self, subject: Subject, label: str) -> None:
        """Adds a method's agreement; on return it is on the disk.

        Raises:
            SourceError: the file cannot be written.
        """
        empty: dict[str, Any] = {"model": subject.loaded.name, "methods": {}}
        table = self._tables.setdefault(key_of(subject.loaded, subject.inputs), empty)
        table["methods"][label] = _written(subject.found[label])
        with written_whole(self.path) as file:
            file.write(json.dumps({"format": FORMAT, "tables": self._tables}, ensure_ascii=False).encode())


def write_page(page: Path, subjects: Sequence[Subject], methods: Iterable[str]) -> None:
    """A table for each network, of the methods that are known by now, in this order.

    Raises:
        SourceError: the file cannot be written.
    """
    parts = [PREFACE]
    for each in subjects:
        found = {label: each.found[label] for label in methods if label in each.found}
        missing = [f"`{label}`" for label in methods if label not in each.found]
        note = f"\nNot measured: {', '.join(missing)}.\n" if missing else ""
        parts.append(f"## {each.loaded.name}, {len(each.inputs)} images\n\n{stability_markdown(found)}{note}")
    with written_whole(page) as file:
        file.write("\n".join(parts).encode())


def key_of(loaded: LoadedModel, inputs: Tensor) -> str:
    """What an agreement depends on beside the method: the weights and the inputs."""
    digest = hashlib.sha256(fingerprint(loaded.model).encode())
    digest.update(f"{loaded.name} {tuple(inputs.shape)}".encode())
    digest.update(inputs.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _written(found: Stability | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"refused": found}
    values = {measure: listed(getattr(found, measure)) for measure in MEASURES}
    return {"conditions": list(found.conditions), **values}


def _read(values: Mapping[str, Any]) -> Stability | str:
    if "refused" in values:
        return str(values["refused"])

    def tensor(measure: str) -> Tensor:
        rows = [[float("nan") if each is None else each for each in row] for row in values[measure]]
        return torch.tensor(rows, dtype=torch.float64)

    return Stability(tuple(values["conditions"]), **{measure: tensor(measure) for measure in MEASURES})
