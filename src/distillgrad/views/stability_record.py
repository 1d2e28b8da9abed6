"""Stabilities on disk: every image's values, method by method, so that a killed measurement goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.errors import ParameterError, SourceError
from distillgrad.metrics.self_stability import Stability
from distillgrad.runs.files import written_whole
from distillgrad.runs.manifest import read_json
from distillgrad.runs.request import json_list
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.weights import fingerprint
from distillgrad.views.stability import MEASURES, PREFACE, stability_markdown

FORMAT = "distillgrad stability 1"


@dataclass
class StabilityTable:
    """The content of one table: a network, its inputs, and the stability of methods on them, by label.

    Attributes:
        stabilities: By label; for a method that refused, the reason.
        fast, precision: The faster equivalent that is explained, and its precision; "" without one.
    """

    loaded: LoadedModel
    inputs: Tensor
    stabilities: dict[str, Stability | str]
    fast: nn.Module | None = None
    precision: str = ""


class StabilityRecord:
    """The JSON file beside a page of tables, whose values need not be measured again.

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
        """Return the values of a network on these inputs, by label.

        Raises:
            SourceError: the file holds it in another layout.
        """
        try:
            return {
                label: _read(values) for label, values in self._tables.get(key, {}).get("methods", {}).items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(f"{self.path} is in another layout ({error!r}); remove it") from error

    def keep(self, table: StabilityTable, label: str) -> None:
        """Add a method's stability; on return it is on the disk.

        Raises:
            SourceError: the file cannot be written.
        """
        empty: dict[str, Any] = {"model": table.loaded.name, "methods": {}}
        stored = self._tables.setdefault(key_of(table.loaded, table.inputs, table.precision), empty)
        stored["methods"][label] = _json(table.stabilities[label])
        with written_whole(self.path) as file:
            file.write(json.dumps({"format": FORMAT, "tables": self._tables}, ensure_ascii=False).encode())


def write_page(page: Path, tables: Sequence[StabilityTable], methods: Iterable[str]) -> None:
    """Write a table for each network, with the methods that are known by now, in this order.

    Raises:
        SourceError: the file cannot be written.
    """
    parts = [PREFACE]
    for each in tables:
        stabilities = {label: each.stabilities[label] for label in methods if label in each.stabilities}
        missing = [f"`{label}`" for label in methods if label not in each.stabilities]
        note = f"\nNot measured: {', '.join(missing)}.\n" if missing else ""
        heading = f"## {each.loaded.name}, {len(each.inputs)} images"
        parts.append(f"{heading}\n\n{stability_markdown(stabilities)}{note}")
    with written_whole(page) as file:
        file.write("\n".join(parts).encode())


def key_of(loaded: LoadedModel, inputs: Tensor, precision: str = "") -> str:
    """Return a digest of the weights and the inputs, on which a stability depends beside the method.

    Args:
        precision: That of the faster equivalent that is explained; "" without one.
    """
    digest = hashlib.sha256(fingerprint(loaded.model).encode())
    digest.update(f"{loaded.name} {tuple(inputs.shape)}{precision and f' accelerated {precision}'}".encode())
    digest.update(inputs.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _json(stability: Stability | str) -> dict[str, Any]:
    if isinstance(stability, str):
        return {"refused": stability}
    values = {measure: json_list(getattr(stability, measure)) for measure in MEASURES}
    return {"conditions": list(stability.conditions), **values}


def _read(values: Mapping[str, Any]) -> Stability | str:
    if "refused" in values:
        return str(values["refused"])

    def tensor(measure: str) -> Tensor:
        rows = [[float("nan") if each is None else each for each in row] for row in values[measure]]
        return torch.tensor(rows, dtype=torch.float64, device="cpu")

    return Stability(tuple(values["conditions"]), **{measure: tensor(measure) for measure in MEASURES})
