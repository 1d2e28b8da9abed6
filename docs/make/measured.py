"""What the results pages have measured, read from their tables, so that no number is typed twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HEADING = re.compile(r"## +(.+)")
NUMBER = re.compile(r"[-−]?\d*\.?\d+")


@dataclass(frozen=True)
class Table:
    """One table of a page: under which heading it stands, and its rows by their first cell.

    Attributes:
        columns: The first word of each heading but the first: ``lerf`` of "lerf ↑".
    """

    page: str
    heading: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]


def tables(page: Path) -> Iterator[Table]:
    """The tables of a Markdown page whose first column is headed ``method``."""
    heading = ""
    lines = page.read_text(encoding="utf-8").splitlines()
    index = 0
    while index < len(lines):
        found = HEADING.fullmatch(lines[index])
        heading = found[1].strip() if found else heading
        if lines[index].startswith("| method |"):
            columns = tuple(cell.split()[0] for cell in _cells(lines[index])[1:])
            rows = {}
            index += 2
            while index < len(lines) and lines[index].startswith("|"):
                first, *rest = _cells(lines[index])
                rows[first] = tuple(rest)
                index += 1
            yield Table(page.name, heading, columns, rows)
        index += 1


def leaderboards(folder: Path, metrics: Sequence[str]) -> list[Table]:
    """All tables of the pages in ``folder`` that compare methods by at least two of the metrics."""
    found = (table for page in sorted(folder.glob("*.md")) for table in tables(page))
    return [table for table in found if len(set(table.columns) & set(metrics)) > 1]


def cell(folder: Path, page: str, heading: str, row: str, column: str) -> str:
    """One number: of the first table under the heading that has this row and column.

    Raises:
        LookupError: there is none; says what there is.
    """
    under = [each for each in tables(folder / page) if each.heading.startswith(heading)]
    for table in under:
        if row in table.rows and column in table.columns:
            number = NUMBER.search(table.rows[row][table.columns.index(column)])
            if number:
                return number[0]
    there = "; ".join(f"{each.heading}: {', '.join(each.columns)}" for each in tables(folder / page))
    raise LookupError(f"{page} has no number for {row!r}, {column!r} under {heading!r}; it has {there}")


def first_table(page: Path, heading: str) -> str:
    """The first table under a heading of a page, as it stands there.

    Raises:
        LookupError: there is none.
    """
    under = False
    lines: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        found = HEADING.fullmatch(line)
        if found or (lines and not line.startswith("|")):
            if lines:
                break
            under = found is not None and found[1].strip() == heading
        elif under and line.startswith("|"):
            lines.append(line)
    if not lines:
        raise LookupError(f"{page.name} has no table under {heading!r}")
    return "\n".join(lines)


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip().strip("|").split("|")]
