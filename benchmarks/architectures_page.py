"""The page on what became of every method on every architecture, from what ``architectures.py`` found."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from architecture_checks import OK, RAW, REFUSED, TOLERANCE, WRONG
from architecture_zoo import NO_IMAGES_IN
from distillgrad.views.markdown import markdown_table

PAGE = Path("docs/results/architectures.md")
BUILD = "build"
"""What stands in place of a method where the network itself cannot be had."""
WIDTH = 110
LONGEST = 90

Row = Mapping[str, Any]

TEXT = """# Every method on every architecture

{counted}. Made by `make sweep`, which goes on where it was stopped; all weights are random, in float64, with
statistics, biases and scales that are not trivial.

{verdicts}

**OK** means: the shape is right and all is finite; a row alone is the row in a batch, to {tolerance:g} of the
largest value (LIME, which Captum fits in float32, to 1e-4), or to ten times what the last bits of the image
take it, where random networks magnify them so far; a second call gives the same to the bit; nothing
is left on the model. Besides, Saliency and Gradient×Input are the gradient that finite differences find (to
1e-4; to 1e-2 where a network casts to float32 in between),
Uniform FullGrad, IDGI and DeepLIFT sum to what they promise, and FullGrad leaves no bias of a
piecewise-linear network out. `accelerate` is held, in float32, against the original in float64, logits and
gradients, of one row and of two. It does not mean that a map is a good explanation.

**Refused** means an error of distillgrad's own that says why, [listed here](../errors.md).

## By method

{methods}

*Seconds: processor time of all calls and checks on one network, median. Blank: OK, with a row whose map is
zero everywhere.*
"""


def write_page(rows: list[Row], page: Path) -> None:
    """Write the page: by method, why methods refuse, what went wrong, by architecture, what is left out."""
    unbuilt = [row for row in rows if row["method"] == BUILD]
    rows = [row for row in rows if row["method"] != BUILD]
    text = TEXT.format(
        counted=fill(_counted(rows), WIDTH),
        verdicts=fill(_verdicts(rows), WIDTH),
        tolerance=TOLERANCE,
        methods="\n".join(_by_method(rows)),
    )
    parts = [text, *_wrong(rows), *_refusals(rows), *_by_architecture(rows), *_left_out(unbuilt)]
    page.write_text("\n".join(parts) + "\n", encoding="utf-8")


def reason(why: str) -> str:
    """Return a refusal without the names and numbers of one network, so that others may share it."""
    first = re.sub(r"(?<!\w)'[^']*'|\"[^\"]*\"", "…", why)  # no quotation begins within a word: model's
    first = re.sub(r"\([^()]*\)", "()", first)
    first = re.sub(r"\b\d[\d.,e+-]*", "n", first)
    first = re.split(r": |; | in [A-Z]|\. ", first)[0].strip()
    return first if len(first) <= LONGEST else first[:LONGEST].rpartition(" ")[0] + " …"


def _counted(rows: list[Row]) -> str:
    networks = {_network(row) for row in rows}
    families = {each.rpartition(":")[0] for each in networks}
    versions = sorted({f"{row['library']} {row['version'].partition(',')[0]}" for row in rows})
    torch = sorted({row["version"].partition(", ")[2] for row in rows})
    return f"{len(networks)} networks of {len(families)} families: {', '.join([*versions, *torch])}"


def _verdicts(rows: list[Row]) -> str:
    found = Counter(row["outcome"] for row in rows)
    words = (
        f"Of {len(rows):,} pairs of a network and a method {found[OK]:,} are OK and {found[REFUSED]:,} "
        f"refused; {found[WRONG]:,} are wrong without a word, {found[RAW]:,} end in an error that is not "
        "distillgrad's."
    )
    alone = sum(row["outcome"] == WRONG and "alone" in row["why"] for row in rows)
    return f"{words} In {alone or 'none'} of them a row alone differs from the row in a batch."


def _network(row: Row) -> str:
    return f"{row['library']}:{row['family']}:{row['name']}"


def _grouped(rows: Iterable[Row], key: Any) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def _number(rows: list[Row], outcome: str) -> str:
    return str(sum(row["outcome"] == outcome for row in rows) or "–")


def _by_method(rows: list[Row]) -> list[str]:
    cells = []
    for method, group in _grouped(rows, lambda row: row["method"]).items():
        counts = [_number(group, each) for each in (OK, REFUSED, WRONG, RAW)]
        blank = sum(row["why"] == "blank" for row in group)
        seconds = median(row["seconds"] for row in group)
        cells.append((method, counts[0], str(blank or "–"), *counts[1:], f"{seconds:.1f}"))
    heads = ("method", "OK", "blank", "refused", "wrong", "raw errors", "seconds")
    return markdown_table(heads, cells)


def _wrong(rows: list[Row]) -> list[str]:
    bad = [row for row in rows if row["outcome"] in (WRONG, RAW)]
    if not bad:
        return []
    cells = [(_network(row), row["method"], row["outcome"], row["why"].splitlines()[0][:200]) for row in bad]
    return ["## What went wrong\n", *markdown_table(("network", "of", "outcome", "what"), cells), ""]


def _refusals(rows: list[Row]) -> list[str]:
    refused = [row for row in rows if row["outcome"] == REFUSED]
    cells = []
    for method, group in _grouped(refused, lambda row: row["method"]).items():
        for why, count in Counter(reason(row["why"]) for row in group).most_common():
            cells.append((method, str(count), why))
    return ["## Why methods refuse\n", *markdown_table(("refused by", "networks", "reason"), cells), ""]


def _by_architecture(rows: list[Row]) -> list[str]:
    cells = []
    for network, group in _grouped(rows, _network).items():
        refusing = ", ".join(row["method"] for row in group if row["outcome"] == REFUSED)
        bad = ", ".join(row["method"] for row in group if row["outcome"] in (WRONG, RAW))
        seconds = sum(row["seconds"] for row in group)
        cells.append((network, _number(group, OK), refusing or "–", bad or "–", f"{seconds:.0f}"))
    heads = ("network", "OK", "refused by", "wrong or raw", "seconds")
    return ["## By architecture\n", *markdown_table(heads, cells), ""]


def _left_out(unbuilt: list[Row]) -> list[str]:
    cells = [(f"transformers:{family}", why) for family, why in NO_IMAGES_IN.items()]
    cells += [(_network(row), row["why"].splitlines()[0][:200]) for row in unbuilt]
    return ["## Left out\n", *markdown_table(("network", "why"), cells)]
