"""Two classes of one image as HTML: each one's map, their difference, and why the one and not the other."""

from __future__ import annotations

from collections.abc import Sequence

from distillgrad.explanations.explanation import Explanation
from distillgrad.views.figures.explanation_figures import heat_map, shared_scale
from distillgrad.views.html.map_cards import NUMBERS, card, controls, legend, said, settings_of, unit_of
from distillgrad.views.html.page import text


def comparison_panel(
    rather: Explanation,
    sides: Sequence[Explanation],
    key: str,
    *,
    fraction: float = 0.1,
    raw_numbers: bool = False,
) -> str:
    """Return, by method and on one scale, both classes' maps, their difference, and that of the logits' difference.

    The last two are the same for methods that are linear in what they explain, such as Gradient×Input; a
    method that masks what matters to the score, as DGA does, takes another path for each question.

    Args:
        rather: The explanation of the first class and not the second.
        sides: The explanations of the first class and of the second.
        key: Distinguishes the panel's controls from those of others on the page.
        fraction: The share of the pixels that count as most relevant.
        raw_numbers: Draw the attributions of all methods on one scale, as they are.
    """
    one, other = sides
    first, second = one.target_name, other.target_name
    by_method = {}
    for label in rather.attributions:
        a, b, direct = (heat_map(each.attributions[label]) for each in (one, other, rather))
        by_method[label] = {
            first: a,
            second: b,
            f"{first} less {second}": a - b,
            f"{first} rather than {second}": direct,
        }
    every = shared_scale([pixels for maps in by_method.values() for pixels in maps.values()])
    words = {
        first: "its own map",
        second: "its own map",
        f"{first} less {second}": "difference of the two maps",
        f"{first} rather than {second}": "map of the difference of logits",
    }
    rows = ""
    for label, maps in by_method.items():
        scale = every if raw_numbers else shared_scale(list(maps.values()))
        cards = "".join(
            card(rather.picture, title, words[title], f"{label}, {title}", pixels, scale, fraction)
            for title, pixels in maps.items()
        )
        below = legend(scale, NUMBERS.format(unit_of(rather.methods[label][0])))
        settings = settings_of(rather, label)
        small = f" <small>{text(settings)}</small>" if settings else ""
        rows += (
            f'<h3>{text(label)}{small}</h3><div class="cards four">{cards}</div>'
            f'<div class="common">{below}</div>{said(_notes(label, rather, one, other))}'
        )
    return (
        f'<section class="maps" aria-label="{text(rather.question)}">{controls(key, fraction)}'
        f"<p>In the maps that compare, red speaks for {text(first)} and blue for {text(second)}.</p>"
        f"{rows}</section>"
    )


def _notes(label: str, rather: Explanation, one: Explanation, other: Explanation) -> list[str]:
    """Return what a method said of its maps, each with the map's title where it was not said of all."""
    titles = (one.target_name, other.target_name, f"{one.target_name} rather than {other.target_name}")
    words = [each.notes.get(label, ()) for each in (one, other, rather)]
    common = [note for note in words[0] if all(note in each for each in words)]
    own = [
        f"{title}: {note}"
        for title, each in zip(titles, words, strict=True)
        for note in each
        if note not in common
    ]
    return [*common, *own]
