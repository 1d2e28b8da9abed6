"""Griffe's extension that turns this project's docstrings into Markdown before they are rendered.

They speak of other names in roles (``:class:`~distillgrad.methods.base.Method` ``), close with lines such
as ``Cost: …`` and show doctests in running text. In Markdown these become links, paragraphs with a bold
first word, and blocks of code. What a docstring says is not changed.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|attr|mod|data|exc):`(~?)([^`]+)`")
FACT = re.compile(r"(Returns|Cost|Source|Departures?|Args and Raises): +(\S.*)")
RAISES = re.compile(r"Raises: +(\S.*)")
SEVERAL = re.compile(r"((?:[A-Z]\w+, )+[A-Z]\w+): (.*)")


class Docstrings(griffe.Extension):
    """Rewrites each docstring once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value, obj)


def markdown(docstring: str, at: griffe.Object) -> str:
    """The docstring of ``at`` as Markdown in Google's sections."""
    lines = docstring.replace("\n::\n", "\n").splitlines()
    text = "\n".join(_fenced(_facts(lines)))
    return ROLE.sub(lambda role: _link(role[2], bool(role[1]), at), text)


def _facts(lines: list[str]) -> list[str]:
    """``Cost: …`` with its indented next lines as a paragraph, ``Raises: A: …`` as a section."""
    found: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        fact, raises = FACT.fullmatch(line), RAISES.fullmatch(line)
        if fact:
            words = [fact[2]]
            while index < len(lines) and lines[index].startswith("    "):
                words.append(lines[index].strip())
                index += 1
            found += ["", f"**{fact[1]}**{chr(160)}{chr(160)}{' '.join(words)}", ""]
        elif raises:
            found += ["", "Raises:", f"    {raises[1]}"]
        elif line == "Raises:":
            found += ["", line]
        else:
            found.append(line)
    return _one_error_each(found)


def _one_error_each(lines: list[str]) -> list[str]:
    """``A, B: why`` in a Raises section as two entries, each with its reason."""
    found = []
    for line in lines:
        several = SEVERAL.fullmatch(line.strip()) if line.startswith("    ") else None
        if several:
            found += [f"    {name}: {several[2]}" for name in several[1].split(", ")]
        else:
            found.append(line)
    return found


def _fenced(lines: list[str]) -> list[str]:
    """Doctests as blocks of code."""
    found: list[str] = []
    inside = False
    for line in lines:
        if line.startswith(">>>") and not inside:
            found += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            found.append("```")
            inside = False
        found.append(line)
    return [*found, "```"] if inside else found


def _link(name: str, short: bool, at: griffe.Object) -> str:
    """A link to ``name`` if the site has it, else its words as code; ``~`` shows the last part alone."""
    try:
        full = at.resolve(name)
    except griffe.NameResolutionError:
        full = name
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{full}" optional><code>{shown}</code></autoref>'
