"""The page on where DGA amplifies rounding, and its figures, from what ``rounding.py`` measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PAGE = Path("docs/results/rounding.md")
PICTURES = Path("docs/results/images")
WIDTH = 110
INK, QUIET = "#22252b", "#5b6472"
RED, BLUE, GREY, GREEN, GOLD, VIOLET = "#b4400c", "#1d6fa5", "#6b7280", "#2f7d4f", "#b58900", "#7a4fa0"
NAMES = {"resnet18": "ResNet-18", "squeezenet1_1": "SqueezeNet 1.1"}
MASKS = {
    "DGA": "DGA",
    "WC alone": "WC mask alone",
    "EPC alone": "EPC mask alone",
    "no ties": "DGA, φ without ties",
    "float64's EPC": "float32 with float64's EPC masks",
    "float64's WC": "float32 with float64's WC masks",
    "both of float64's": "float32 with both of float64's",
    "stable_dga": "`stable_dga`",
}
GROWING = (1e-5, 0.1)
"""Distances of attributions between a first kink and saturation."""

Images = Mapping[str, Mapping[str, Any]]
"""By number of the image, its measurements."""

TEXT = """# Where DGA amplifies rounding

DGA in float32 and in float64, in step: the same image, class and network; {counted}. Made by
`python benchmarks/rounding.py`; the numbers of every image are in `rounding.json`. The images are of those
that choices were made on. They are few: read this as a mechanism, not as a table of rates. How far each
method agrees with itself is [a table of its own](stability.md); the steadier variant is
[here](variants.md).

**In short.** No step of DGA is imprecise. A ReLU or a max-pooling window that decides otherwise, within the
last bit, makes the first difference; the masks turn it into different inputs, some {factor} times more
different with each step, until nothing is left to amplify. Ties have next to no part in it. With float64's
masks imposed on it, the float32 run ends at float64's map.

## It begins at one kink

![Distances of the two runs by anchor](images/rounding-growth.png)

*Left: one image on ResNet-18. Right: the distance of the attributions φ of every image; dotted, float64
evaluated at the float32 run's own anchor, which shows what one step alone adds. Distances of φ and of anchors
are relative in L2, the others are shares of the mask's features, of the ReLUs or of the pooling windows that
differ; 0 is not drawn.*

{onset}

Float64's attribution at float32's own anchor says what one step contributes. Where every ReLU and every
pooling window decides alike, at {calm_share} of the anchors, the attributions differ by {calm} (median):
rounding and nothing else. At the others, where one decides otherwise (at most {most} of them at one anchor),
they differ by {kinked} (median). From there to a distance of 0.1 the distance of the two runs grows
{factor} times with each anchor (median; {low} to {high}).

## The masks carry it

{table}

*Common top 10 % of the pixels of the float32 and the float64 map, mean over the images; in the three rows of
imposed masks, of the float32 map so made and float64's own.*

![Common top pixels under changed masks](images/rounding-masks.png)

*A point is an image, a bar their mean.*

- With both of float64's masks imposed, {forced_both} of the disagreement vanishes ({networks}). What float32
  computes at an anchor is as good as what float64 does; the decisions that are fed back make the difference.
- With float64's WC masks alone {forced_weak} vanishes, with its EPC masks alone {forced_extreme}. Where one
  mask is held, the other can still carry the difference, EPC above all early, when it has most of the weight.
- WC alone is the least steady on average: its threshold passes, with n, through all magnitudes, and where
  they lie densely a small change of φ moves many features across.
- **Ties**: {ties}
  DGA on ∇f ⊙ (x−b), which has no such ties, is no steadier (`DGA, φ without ties`).
- `stable_dga` ranks the sum of all attributions so far and lets it decide twice instead of thirty
  times: the loop is closed only twice.

## Why consecutive anchors alternate

![Correlation of attributions by lag](images/rounding-rhythm.png)

*In float64, means over anchors and images. Left: correlation of φ at two anchors by their distance. Right: of
the features that a mask drops at an anchor, the share that it drops at a later one; dashed, each mask alone.*

