"""What a run was asked for, so that the same request goes on and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillgrad.errors import ParameterError, SourceError
from distillgrad.runs.files import is_temporary, written_whole

MANIFEST = "manifest.json"
UNSAID = {"precision": "float32"}
"""What holds for runs that were begun before it could be asked for."""
SHOWN = 40
"""Characters of a value that a message quotes."""


def begin(out: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, or finds the same one there.

    Raises:
        ParameterError: ``out`` holds a run of another request, and says what differs; or no run but something
            else.
        SourceError: it cannot be written, or what is there cannot be read.
    """
    path = out / MANIFEST
    if path.is_file():
        refuse_another(str(out), read_json(path), manifest)
        return
    refuse_foreign(
        str(out), (each.name for each in out.iterdir() if not is_temporary(each)) if out.is_dir() else ()
    )
    with written_whole(path) as file:
        file.write(json.dumps(manifest, indent=2).encode())


def refuse_foreign(out: str, names: Iterable[str]) -> None:
    """Returns if a folder without a run holds nothing else, either.

    Args:
        names: Of what is there, but for what a run that was killed at its start leaves.
    Raises:
        ParameterError: it holds something.
    """
    others = sorted(names)
    if others:
        raise ParameterError(
            f"{out} is not empty and holds no run (it has {', '.join(others[:3])}); give another folder"
        )


def refuse_another(out: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Returns if both requests are the same.

    Raises:
        ParameterError: they are not; says what differs, and how.
    """
    unsaid = {key: value for key, value in UNSAID.items() if key in now}
    different = list(_differences({**unsaid, **before}, now))
    if different:
        shown = "; ".join(f"{name}: {was} there, {wanted} asked for" for name, was, wanted in different[:3])
        names = sorted({name.partition(".")[0] for name, _, _ in different})
        raise ParameterError(
            f"{out} holds a run of another request: its {' and '.join(names)} "
            f"differ{'s' if len(names) == 1 else ''} ({shown}); give another folder, or remove this one"
        )


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], inside: str = ""
) -> Iterator[tuple[str, str, str]]:
    for key in sorted({*before, *now}):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{inside}{key}.")
        elif one != other:
            yield f"{inside}{key}", _shown(one), _shown(other)


def _shown(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= SHOWN else f"{words[: SHOWN - 1]}…"


def parsed_json(content: bytes, name: str) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        SourceError: it holds something else.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        raise SourceError(f"cannot read {name}: {error}") from error
    if not isinstance(found, dict):
        raise SourceError(f"cannot read {name}: it holds no JSON object")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """An object that a run has written.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return parsed_json(content, str(path))
