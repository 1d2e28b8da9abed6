"""The page of all exhibits below a folder and of every claim: HTML in one file, and Markdown."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillgrad.errors import SourceError
from distillgrad.paper.claims import CLAIMS, Claim
from distillgrad.paper.exhibit import RECORD, Exhibit, Table, read_exhibit
from distillgrad.paper.published import CITATION
from distillgrad.paper.registry import EXHIBITS
from distillgrad.runs.files import written_whole
from distillgrad.sources.photographs import NAME as PHOTOGRAPHS
from distillgrad.views.markdown import markdown_table

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#22252b}"
    "table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}"
    "td,th{border-bottom:1px solid #ddd;padding:.3em .6em;text-align:left;vertical-align:top}"
    "img{max-width:100%}code{background:#f3f4f6;padding:.1em .3em;overflow-wrap:anywhere}"
)


@dataclass(frozen=True)
class SavedExhibit:
    """An exhibit as read from its folder."""

    exhibit: Exhibit
    circumstances: dict[str, Any]
    folder: Path

    @property
    def on(self) -> str:
        """The model and the data in few words."""
        if not self.exhibit.images:
            return self.exhibit.subject
        model = str(self.circumstances["model"]).partition("@")[0].rpartition(":")[2]
        return f"{model}, {self.exhibit.images} images of {self.circumstances['data']}"


def exhibits_below(folder: Path) -> list[SavedExhibit]:
    """Return all exhibits in a folder and in those inside it, in the registry's order.

    Raises:
        SourceError: there is none.
    """
    exhibits = [
        SavedExhibit(*read_exhibit(path.parent), path.parent) for path in sorted(folder.rglob(RECORD))
    ]
    if not exhibits:
        raise SourceError(f"no exhibit below {folder}; make one: distillgrad paper table-1 --out {folder}")
    places = {name: place for place, name in enumerate(EXHIBITS)}
    return sorted(exhibits, key=lambda each: places.get(each.exhibit.name, len(places)))


def claims_table(saved: Sequence[SavedExhibit]) -> Table:
    """Return a line for every claim and every exhibit that tested it, or that could not if none could."""
    rows = [row for each in CLAIMS for row in _lines(each, saved)]
    return Table(
        "Every claim of the paper, with what we measured.",
        ("claim", "in the paper", "on", "outcome", "our numbers, 95 % intervals", "why"),
        tuple(rows),
    )


def _lines(claim: Claim, saved: Sequence[SavedExhibit]) -> list[tuple[str, ...]]:
    tested: list[tuple[str, ...]] = [
        (each.on, verdict.outcome, verdict.numbers, verdict.why)
        for each in saved
        for verdict in each.exhibit.verdicts
        if verdict.claim == claim.name
    ]
    tested = [each for each in tested if each[1] != "not testable here"] or tested
    tested = tested or [("", "not tested yet", "", f"make it: distillgrad paper {claim.exhibit}")]
    return [
        (claim.words if not place else "″", claim.source if not place else "", *each)
        for place, each in enumerate(tested)
    ]


def save_index(folder: Path) -> Path:
    """Write ``index.html`` of all exhibits below ``folder``, pictures inside it; return its path."""
    saved = exhibits_below(folder)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>The paper, made anew</title><style>{STYLE}</style><h1>The paper, made anew</h1>",
        f"<p>{html.escape(CITATION)}</p><h2>Claims</h2>",
        _html_table(claims_table(saved)),
    ]
    for each in saved:
        parts.append(f"<h2>{html.escape(_heading(each))}</h2>")
        parts.append(f"<p><code>{html.escape(each.circumstances['command'])}</code>, {_when(each)}</p><ul>")
        parts += [f"<li>{html.escape(words)}</li>" for words in each.exhibit.findings]
        parts.append("</ul>")
        parts += [_html_table(table) for table in each.exhibit.tables]
        for picture in each.exhibit.pictures:
            content = base64.b64encode(_content(each.folder / picture.file)).decode()
            words = html.escape(picture.caption, quote=True)
            parts.append(f'<p><img alt="{words}" src="data:image/png;base64,{content}"><br>{words}</p>')
    path = folder / "index.html"
    with written_whole(path) as file:
        file.write("\n".join(parts).encode())
    return path


def save_page(folder: Path, page: Path) -> None:
    """Write a Markdown page to publish, with the pictures in a folder of its name beside it.

    Pictures in which images of the data can be seen are left out, unless these are the free photographs:
    their licence is not ours to give.
    """
    saved = exhibits_below(folder)
    lines = ["# The paper, made anew", "", CITATION + ".", "", "## Claims", ""]
    claims = claims_table(saved)
    lines += [*markdown_table(claims.heads, claims.rows), ""]
    for each in saved:
        lines += [
            f"## {_heading(each)}",
            "",
            "```",
            each.circumstances["command"],
            "```",
            "",
            f"{_when(each)}.",
            "",
        ]
        lines += [f"- {words}" for words in each.exhibit.findings]
        for table in each.exhibit.tables:
            lines += ["", table.caption, "", *markdown_table(table.heads, table.rows)]
        for picture in each.exhibit.pictures:
            if picture.shows_images and each.circumstances["data"] != PHOTOGRAPHS:
                lines += ["", f"*Not shown, because it shows images of the data: {picture.caption}*"]
                continue
            relative = each.folder.relative_to(folder) / picture.file
            name = "-".join(relative.parts)
            target = page.with_suffix("") / name
            with written_whole(target) as file:
                file.write(_content(each.folder / picture.file))
            lines += ["", f"![{picture.caption}]({page.stem}/{name})"]
        lines.append("")
    with written_whole(page) as file:
        file.write(("\n".join(lines).rstrip() + "\n").encode())


def _heading(each: SavedExhibit) -> str:
    place = each.exhibit.source or "beyond the paper"
    return f"{each.exhibit.title} ({place}){': ' + each.on if each.on else ''}"


def _when(each: SavedExhibit) -> str:
    date, seconds = each.circumstances["date"], each.circumstances["seconds"]
    # What was read from a finished run took no time worth telling.
    return f"{date}, {seconds:.0f} s" if seconds >= 0.5 else str(date)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error}; make the exhibit anew") from error


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return f"<p>{html.escape(table.caption)}</p><table>{row(table.heads, 'th')}{body}</table>"
