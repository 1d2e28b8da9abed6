"""One HTML file to send: a photograph's explanation, or an evaluation with its images; nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from distillgrad.errors import UnknownNameError
from distillgrad.methods.dga import Distillation
from distillgrad.metrics.pixel_perturbation import MorfAndLerf
from distillgrad.metrics.registry import METRICS
from distillgrad.runs.evaluation_record import Evaluation
from distillgrad.runs.files import written_whole
from distillgrad.views.encoded_pictures import data_uri, is_coarse
from distillgrad.views.explanation import Explanation
from distillgrad.views.leaderboard import ARROWS, Leaderboard, leaderboard_of
from distillgrad.views.map_cards import curves_panel, map_panel, prediction_list, sequence_panel
from distillgrad.views.page import Cell, code, document, facts, table, text
from distillgrad.views.plots import colours, heat_map, shared_scale
from distillgrad.views.rankings import AXES
from distillgrad.views.records import versions
from distillgrad.views.reproduction import SAMPLE, command_for, python_for
from distillgrad.views.run_images import ORDERS, Explainable, RunSample, maps_of, samples_of
from distillgrad.views.vector_curves import chart, interval, key_of

PICTURES = 4_000_000
"""Characters that the pictures of a run may take together, of the report's 5 MB."""
HOW_TO_READ = (
    "Colour says how much each pixel contributed to the explained class's score; the numbers under a map give "
    "its scale. Read regions, not single pixels: a map moves with the last bits of its input while its "
    "faithfulness does not. A map says what the model used, not whether it was right to."
)


def image_report(
    explanation: Explanation,
    name: str | None,
    model: str,
    *,
    steps: Distillation | None = None,
    display: Callable[[Tensor], Tensor] = lambda shown: shown,
    curves: Mapping[str, MorfAndLerf] | None = None,
) -> str:
    """The page of one explained photograph (``name`` of ``None``: the sample): maps, sequence and curves where they are given, how it was made."""
    body = (
        f'<h1>{text(explanation.question)}</h1><p class="quiet">{text(name or SAMPLE)}, seen by {text(model)}</p>'
        f'<div class="sides"><div><h2>What the model says</h2>{prediction_list(explanation)}</div>'
        f"<div><h2>How to read this</h2><p>{HOW_TO_READ}</p></div></div>"
        f"<h2>Where it looked</h2>{map_panel(explanation, 'maps')}"
    )
    if steps is not None:
        body += f"<h2>How DGA got there</h2>{sequence_panel(steps, display, explanation.score)}"
    if curves:
        body += f"<h2>Whether to believe it</h2>{curves_panel(curves)}"
    body += (
        f"<h2>How it was made</h2>{facts(versions())}"
        f"<h3>Python</h3>{code(python_for(explanation, name, model), 'Python', 'python')}"
        f"<h3>Command line</h3>{code(command_for(explanation, name, model), 'Command line', 'command')}"
    )
    return document(f"{explanation.question} {name or SAMPLE}", body)


def run_report(
    evaluation: Evaluation,
    found: Explainable,
    name: str,
    *,
    n_images: int = 24,
    order: str = "disagreement",
    on_image: Callable[[], None] = lambda: None,
) -> str:
    """The page of an evaluation: leaderboard, curves, and its most instructive images with their maps.

    Raises:
        UnknownNameError: no such order.
    Cost: an explanation by every method for each image shown; their pictures share ``PICTURES`` characters.
    """
    if order not in ORDERS:
        raise UnknownNameError("order", order, ORDERS)
    manifest = evaluation.manifest
    board = leaderboard_of(evaluation)
    chosen = samples_of(evaluation, order)[:n_images]
    skipped = f", {len(evaluation.skipped)} left out" if evaluation.skipped else ""
    body = (
        f"<h1>Which explanation of {text(manifest['model'])} can be trusted?</h1>"
        f'<p class="quiet">{len(evaluation.ids)} images{skipped}; run {text(name)}</p>'
        f"<h2>Leaderboard</h2>{leaderboard_table(board)}{along_charts(board)}"
        f"<h2>Images</h2><p>{len(chosen)} of {len(evaluation.ids)}, {ORDERS[order]}. {HOW_TO_READ}</p>"
    )
    if found.reason:
        body += f'<p class="note">{text(found.reason)}</p>'
    options = "".join(
        f'<option value="{value}"{" selected" if value.startswith(order) else ""}>{words}</option>'
        for value, words in (
            ("disagreement:down", "where methods disagree most"),
            ("wrong:down", "where the model is wrong first"),
            ("position:up", "as in the data"),
        )
    )
    body += (
        '<p class="scripted"><label>Order <select data-orders="images">'
        f'{options}</select></label></p><div class="gallery" id="images">'
    )
    budget = PICTURES // max(1, len(chosen) * (len(manifest["methods"]) + 1))
    for sample in chosen:
        body += sample_card(evaluation, found, sample, at_most=budget)
        on_image()
    made = {
        "data": manifest["data"]["from"],
        "methods": ", ".join(manifest["methods"]),
        **{key: value for key, value in manifest["protocol"].items() if not isinstance(value, list)},
        "SHA-256 of the weights": manifest.get("weights", "unknown"),
        **versions(),
    }
    return document(
        f"{manifest['model']}: which explanation can be trusted?",
        f"{body}</div><h2>How it was made</h2>{facts(made)}",
    )


