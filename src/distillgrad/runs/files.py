"""The writing of files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distillgrad.errors import SourceError, WriteError

TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.part")


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to that takes the name ``path`` only when all of it is on the disk.

    Raises:
        SourceError: the name is a folder's, or lies within a file.
        WriteError: the file cannot be written; what stood there before still does.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private by default; what we leave should be as readable as any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        temporary = None
        if os.name == "posix":  # the new name, too, must outlast a loss of power
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except (
        NotADirectoryError,
        FileExistsError,
        IsADirectoryError,
    ) as error:  # the name is wrong, not the disk
        raise SourceError(f"cannot write {path}: {error.strerror or error}") from error
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Return whether the file is one that :func:`written_whole` has not given its name yet."""
    return TEMPORARY.fullmatch(path.name) is not None


def file_name_of(label: str) -> str:
    """Return the label, where it can name a file; otherwise its letters and digits of its checksum."""
    plain = "".join(each if each.isalnum() or each in "-_=.," else "_" for each in label)
    if plain == label and len(label) < 100:
        return label
    return f"{plain[:80]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
