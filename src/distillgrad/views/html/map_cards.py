"""An explanation as HTML: the prediction, each method's map, the distillation sequence, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from distillgrad.explanations.explanation import Explanation
from distillgrad.methods import METHODS
from distillgrad.methods.dga import Distillation
from distillgrad.metrics.perturbation_curves import MorfAndLerf
from distillgrad.views.figures.explanation_figures import (
    Scale,
    colours,
    heat_map,
    own_scales,
    relevant_pixels,
    shared_scale,
)
from distillgrad.views.html.encoded_pictures import data_uri, is_coarse
from distillgrad.views.html.page import Cell, table, text
from distillgrad.views.html.vector_curves import chart, key_of
from distillgrad.views.numbers import decimal

OVERLAY = 85
"""The opacity of a map over the image, in per cent, until the reader changes it."""
PRINTED = 6
"""The number of anchors that are printed, evenly spaced: paper has no slider."""
SHARES = "share of each map's own strongest, beyond which lie 0.5 % of its pixels; its card says what 1 is"
RAW = "attribution as it is, in the unit of each method; the scale ends where half the maps end"
NUMBERS = "attribution {}; the scale ends where 0.5 % of the pixels lie beyond"


def prediction_list(explanation: Explanation) -> str:
    """Return the list of the five most probable classes, the explained one marked."""
    prediction = explanation.prediction
    lines = ""
    for index, name, probability in zip(
        prediction.classes, prediction.names, prediction.probabilities, strict=True
    ):
        mark = ' class="explained"' if index == explanation.target else ""
        lines += (
            f"<li{mark}><span>{text(name)}</span><span>{probability:.1%}</span>"
            f'<span class="bar"><span style="width:{100 * probability:.1f}%"></span></span></li>'
        )
    return f'<ol class="prediction">{lines}</ol>'


def map_panel(
    explanation: Explanation,
    key: str,
    *,
    fraction: float = 0.1,
    raw_numbers: bool = False,
) -> str:
    """Return every method's map side by side: laid over the image, alone, or as its most relevant pixels.

    All are on one scale. Its numbers are shares of each map's own strongest, which its card states, since
    methods have units of their own: by raw numbers the weak maps would be blank.

    Args:
        key: Distinguishes the panel's controls from those of others on the page.
        fraction: The share of the pixels that count as most relevant.
        raw_numbers: Draw the attributions as they are.
    """
    maps = {label: heat_map(values) for label, values in explanation.attributions.items()}
    together = list(maps.values())
    scales = [shared_scale(together)] * len(maps) if raw_numbers else own_scales(together)
    cards = ""
    for (label, pixels), scale in zip(maps.items(), scales, strict=True):
        settings, unit = settings_of(explanation, label), unit_of(explanation.methods[label][0])
        about = f"{label}, {explanation.question}"
        ends = f'<p class="ends">{unit if raw_numbers else f"{_ends(scale)}, {unit}"}</p>'
        ends = f"<div>{ends}{said(explanation.notes.get(label, ()))}</div>"  # one row of the cards' grid
        cards += card(explanation.picture, label, settings, about, pixels, scale, fraction, ends)
    below = legend(scales[0], RAW) if raw_numbers else legend(Scale(0, 1, scales[0].signed), SHARES)
    return (
        f'<section class="maps" aria-label="{text(explanation.question)}">{controls(key, fraction)}'
        f'<div class="cards" style="--cards:{len(maps)}">{cards}</div><div class="common">{below}</div></section>'
    )


def settings_of(explanation: Explanation, label: str) -> str:
    """Return the parameters of a method in words, "" where its label says them."""
    _, parameters = explanation.methods[label]
    return "" if "(" in label else ", ".join(f"{each}={value}" for each, value in parameters.items())


def said(notes: Sequence[str]) -> str:
    """Return a method's notes on a map, one a paragraph; they stand beside it, for whoever cannot see it, too."""
    return "".join(f'<p class="said">{text(each)}</p>' for each in notes)


def unit_of(name: str) -> str:
    """Return the unit of a method's attributions; that of a method which is not known here is its own."""
    method = METHODS.get(name)  # a run's folder may name any, so nothing is imported to find it
    in_logits = method is not None and method.multiplies_by_inputs
    return "in logits per pixel" if in_logits else "in units of its own"


def _ends(scale: Scale) -> str:
    """Return the map's own numbers at the shares 0 and 1."""
    return f"{f'0 is {scale.nothing:.2g}, ' if scale.nothing else ''}1 is {scale.high:.2g}"


def controls(key: str, fraction: float) -> str:
    """Return the controls of a panel: maps over the image, how strongly, alone, or as their pixels."""
    views = "".join(
        f'<label><input type="radio" name="view-{key}" value="{value}"{checked}>{words}</label>'
        for value, words, checked in (
            ("over", "over the image", " checked"),
            ("map", "the map alone", ""),
            ("top", f"top {100 * fraction:g} % of the pixels", ""),
        )
    )
    return (
        f'<div class="controls"><fieldset><legend>Show</legend>{views}</fieldset>'
        '<span class="slides scripted"><label>Map over the image <input type="range" min="0" max="100" '
        f'value="{OVERLAY}" data-slides="overlay" aria-label="How much of the map is laid over the image">'
        f"</label><output>{OVERLAY} %</output></span></div>"
    )


