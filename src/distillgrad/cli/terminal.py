"""The command line's output: lines, tables, JSON, and progress on a terminal. Needs no torch."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from distillgrad.errors import DistillgradError

console = Console()
errors_to = Console(stderr=True, soft_wrap=True, highlight=False)


def status(words: str) -> AbstractContextManager[object]:
    """Return a spinner for work of unknown length; it is drawn on a terminal only."""
    return errors_to.status(words) if errors_to.is_terminal else nullcontext()


@contextmanager
def progress_of(words: str, total: int, unit: str = "passes") -> Iterator[Callable[..., None]]:
    """Yield the function that advances a live bar by one unit or more; it is drawn on a terminal only."""
    with Progress(
        TextColumn(words),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=errors_to,
        transient=True,
        disable=not errors_to.is_terminal,
    ) as progress:
        task = progress.add_task(words, total=total)
        yield lambda amount=1: progress.advance(task, amount)


@contextmanager
def run_progress(words: str, total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield the function that takes the number of images that are done, and of those that failed.

    They move a live bar with the rate and the time left, which is drawn on a terminal only.
    """
    with Progress(
        TextColumn(words),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images, {task.fields[rate]}{task.fields[failed]} failed"),
        TimeRemainingColumn(),
        console=errors_to,
        transient=True,
        disable=quiet or not errors_to.is_terminal,
    ) as progress:
        task = progress.add_task(words, total=total, failed=0, rate="")
        before: list[int] = []

        def show(n_done: int, n_failed: int) -> None:
            before.append(n_done) if not before else None
            speed = progress.tasks[0].speed if n_done > before[0] else None
            rate = f"{speed:.3g} images/s, " if speed else ""
            progress.update(task, completed=n_done, failed=n_failed, rate=rate)

        yield show


def say(words: str, *names: object) -> None:
    """Print ``words`` with the names in their places; a name is never taken for markup."""
    console.print(words.format(*(escape(str(name)) for name in names)), soft_wrap=True, highlight=False)


def print_json(content: Any) -> None:
    """Print JSON for machines: ASCII, so that file names of any encoding come through."""
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def print_rows(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], as_json: bool) -> None:
    """Print a table, or a JSON list of one object per row."""
    if as_json:
        print_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    table = Table(box=None, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head == heads[0])
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def complain(words: str) -> None:
    """Print one line on standard error."""
    errors_to.print("[bold red]error:[/]", end=" ")
    errors_to.print(" ".join(words.split()), markup=False)


def warn(words: str) -> None:
    """Print one line of warning on standard error."""
    errors_to.print("[bold yellow]warning:[/]", end=" ")
    errors_to.print(" ".join(words.split()), markup=False)


def in_words(error: Exception) -> str:
    """Return what a user is told of an error."""
    if isinstance(error, DistillgradError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory has run out; take fewer images at a time (--batch-size), or a smaller model"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open ({error.strerror}); raise the limit: ulimit -n"
    return f"{type(error).__name__}: {error}; --debug shows where"
