"""The folder of a server's uploads: it goes with its process, or at the next start if that was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "distillgrad-explorer-"
LOCK = ".lock"


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Yield a new folder that only this user can read, and remove it with all that is in it.

    Its lock is held meanwhile, and let go by the system if the process is killed; folders whose lock nobody holds
    are removed first. Where there are no such locks, killed processes leave theirs.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # which makes it 0700
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if os.name != "posix":
        yield
        return
    import fcntl

    unlocked = folder / f"{LOCK}.new"
    with unlocked.open("wb") as file:
        with contextlib.suppress(OSError):  # a file system without locks: there no folder is ever swept
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(folder / LOCK)  # so that it has this name only while it is held
        yield


def _sweep(place: Path) -> None:
    if os.name != "posix":
        return
    import fcntl

    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # gone meanwhile, not ours, or its lock is held
            if not _is_ours(folder):
                continue
            with os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Return whether this is a folder that this user made for itself alone, and no link to one."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
