"""The manifest of a run, by which the same request goes on and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distillgrad.errors import ParameterError, SourceError
from distillgrad.runs.files import is_temporary
from distillgrad.runs.folders import LOCK, LocalFolder, alone_in, swept
from distillgrad.runs.request import with_defaults

MANIFEST = "manifest.json"
QUOTED = 40
"""Characters of a value that a message quotes."""


@contextmanager
def begun(out: Path, manifest: dict[str, Any], request: type[Any]) -> Iterator[None]:
    """Begin a run, or go on with it, as the only process that works on it.

    What writers that were killed have left half written goes, before and after.

    Args:
        request: The class of the run's request, whose defaults hold for what an older manifest does not say.
    Raises:
        ParameterError: ``out`` holds a run of another request, and says what differs; or no run but something
            else; or another process is at work on it.
        SourceError: the manifest cannot be written, or what is there cannot be read.
    """
    _is_begun(out, manifest, request)  # before anything is written there
    folder = LocalFolder(out.absolute())
    with alone_in(folder):
        if not _is_begun(out, manifest, request):
            folder.put(MANIFEST, json.dumps(manifest, indent=2).encode())
        with swept(folder, ("",)):
            yield


def _is_begun(out: Path, manifest: dict[str, Any], request: type[Any]) -> bool:
    """Return whether the run is there, and not another one, nor anything else."""
    path = out / MANIFEST
    if path.is_file():
        refuse_another(str(out), read_json(path), manifest, request)
        return True
    names = (each.name for each in out.iterdir() if not is_temporary(each)) if out.is_dir() else ()
    refuse_foreign(str(out), (each for each in names if each != LOCK))
    return False


def refuse_foreign(out: str, names: Iterable[str]) -> None:
    """Check that a folder without a run holds nothing else, either.

    Args:
        names: All names there, but for those that a run leaves that was killed at its start.
    Raises:
        ParameterError: it holds something.
    """
    others = sorted(names)
    if others:
        raise ParameterError(
            f"{out} is not empty and holds no run (it has {', '.join(others[:3])}); give another folder"
        )


def refuse_another(out: str, before: Mapping[str, Any], now: Mapping[str, Any], request: type[Any]) -> None:
    """Check that both manifests are of the same request.

    Args:
        request: Its class, whose defaults hold for what ``before`` does not say.
    Raises:
        ParameterError: they are not; says what differs, and how.
    """
    different = list(_differences(with_defaults(request, before), now))
    if different:
        quoted = "; ".join(f"{name}: {was} there, {wanted} asked for" for name, was, wanted in different[:3])
        names = sorted({name.partition(".")[0] for name, _, _ in different})
        raise ParameterError(
            f"{out} holds a run of another request: its {' and '.join(names)} "
            f"differ{'s' if len(names) == 1 else ''} ({quoted}); give another folder, or remove this one"
        )


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], inside: str = ""
) -> Iterator[tuple[str, str, str]]:
    for key in sorted({*before, *now}):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{inside}{key}.")
        elif one != other:
            yield f"{inside}{key}", _quoted(one), _quoted(other)


def _quoted(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= QUOTED else f"{words[: QUOTED - 1]}…"


def parsed_json(content: bytes, name: str) -> dict[str, Any]:
    """Return the object that a file holds.

    Raises:
        SourceError: it holds something else.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"cannot read {name}: {error}") from error
    if not isinstance(value, dict):
        raise SourceError(f"cannot read {name}: it holds no JSON object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Return an object that a run has written.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}") from error
    return parsed_json(content, str(path))
