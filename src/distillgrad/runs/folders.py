"""The folders that runs are kept in: on this machine, or wherever fsspec reaches (``s3://…``, ``memory://…``)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from distillgrad.core.optional import optional
from distillgrad.errors import MissingExtraError, ParameterError, SourceError, WriteError
from distillgrad.runs.files import is_temporary, written_whole

_log = logging.getLogger(__name__)

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+://")
LOCAL = ("file://", "local://")
LOCK = ".lock"


class RunFolder(Protocol):
    """A folder of named contents, each there whole or not at all; names are paths with slashes."""

    @property
    def url(self) -> str:
        """The path or URL by which :func:`folder_at` finds it."""

    def put(self, name: str, content: bytes) -> None:
        """Write ``content``, or replace what has the name."""

    def get(self, name: str) -> bytes:
        """Return what has the name; a SourceError if nothing has."""

    def remove(self, name: str) -> None:
        """Remove what has the name, if anything has."""

    def has(self, name: str) -> bool:
        """Return whether anything has the name."""

    def names(self, under: str = "") -> list[str]:
        """Return all names below ``under``, sorted; hidden ones and unfinished ones are left out."""

    def zarr_store(self) -> Any:
        """Return the folder as Zarr reads it."""


def folder_at(place: str | Path) -> RunFolder:
    """Return the folder at a path or URL, which need not be there yet.

    Raises:
        ParameterError: a URL of a kind that fsspec does not know, or whose package is not installed.
        MissingExtraError: a URL, but fsspec is not installed.
    """
    words = str(place)
    local = next((each for each in LOCAL if words.startswith(each)), "")
    if local or not URL.match(words):  # absolute, as workers need not be where we are
        return LocalFolder(Path(words.removeprefix(local)).expanduser().absolute())
    try:
        optional("fsspec", "scale").core.url_to_fs(words)
    except MissingExtraError:
        raise
    except (ValueError, ImportError) as error:
        raise ParameterError(f"cannot reach {words}: {error}") from error
    return RemoteFolder(words.rstrip("/"))


@dataclass(frozen=True)
class LocalFolder:
    """A :class:`RunFolder` on this machine, or on a file system that it mounts."""

    root: Path

    @property
    def url(self) -> str:
        return str(self.root)

    def put(self, name: str, content: bytes) -> None:
        with written_whole(self.root / name) as file:
            file.write(content)

    def get(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise SourceError(f"cannot read {self.root / name}: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot remove {self.root / name}: {error.strerror or error}") from error

    def has(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, under: str = "") -> list[str]:
        files = (each for each in (self.root / under).rglob("*") if each.is_file())
        return sorted(
            each.relative_to(self.root).as_posix() for each in files if not each.name.startswith(".")
        )

    def zarr_store(self) -> Any:
        return optional("zarr", "scale").storage.LocalStore(self.root, read_only=True)

    def sweep(self, inside: Iterable[str]) -> None:
        """Remove what a killed writer left half written in the folder and in these ones inside it.

        Only for who holds the lock, and knows that a run is there.
        """
        places = [self.root.glob(".*"), *((self.root / each).rglob(".*") for each in inside)]
        for each in chain(*places):
            if each.is_file() and is_temporary(each):
                each.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFolder:
    """A :class:`RunFolder` behind a URL; a put is as whole as the storage's own, which for objects it is."""

    url: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        file_system, path = optional("fsspec", "scale").core.url_to_fs(self.url)
        return file_system, path.rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        file_system, path = self._place
        full = f"{path}/{name}"
        try:
            file_system.makedirs(full.rpartition("/")[0], exist_ok=True)
            file_system.pipe_file(full, content)
        except OSError as error:
            raise WriteError(f"cannot write {self.url}/{name}: {error}") from error

    def get(self, name: str) -> bytes:
        file_system, path = self._place
        try:
            content: bytes = file_system.cat_file(f"{path}/{name}")
        except OSError as error:
            raise SourceError(f"cannot read {self.url}/{name}: {error!r}") from error
        return content

    def remove(self, name: str) -> None:
        file_system, path = self._place
        try:
            if self.has(name):
                file_system.rm_file(f"{path}/{name}")
        except OSError as error:
            raise WriteError(f"cannot remove {self.url}/{name}: {error}") from error

    def has(self, name: str) -> bool:
        file_system, path = self._place
        return bool(file_system.isfile(f"{path}/{name}"))

    def names(self, under: str = "") -> list[str]:
        file_system, path = self._place
        file_system.invalidate_cache()
        prefix = path.lstrip("/") + "/"
        try:
            names = [each.lstrip("/").removeprefix(prefix) for each in file_system.find(f"{path}/{under}")]
        except FileNotFoundError:
            return []
        return sorted(each for each in names if not each.rpartition("/")[2].startswith("."))

    def zarr_store(self) -> Any:
        return optional("zarr", "scale").storage.FsspecStore.from_url(self.url, read_only=True)


@contextmanager
def alone_in(folder: RunFolder) -> Iterator[None]:
    """Keep a second process from working on the same run; a killed process lets go by itself.

    Behind a URL, and where the file system has no locks, nothing is held: there two processes would do the
    same work twice, to the same bytes.

    Raises:
        ParameterError: another process works on it.
        WriteError: the folder cannot be made.
    """
    if not isinstance(folder, LocalFolder) or os.name != "posix":
        yield
        return
    import fcntl

    path = folder.root / LOCK
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ParameterError(
                f"another process is at work on {folder.root}; wait for it, or give another folder"
            ) from error
        except OSError as error:
            _log.info("%s cannot be locked: %s", path, error)
        yield


@contextmanager
def swept(folder: RunFolder, inside: Sequence[str]) -> Iterator[None]:
    """Leave nothing half written, neither of a killed writer before nor of this one; see ``sweep``."""
    if not isinstance(folder, LocalFolder):
        yield
        return
    folder.sweep(inside)
    try:
        yield
    finally:
        folder.sweep(inside)
