"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Return the lines of a table; a cell's own bars are escaped.

    >>> markdown_table(("method", "mean"), [("dga", "0.4"), ("a|b", "0.3")])
    ['| method | mean |', '| --- | --- |', '| dga | 0.4 |', '| a\\|b | 0.3 |']
    """
    lines = (heads, ["---"] * len(heads), *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
