"""MkDocs' hook: it adds the generated pages, fills the navigation, and completes pages.

In ``nav``, an entry with a ``*`` stands for all pages that match and are named nowhere else, in order of
their names. In a page, ``![…](x.png){ .both }`` shows ``x.png`` by day and ``x-dark.png`` by night, and
``{{ PAGE | HEADING | ROW | COLUMN }}`` is a number from a table of ``results/PAGE``, ``{{ PAGE | HEADING }}``
the whole table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import measured
import reference_pages
from command_page import command_line_page
from distillgrad.methods import METHODS
from distillgrad.metrics import METRICS

BOTH = re.compile(r"(!\[[^\]]*\])\((\S+)\.(png|jpg|svg|webp)\)\{ \.both \}")
NUMBER = re.compile(r"\{\{ ([^|{}]+) \| ([^|{}]+) \| ([^|{}]+) \| ([^|{}]+) \}\}")
TABLE = re.compile(r"\{\{ ([^|{}]+) \| ([^|{}]+) \}\}")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")


def generated_pages() -> dict[str, str]:
    """Return the Markdown of each generated page by its place."""
    pages = {
        "methods/index.md": reference_pages.methods_index(),
        "metrics/index.md": reference_pages.metrics_index(),
    }
    pages["reference/command-line.md"] = command_line_page()
    pages |= {f"methods/{name}.md": reference_pages.method_page(name) for name in METHODS}
    return pages | {f"metrics/{name}.md": reference_pages.metric_page(name) for name in METRICS}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and complete the navigation."""
    for place, content in generated_pages().items():
        files.append(File.generated(config, place, content=content))
    pages = [file.src_uri for file in files.documentation_pages()]
    order = {name: index for index, name in enumerate([*METHODS, *METRICS])}
    pages.sort(key=lambda page: (order.get(Path(page).stem, len(order)), page))
    named = {each for each in _entries(config.nav) if "*" not in each}
    config.nav = _filled(config.nav, [page for page in pages if page not in named])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Complete a page: pictures for both themes, numbers from the results, files that the site lacks."""
    markdown = BOTH.sub(r"\1(\2.\3#only-light)\1(\2-dark.\3#only-dark)", markdown)
    folder = Path(config.docs_dir)

    def number(found: re.Match[str]) -> str:
        try:
            return measured.cell(folder / "results", *(each.strip() for each in found.groups()))
        except (LookupError, OSError) as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error

    def table(found: re.Match[str]) -> str:
        try:
            return measured.first_table(folder / "results" / found[1].strip(), found[2].strip())
        except (LookupError, OSError) as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error

    def link(found: re.Match[str]) -> str:
        """Return the name of a file of the repository that is outside of the site, instead of a link."""
        target = (folder / page.file.src_uri).parent.joinpath(found[2]).resolve()
        inside = target.is_relative_to(folder.resolve())
        if inside or not target.exists():
            return found[0]  # a broken one is left for the strict build to find
        return f"{found[1]} (`{target.relative_to(folder.resolve().parent)}`)"

    return LINK.sub(link, TABLE.sub(table, NUMBER.sub(number, markdown)))


def _entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for each in nav.values():
            yield from _entries(each)
    else:
        for each in nav or ():
            yield from _entries(each)


def _filled(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _filled(each, pages) for title, each in nav.items()}
    if not isinstance(nav, list):
        return nav
    filled: list[Any] = []
    for each in nav:
        if isinstance(each, str) and "*" in each:
            filled += [page for page in pages if fnmatch(page, each)]
        else:
            filled.append(_filled(each, pages))
    return filled
