"""The HTML that report and explorer share: text made safe, tables, facts, code, the page around them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files


@dataclass(frozen=True)
class Cell:
    """A table's cell: its HTML, and the number that it is sorted by where that is not its text."""

    html: str
    value: float | None = None


def text(words: object) -> str:
    """Return words as HTML in which none is taken for a tag, or for the braces of a template.

    Bytes of a file's name that are not UTF-8 become question marks.
    """
    return escape(str(words).encode("utf-8", "replace").decode()).replace("{", "&#123;")


@cache
def stylesheet() -> str:
    """Return the one stylesheet."""
    return files("distillgrad.views.html").joinpath("page.css").read_text("utf-8")


@cache
def script() -> str:
    """Return the one script; pages work without it, they only do not move."""
    return files("distillgrad.views.html").joinpath("page.js").read_text("utf-8")


def script_hash(content: str) -> str:
    """Return the words by which a content security policy allows this script, and no other, in line."""
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def document(title: str, body: str) -> str:
    """Return a whole HTML page that needs nothing from outside itself, and can load nothing.

    Its one script runs by its hash, so that nothing else does that might get into the page.
    """
    moves = f"\n{script()}"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script_hash(moves)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en" data-report>\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{text(title)}</title>\n<style>\n{stylesheet()}</style>\n</head>\n"
        f'<body class="dg">\n<main>\n{body}\n</main>\n<script>{moves}</script>\n</body>\n</html>\n'
    )


def fragment(html: str) -> str:
    """Return HTML in the look of the page, for a page that another library makes."""
    return f'<div class="dg">{html}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str) -> str:
    """Return a table whose first column names the rows; a click on a head sorts by it."""
    head = "".join(f'<th scope="col"><button type="button">{text(each)}</button></th>' for each in heads)
    body = "".join(
        f"<tr>{''.join(_cell(cell, place) for place, cell in enumerate(row))}</tr>" for row in rows
    )
    return (
        f'<div class="wide" role="region" aria-label="{text(caption)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, place: int) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value:.6g}"'
    return f"<td{value}>{cell.html}</td>" if place else f'<th scope="row"{value}>{cell.html}</th>'


def facts(content: Mapping[str, object]) -> str:
    """Return names and values, one a line."""
    lines = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in content.items())
    return f"<dl>{lines}</dl>"


def code(content: str, name: str, key: str) -> str:
    """Return code to read and to copy; ``key`` is the element's id, which no other has."""
    return (
        f'<pre id="{key}" tabindex="0" role="region" aria-label="{text(name)}">'
        f"<code>{text(content)}</code></pre>"
        f'<button type="button" class="copy scripted" data-copies="{key}">Copy</button>'
    )
