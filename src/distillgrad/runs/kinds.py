"""The kinds of runs, told by their manifests, which are read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillgrad.errors import SourceError
from distillgrad.runs.attribution.request import KIND
from distillgrad.runs.manifest import MANIFEST, read_json

ATTRIBUTIONS = KIND
EVALUATION = "evaluation"
ROAR = "roar"


@dataclass(frozen=True)
class OpenedRun:
    """A run's folder whose manifest has been read.

    Attributes:
        kind: ``ATTRIBUTIONS``, ``EVALUATION``, ``ROAR``, or what else the manifest says.
    """

    folder: Path
    kind: str
    manifest: Mapping[str, Any]


def open_manifest(run: Path) -> OpenedRun:
    """Return the run of a folder with its kind and its manifest, whose parts are not checked.

    Raises:
        SourceError: the folder is not there or holds no run, or its manifest is broken.
    """
    if not run.is_dir():
        raise SourceError(f"no run at {run}: there is no such folder")
    if not (run / MANIFEST).is_file():
        raise SourceError(
            f"{run.resolve().name} holds no run: it has no {MANIFEST}; 'distillgrad evaluate' and "
            "'distillgrad attribute' make one"
        )
    manifest = read_json(run / MANIFEST)
    kind = manifest.get("kind")
    if kind is None:  # these kinds do not name themselves
        kind = ROAR if "fractions" in manifest and "metrics" not in manifest else EVALUATION
    return OpenedRun(run, str(kind), manifest)