{rhythm}
"""


def write_page(kept: Mapping[str, Images]) -> None:
    """Draws the figures and writes the page."""
    kept = {name: each for name, each in kept.items() if each}
    _growth(kept)
    _masks(kept)
    _rhythm(kept)
    PAGE.write_text(TEXT.format(**_facts(kept), table=_table(kept), onset=_onset(kept)))


def _over(images: Images, take: Callable[[Mapping[str, Any]], Any]) -> np.ndarray[Any, Any]:
    return np.array([take(each) for each in images.values()])


def _counted(images: Images) -> str:
    return f"{len(images)} image{'s' * (len(images) > 1)}"


def _all(kept: Mapping[str, Images]) -> list[Mapping[str, Any]]:
    return [each for images in kept.values() for each in images.values()]


def _growth(kept: Mapping[str, Images]) -> None:
    figure, (left, right) = _figure(2)
    one = next(iter(kept["resnet18"].values()))["free"]
    for key, label, colour in (
        ("attribution", "attributions φ", RED),
        ("anchor", "anchors", INK),
        ("weak", "WC mask", BLUE),
        ("extreme", "EPC mask", GOLD),
        ("relus", "ReLUs", GREEN),
        ("pools", "pooling windows", VIOLET),
    ):
        _line(left, one[key], colour, label=label)
    for name, colour in zip(kept, (RED, BLUE), strict=False):
        for place, each in enumerate(kept[name].values()):
            _line(right, each["free"]["attribution"], colour, label=None if place else NAMES[name])
            step = None if place else f"{NAMES[name]}, one step"
            _line(right, each["same anchor"]["attribution"], colour, label=step, linestyle=":", linewidth=0.9)
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_ylim(1e-10, 4)
        axes.set_xlabel("anchor n")
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    left.set_ylabel("difference of float32 and float64")
    _save(figure, "growth")


def _masks(kept: Mapping[str, Images]) -> None:
    figure, all_axes = _figure(len(kept), height=3.2, share=True)
    for axes, (name, images) in zip(all_axes, kept.items(), strict=True):
        for place, key in enumerate(MASKS):
            values = _over(images, lambda each, key=key: each["overlap"][key])  # type: ignore[misc]
            axes.barh(place, values.mean(), color=GREEN if key == "stable_dga" else "#c9ced6", height=0.62)
            axes.plot(values, [place] * len(values), "o", color=INK, markersize=3)
        axes.set_yticks(range(len(MASKS)), [each.replace("`", "") for each in MASKS.values()])
        axes.set_ylim(len(MASKS) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("common top 10 % of the pixels")
        axes.set_title(f"{NAMES[name]}, {_counted(images)}", fontsize=9, color=INK)
    _save(figure, "masks")


def _rhythm(kept: Mapping[str, Images]) -> None:
    figure, (left, right) = _figure(2)

    def mean(run: str, key: str) -> Any:
        return np.mean([each["rhythm"][run][key] for each in _all(kept)], axis=0)

    for run, colour in (("DGA", RED), ("WC alone", BLUE), ("EPC alone", GOLD)):
        values = mean(run, "correlation")
        left.plot(range(1, len(values) + 1), values, "o-", color=colour, label=run, markersize=4)
    for run, style in (("DGA", "o-"), ("alone", "o--")):
        for key, colour in (("weak", BLUE), ("extreme", GOLD)):
            mask = {"weak": "WC", "extreme": "EPC"}[key]
            values = mean(run if run == "DGA" else f"{mask} alone", f"{key} again")
            label = f"{mask} in DGA" if run == "DGA" else f"{mask} alone"
            right.plot(range(1, len(values) + 1), values, style, color=colour, label=label, markersize=4)
    left.set_ylabel("correlation of φ")
    right.set_ylabel("share dropped again")
    for axes in (left, right):
        axes.set_xlabel("anchors later")
        axes.set_ylim(0, None)
        axes.legend(fontsize=8, frameon=False)
    _save(figure, "rhythm")


def _figure(n_columns: int, height: float = 3.4, *, share: bool = False) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(8.6, height), layout="constrained")
    axes = figure.subplots(1, n_columns, sharey=share, squeeze=False)[0]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=QUIET, labelsize=8)
        each.xaxis.set_major_locator(MaxNLocator(6, integer=not share))
    return figure, axes


def _line(axes: Axes, values: Sequence[float], colour: str, **style: Any) -> None:
    shown = [value if value > 0 else np.nan for value in values]
    axes.plot(shown, color=colour, **{"linewidth": 1.4, **style})


def _save(figure: Figure, name: str) -> None:
    figure.savefig(PICTURES / f"rounding-{name}.png", dpi=150, facecolor="white")


def _table(kept: Mapping[str, Images]) -> str:
    heads = [f"{NAMES[name]}, {_counted(images)}" for name, images in kept.items()]
    lines = ["| run | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for key, words in MASKS.items():
        means = [_over(images, lambda each: each["overlap"][key]).mean() for images in kept.values()]  # noqa: B023
        lines.append(f"| {words} | " + " | ".join(f"{value:.3f}" for value in means) + " |")
    return "\n".join(lines)


def _onset(kept: Mapping[str, Images]) -> str:
    """Where each image's runs part, and what has switched there."""
    lines = [
        "| network | image | first anchor with another gate | ReLUs | pooling windows | features of WC "
        "| of EPC | first anchor with φ apart by 0.1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, images in kept.items():
        for number, each in images.items():
            same, free = each["same anchor"], each["free"]
            gates = [(r, p) for r, p in zip(same["relus"], same["pools"], strict=True)]
            first = next((n for n, both in enumerate(gates) if any(both)), None)
            far = next((n for n, value in enumerate(free["attribution"]) if value > GROWING[1]), None)
            if first is None:
                lines.append(f"| {NAMES[name]} | {number} | none | – | – | – | – | – |")
                continue
            counts = [round(gates[first][0] * each["relus"]), round(gates[first][1] * each["pools"])]
            masks = [
                round(same[key][first] * each["features"]) if first < len(same[key]) else "–"
                for key in ("weak", "extreme")
            ]
            cells = [NAMES[name], number, first, *counts, *masks, "none" if far is None else far]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    note = "*Numbers of ReLUs, windows and features that differ there, between both precisions at one input.*"
    return "\n".join([*lines, "", note])


def _facts(kept: Mapping[str, Images]) -> dict[str, str]:
    """The numbers in the text."""
    images = _all(kept)
    calm: list[float] = []
    kinked: list[float] = []
    growth: list[float] = []
    most = 0
    for each in images:
        same, free = each["same anchor"], each["free"]["attribution"]
        for relus, pools, apart in zip(same["relus"], same["pools"], same["attribution"], strict=True):
            (kinked if relus or pools else calm).append(apart)
            most = max(most, round(relus * each["relus"]) + round(pools * each["pools"]))
        growth += [after / before for before, after in pairwise(free) if GROWING[0] < before < GROWING[1]]
    low, factor, high = np.quantile(growth, [0.1, 0.5, 0.9])

    def vanished(key: str) -> str:
        shares = [
            np.mean(
                [
                    (each["overlap"][key] - each["overlap"]["DGA"]) / (1 - each["overlap"]["DGA"])
                    for each in some
                ]
            )
            for some in (network.values() for network in kept.values())
        ]
        return " and ".join(f"{100 * share:.0f} %" for share in shares)

    ties = {
        key: int(sum(sum(each["ties"][key]) for each in images))
        for mask in ("weak", "extreme")
        for key in (f"{mask} changed", f"{mask} changed at ties")
    }
    changed = ties["weak changed"] + ties["extreme changed"]
    at_ties = ties["weak changed at ties"] + ties["extreme changed at ties"]
    tied = np.array([[n > 0 for n in each["ties"]["weak tied"]] for each in images])
    where = ", ".join(str(n) for n in range(tied.shape[1]) if tied[:, n].mean() > 0.5)
    largest = max(max(each["ties"]["weak tied"]) / each["features"] for each in images)
    return {
        "counted": " and ".join(f"{NAMES[name]}, {_counted(each)}" for name, each in kept.items()),
        "factor": f"{factor:.0f}",
        "low": f"{low:.0f}",
        "high": f"{high:.0f}, the 10 % and 90 % quantiles",
        "calm_share": f"{100 * len(calm) / (len(calm) + len(kinked)):.0f} %",
        "calm": f"{np.median(calm):.1e}",
        "kinked": f"{np.median(kinked):.1e}",
        "most": str(most),
        "networks": " and ".join(NAMES[name] for name in kept),
        "forced_both": vanished("both of float64's"),
        "forced_weak": vanished("float64's WC"),
        "forced_extreme": vanished("float64's EPC"),
        "ties": fill(
            f"of the {changed} mask entries that differ at one and the same anchor, {at_ties} are of "
            "features that tie with others at the threshold. WC's threshold does meet a tie, of up to "
            f"{100 * largest:.0f} % of the features (anchors where most images have one: {where or 'none'}): "
            "those that EPC dropped share one value, the bias's. Both precisions treat them alike.",
            WIDTH,
            subsequent_indent="  ",
        ),
        "rhythm": _rhythm_in_words(images),
    }


def _rhythm_in_words(images: Sequence[Mapping[str, Any]]) -> str:
    def at(run: str, key: str, lag: int) -> str:
        return f"{np.mean([each['rhythm'][run][key][lag - 1] for each in images]):.2f}"

    return fill(
        "It is EPC, not WC. The features that EPC drops are at the baseline, or near it, at the next anchor, "
        "where their attribution is small and not extreme; and since the masks are applied to the image, not "
        "to the anchor, they are back at the one after it. Of what EPC alone drops, "
        f"{at('EPC alone', 'extreme again', 1)} is dropped again one anchor later, "
        f"{at('EPC alone', 'extreme again', 2)} two anchors later; in DGA "
        f"{at('DGA', 'extreme again', 1)} and {at('DGA', 'extreme again', 2)}. The attributions of DGA "
        f"correlate with {at('DGA', 'correlation', 1)}, {at('DGA', 'correlation', 2)} and "
        f"{at('DGA', 'correlation', 3)} at one, two and three anchors' distance. What WC weakens stays weak: "
        f"alone, it drops {at('WC alone', 'weak again', 1)} and {at('WC alone', 'weak again', 2)} again, and "
        f"the correlation falls steadily, {at('WC alone', 'correlation', 1)}, "
        f"{at('WC alone', 'correlation', 2)}, {at('WC alone', 'correlation', 3)}.",
        WIDTH,
    )
