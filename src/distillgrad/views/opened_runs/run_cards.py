"""An image of a run as HTML: its prediction, and each method's map beside it."""

from __future__ import annotations

import math

import numpy as np

from distillgrad.errors import SourceError
from distillgrad.explanations.disagreement import disagreement
from distillgrad.explanations.explanation import Explanation, Map, Prediction, notes_of
from distillgrad.views.figures.explanation_figures import colours, heat_map, own_scales
from distillgrad.views.html.encoded_pictures import data_uri, is_coarse
from distillgrad.views.html.map_cards import map_panel, said
from distillgrad.views.html.page import text
from distillgrad.views.numbers import decimal
from distillgrad.views.opened_runs.run_images import COMPARED, RunSample, RunView

THUMBNAIL = 224


def sample_card(view: RunView, sample: RunSample, *, at_most: int | None = None) -> str:
    """Return one image: its prediction, each method's map on a scale of its own, each metric's values.

    A click on the image enlarges it: in a report the card grows, in the explorer the server answers.

    Args:
        at_most: The number of characters of each picture.
    Cost: the sample's maps, read or computed.
    """
    pictures, note = "", ""
    image = view.explainable.image(sample)
    if image is not None:
        seen = view.explainable.seen(image)
        if seen is None:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            pixels = np.asarray(image) / 255
        else:
            pixels = seen.numpy()
        pictures = _figure(pixels, f"{sample.id}: show it large", "image", at_most, sample.position)
    maps: dict[str, Map] = {}
    try:
        maps = view.maps(sample)
    except SourceError as error:
        known = str(error) in view.explainable.reason  # it is said of all, above
        note = "" if known else f'<p class="quiet">{text(error)}</p>'
    heats = [heat_map(each.values) for each in maps.values()]
    for label, heat, scale in zip(maps, heats, own_scales(heats), strict=True):
        drawn = colours(heat, scale)
        caption = f"<strong>{_breakable(label)}</strong><br>{_values(sample, label)}{said(maps[label].notes)}"
        pictures += _figure(drawn, f"map by {label}", caption, at_most, None if image else sample.position)
    spread = sample.spread if math.isfinite(sample.spread) else 0.0
    apart = disagreement({label: each.values for label, each in maps.items()})
    differ = f"<small>maps correlate by {1 - apart:.2f}</small>" if math.isfinite(apart) else ""
    return (
        f'<article class="sample" data-position="{sample.position}" data-wrong="{int(bool(sample.wrong))}" '
        f'data-faithfulness="{spread:.6g}" data-disagreement="{apart if math.isfinite(apart) else -1:.6g}">'
        f'<header>{heading(view, sample)}{differ}</header>{note}<div class="row">{pictures}</div></article>'
    )


def heading(view: RunView, sample: RunSample) -> str:
    """Return the image's name, its prediction and its label."""
    name = view.explainable.class_name
    probability = f" ({sample.probability:.1%})" if math.isfinite(sample.probability) else ""
    if sample.target == sample.predicted:
        seen = f"seen as {text(name(sample.predicted))}{probability}"
    else:
        seen = f"seen as {text(name(sample.predicted))}; explained: {text(name(sample.target))}{probability}"
    tag = ""
    if sample.wrong is not None:
        kind, words = (" wrong", "wrong") if sample.wrong else ("", "right")
        tag = f'<span class="tag{kind}">{words}: is {text(sample.label)}</span>'
    elif sample.label is not None:
        tag = f'<span class="tag">is {text(sample.label)}</span>'
    return f"<strong>{text(sample.id)}</strong><span>{seen}</span>{tag}"


def sample_panel(view: RunView, sample: RunSample, key: str) -> str:
    """Return one image large: every map over it, alone or as its most relevant pixels, and the scales.

    Args:
        key: Distinguishes the panel's controls from those of others on the page.
    Raises:
        SourceError: the run holds no maps of it, or they cannot be had.
    """
    maps = view.maps(sample)
    image = view.explainable.image(sample)
    seen = None if image is None else view.explainable.seen(image)
    head = f'<div class="sample-head">{heading(view, sample)}</div>'
    if seen is None:
        return f'<div class="large">{sample_card(view, sample)}</div>'
    name = view.explainable.class_name(sample.target)
    explanation = Explanation(
        picture=seen,
        prediction=Prediction((sample.target,), (name,), (sample.probability,)),
        target=sample.target,
        target_name=name,
        probability=sample.probability,
        attributions={label: each.values for label, each in maps.items()},
        notes=notes_of(maps),
        methods={label: view.methods[label] for label in maps},
        profiles={},
    )
    return head + map_panel(explanation, key)


def compared_words(view: RunView) -> str:
    """Return words on the number of images whose maps are compared, "" if all are."""
    return f" among the first {COMPARED}" if len(view.samples) > COMPARED else ""


def _figure(pixels: object, alt: str, caption: str, at_most: int | None, position: int | None) -> str:
    values = np.asarray(pixels)
    coarse = ' class="coarse"' if is_coarse(values) else ""
    picture = f'<img{coarse} src="{data_uri(values, at_most=at_most)}" alt="{text(alt)}">'
    if position is not None:
        picture = f'<button type="button" class="enlarge" data-sample="{position}">{picture}</button>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _breakable(name: str) -> str:
    """Return a name that a narrow column breaks where its words end."""
    return text(name).replace("_", "_<wbr>")


def _values(sample: RunSample, label: str) -> str:
    return "<br>".join(
        f"{_breakable(metric)} {decimal(by_method[label])}"
        for metric, by_method in sample.values.items()
        if label in by_method
    )