def leaderboard_table(board: Leaderboard) -> str:
    """Means with their intervals, and what is significantly worse than the best."""
    heads = [
        "method",
        *(f"{metric} {ARROWS[METRICS[metric].better]}" for metric in board.comparisons),
        "s/image",
    ]
    rows = []
    for method in board.methods:
        cells = [Cell(text(method))]
        for comparison in board.comparisons.values():
            mean, difference = comparison.means[method], comparison.differences.get(method)
            known = [
                end
                for each in comparison.means.values()
                for end in (each.low, each.high)
                if math.isfinite(end)
            ]
            ends = (min(known), max(known)) if known else (math.nan, math.nan)
            mark = "*" if difference is not None and difference.significant else ""
            words = f"{mean.mean:.3f}{mark} <small>[{mean.low:.3f}, {mean.high:.3f}]</small>"
            cells.append(Cell(words + interval(mean.low, mean.mean, mean.high, ends), mean.mean))
        seconds = board.evaluation.seconds[method]
        rows.append([*cells, Cell(f"{seconds:.2g}", seconds)])
    return (
        f'{table(heads, rows, "Leaderboard")}<p class="quiet">Mean and 95 % bootstrap interval over images; '
        "* significantly worse than the best (paired sign-flip test, Holm-adjusted p &lt; 0.05).</p>"
    )


def along_charts(board: Leaderboard) -> str:
    """Means along the axis of each metric that has one in numbers."""
    charts = ""
    for metric, by_method in board.along.items():
        axis = board.evaluation.axes[metric]
        if not all(isinstance(each, float | int) for each in axis) or metric not in AXES:
            continue
        title, below, beside = AXES[metric]
        curves = {method: [each.mean for each in by_method[method]] for method in board.evaluation.seconds}
        charts += chart(title, below, beside, [float(each) for each in axis], curves)
    return f'{key_of(board.evaluation.seconds)}<div class="sides">{charts}</div>' if charts else ""


def sample_card(
    evaluation: Evaluation,
    found: Explainable,
    sample: RunSample,
    *,
    at_most: int | None = None,
    on_map: Callable[[], None] = lambda: None,
) -> str:
    """One image of a run: what was seen, each method's map on one scale, each metric's values."""
    image = found.image(sample)
    pictures = ""
    if image is not None and found.loaded is not None:
        shown, attributions = maps_of(evaluation, found.loaded, image, sample.target, on_map)
        coarse = ' class="coarse"' if is_coarse(shown.numpy()) else ""
        uri = data_uri(shown.numpy(), at_most=at_most)
        pictures = f'<figure><img{coarse} src="{uri}" alt="{text(sample.id)}"><figcaption>image</figcaption></figure>'
        maps = {label: heat_map(values) for label, values in attributions.items()}
        for label, pixels in maps.items():
            # Methods of a run have units of their own, so that each has its own scale here.
            drawn = colours(pixels, shared_scale([pixels]))
            values = "<br>".join(
                f"{text(metric)} {by_method[label]:.3f}"
                for metric, by_method in sample.values.items()
                if label in by_method
            )
            pictures += (
                f'<figure><img{coarse} src="{data_uri(drawn, at_most=at_most)}" alt="map by {text(label)}">'
                f"<figcaption><strong>{text(label)}</strong><br>{values}</figcaption></figure>"
            )
    elif image is not None:
        thumbnail = image.copy()
        thumbnail.thumbnail((224, 224))
        uri = data_uri(np.asarray(thumbnail) / 255, at_most=at_most)
        pictures = f'<figure><img src="{uri}" alt="{text(sample.id)}"></figure>'
    tag = ""
    if sample.wrong is not None:
        kind, words = (" wrong", "wrong") if sample.wrong else ("", "right")
        tag = f'<span class="tag{kind}">{words}: is {text(found.class_name(sample.label))}</span>'
    spread = sample.disagreement if math.isfinite(sample.disagreement) else 0.0
    return (
        f'<article class="sample" data-position="{sample.position}" data-wrong="{int(bool(sample.wrong))}" '
        f'data-disagreement="{spread:.6g}"><header><strong>{text(sample.id)}</strong>'
        f"<span>seen as {text(found.class_name(sample.target))}</span>{tag}"
        f'<small>methods differ by {spread:.3f}</small></header><div class="row">{pictures}</div></article>'
    )


def save_report(page: str, path: Path) -> None:
    """Writes the page, whole or not at all."""
    with written_whole(path) as file:
        file.write(page.encode())
