"""What a run was asked for, so that the same request goes on and another one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distillgrad.errors import ParameterError, SourceError
from distillgrad.runs.files import written_whole

MANIFEST = "manifest.json"


def begin(out: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, or finds the same one there.

    Raises:
        ParameterError: ``out`` holds a run of another request; says what differs.
        SourceError: it cannot be written, or what is there cannot be read.
    """
    path = out / MANIFEST
    if path.is_file():
        before = read_json(path)
        differ = sorted(key for key in {*before, *manifest} if before.get(key) != manifest.get(key))
        if differ:
            raise ParameterError(
                f"{out} holds a run of another request: its {' and '.join(differ)} differ"
                f"{'s' if len(differ) == 1 else ''}; give another folder, or remove this one"
            )
        return
    with written_whole(path) as file:
        file.write(json.dumps(manifest, indent=2).encode())


def read_json(path: Path) -> dict[str, Any]:
    """An object that a run has written.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return content