def card(
    picture: Tensor,
    title: str,
    small: str,
    about: str,
    pixels: Tensor,
    scale: Scale,
    fraction: float,
    below: str = "",
) -> str:
    """Return one map with all that the controls can show of it.

    Args:
        picture: The model's input, ``(H, W, 3)``.
        title, small: The caption.
        about: The map's subject in words, for those who cannot see it.
        below: HTML under the map, such as the scale.
    """
    photograph = picture.numpy().astype(float)
    coloured = colours(pixels, scale)
    opaque = np.dstack([coloured, scale.strength(pixels)[..., None] ** 0.5])
    layers = (
        ("photograph", photograph, "what the model sees"),
        ("over", opaque, f"{about}: its map laid over the image"),
        ("map", coloured, ""),
        ("top", relevant_pixels(picture, pixels, fraction), ""),
    )
    pictures = "".join(
        f'<img class="{kind}" src="{data_uri(layer)}" alt="{text(words)}">' for kind, layer, words in layers
    )
    coarse = " coarse" if is_coarse(photograph) else ""
    smaller = f"<small>{text(small)}</small>" if small else ""
    return (
        f'<figure class="card"><figcaption>{text(title)}{smaller}</figcaption>'
        f'<div class="stack{coarse}">{pictures}</div>{below}</figure>'
    )


def legend(scale: Scale, words: str) -> str:
    """Return the colours with their numbers, and ``words`` on what the numbers are."""
    ends = np.linspace(scale.low, scale.high, 128)
    stripe = np.asarray(scale.mappable.to_rgba(ends))[None, :, :3]
    middle = (scale.low + scale.high) / 2
    signs = "; red speaks for the class, blue against it" if scale.signed else ""
    return (
        f'<div class="scale"><img src="{data_uri(np.repeat(stripe, 2, 0), quality=95)}" alt="">'
        f"<div><span>{scale.low:.2g}</span><span>{middle:.2g}</span><span>{scale.high:.2g}</span></div>"
        f"<p>{words}{signs}</p></div>"
    )


def sequence_panel(steps: Distillation, display: Callable[[Tensor], Tensor], score: str) -> str:
    """Return the anchors beside their local attributions, one n at a time, and the score along them.

    Args:
        display: Turns the model's inputs ``(C, H, W)`` into a picture in [0, 1].
        score: The name of the score.
    """
    n_anchors = len(steps.anchors)
    maps = [heat_map(each[0].cpu()) for each in steps.attributions]
    scale = shared_scale(maps)
    printed = set(np.linspace(0, n_anchors - 1, PRINTED).round().astype(int).tolist())
    frames = ""
    for n, (anchor, pixels) in enumerate(zip(steps.anchors, maps, strict=True)):
        seen = display(anchor[0].cpu()).permute(1, 2, 0).expand(-1, -1, 3).numpy()
        kinds = f"frame{' coarse' * is_coarse(seen)}{' printed' * (n in printed)}"
        frames += (
            f'<figure class="{kinds}"><figcaption>n = {n}: {text(score)} '
            f"{float(steps.scores[n, 0]):.2f}</figcaption>"
            f'<img src="{data_uri(seen, quality=70)}" alt="anchor {n}">'
            f'<img src="{data_uri(colours(pixels, scale), quality=70)}" alt="its local attribution"></figure>'
        )
    curve = chart(
        "Score along the sequence", "n", score, list(range(n_anchors)),
        {"dga": steps.scores[:, 0].tolist()},
    )  # fmt: skip
    return (
        '<section class="sequence" aria-label="Distillation sequence"><span class="slides"><label>Anchor '
        f'<input type="range" min="0" max="{n_anchors - 1}" value="0" data-slides="sequence" '
        'aria-label="Anchor n of the sequence"></label><output>n = 0</output></span>'
        f'<div class="sides"><div><div class="frames" role="region" aria-label="anchors" tabindex="0">{frames}'
        f"</div>{legend(scale, NUMBERS.format(unit_of('dga')))}</div>{curve}</div></section>"
    )


def curves_panel(curves: Mapping[str, MorfAndLerf]) -> str:
    """Return charts of MoRF and LeRF of each map, and a table of their areas."""
    fractions = [100 * each for each in next(iter(curves.values())).morf.fractions.tolist()]
    charts = ""
    for title, lerf in (
        ("LeRF: least relevant removed first ↑", True),
        ("MoRF: most relevant removed first ↓", False),
    ):
        by_method = {
            name: (each.lerf if lerf else each.morf).probabilities[0].tolist()
            for name, each in curves.items()
        }
        charts += chart(title, "% of the pixels removed", "probability", fractions, by_method, between=(0, 1))
    rows = [
        [Cell(text(name)), *(Cell(decimal(area), area) for area in _areas(each))]
        for name, each in curves.items()
    ]
    areas = table(("method", "LeRF area ↑", "MoRF area ↓", "between ↑"), rows, "Areas under the curves")
    return (
        f'<section aria-label="Faithfulness curves">{key_of(curves)}<div class="sides">{charts}</div>{areas}'
        "</section>"
    )


def _areas(curves: MorfAndLerf) -> tuple[float, ...]:
    return tuple(float(each[0]) for each in (curves.lerf.auc, curves.morf.auc, curves.area_between))
