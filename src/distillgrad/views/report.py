"""The report: one HTML file of a photograph's explanation, or of a run; it loads nothing from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from distillgrad.errors import UnknownNameError
from distillgrad.explanations.explanation import Explanation
from distillgrad.methods.dga import Distillation
from distillgrad.metrics.perturbation_curves import MorfAndLerf
from distillgrad.runs.files import written_whole
from distillgrad.sources.value_range import ValueRange
from distillgrad.views.html.comparison_cards import comparison_panel
from distillgrad.views.html.map_cards import curves_panel, map_panel, prediction_list, sequence_panel
from distillgrad.views.html.page import code, document, facts, text
from distillgrad.views.opened_runs.run_cards import compared_words, sample_card
from distillgrad.views.opened_runs.run_images import ORDERS, RunView, disagreements, in_order
from distillgrad.views.recipe import SAMPLE, commands_for, python_for
from distillgrad.views.records import versions

DIRECTIONS = {"disagreement": "down", "faithfulness": "down", "wrong": "down", "position": "up"}
PICTURES = 4_000_000
"""Characters that the pictures of a run may take together, in a report of 5 MB."""
HOW_TO_READ = (
    "Colour says how much each pixel contributed to the explained class's score, as a share of the map's own "
    "strongest: red for the class, blue against it; or from black to yellow, where none of the maps beside it has "
    "negative values. Read regions, not single pixels: a map moves with the last bits of its input while its "
    "faithfulness does not. A map says what the model used, not whether it was right to."
)


def image_report(
    explanation: Explanation,
    name: str | None,
    model: str,
    *,
    value_range: ValueRange | None = None,
    sides: Sequence[Explanation] = (),
    steps: Distillation | None = None,
    display: Callable[[Tensor], Tensor] = lambda inputs: inputs,
    curves: Mapping[str, MorfAndLerf] | None = None,
) -> str:
    """Return the page of one explained photograph: maps, sequence and curves if given, how it was made.

    Args:
        name: The file's; ``None`` for the sample.
        value_range: The file's values that were shown black and white, where they were said.
        sides: The explanation of each class alone, where two classes are compared.
        display: Turns the model's inputs ``(C, H, W)`` into a picture in [0, 1].
    """
    given = explanation, name, model, sides, value_range
    maps = comparison_panel(explanation, sides, "maps") if sides else map_panel(explanation, "maps")
    body = (
        f'<h1>{text(explanation.question)}</h1><p class="quiet">{text(name or SAMPLE)}, seen by {text(model)}</p>'
        f'<div class="sides"><div><h2>What the model says</h2>{prediction_list(explanation)}</div>'
        f"<div><h2>How to read this</h2><p>{HOW_TO_READ}</p></div></div>"
        f"<h2>Where it looked</h2>{maps}"
    )
    if steps is not None:
        body += f"<h2>How DGA got there</h2>{sequence_panel(steps, display, explanation.score)}"
    if curves:
        body += f"<h2>Whether to believe it</h2>{curves_panel(curves)}"
    body += (
        f"<h2>How it was made</h2>{facts(versions())}"
        f"<h3>Python</h3>{code(python_for(*given), 'Python', 'python')}"
        f"<h3>Command line</h3>{code(commands_for(*given), 'Command line', 'command')}"
    )
    return document(f"{explanation.question} {name or SAMPLE}", body)


def run_report(
    view: RunView,
    *,
    n_images: int = 24,
    order: str | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> str:
    """Return the page of a run: its results, its most instructive images with their maps, how it was made.

    Args:
        order: One of the run's orders of images; by default its first.
        on_image: Called for each image on the page, and before that for each that is compared.
    Raises:
        UnknownNameError: no such order.
    Cost: the maps of each image on the page; to order by disagreement, those of ``COMPARED`` images as well.
        The pictures share ``PICTURES`` characters.
    """
    order = view.orders[0] if order is None else order
    if order not in view.orders:
        raise UnknownNameError("order", order, view.orders)
    known = disagreements(view, on_sample=on_image) if order == "disagreement" else {}
    chosen = in_order(view, order, known)[:n_images]
    budget = PICTURES // max(1, len(chosen) * (len(view.methods) + 1))
    cards = ""
    for sample in chosen:
        cards += sample_card(view, sample, at_most=budget)
        on_image()
    options = "".join(
        f'<option value="{each}:{DIRECTIONS[each]}"{" selected" if each == order else ""}>{ORDERS[each]}</option>'
        for each in view.orders
    )
    note = f'<p class="note">{text(view.explainable.reason)}</p>' if view.explainable.reason else ""
    body = (
        f'<h1>{text(view.question)}</h1><p class="quiet">{text(view.count)}; run {text(view.name)}</p>'
        f"{view.above}<h2>Images</h2><p>{len(chosen)} of {len(view.samples)}, {ORDERS[order]}"
        f"{compared_words(view) if order == 'disagreement' else ''}. {HOW_TO_READ}</p>{note}"
        f'<p class="scripted"><label>Order <select data-orders="images">{options}</select></label></p>'
        f'<div class="gallery" id="images">{cards}</div>{view.below}'
    )
    return document(f"{view.name}: {view.question}", body)


def save_report(page: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    with written_whole(path) as file:
        file.write(page.encode())
