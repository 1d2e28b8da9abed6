"""Two classes of one image as HTML: each one's map, their difference, and why the one and not the other."""

from __future__ import annotations

from collections.abc import Sequence

from distillgrad.explanations.explanation import Explanation
from distillgrad.methods import find_method
from distillgrad.views.figures.explanation_figures import heat_map, shared_scale
from distillgrad.views.html.map_cards import NUMBERS, card, controls, legend, unit_of
from distillgrad.views.html.page import text


def comparison_panel(
    rather: Explanation,
    sides: Sequence[Explanation],
    key: str,
    *,
    fraction: float = 0.1,
    raw_numbers: bool = False,
) -> str:
    """By method, on one scale: both classes' maps, the first less the second, and the logits' difference's.

    The last two are the same for methods that are linear in what they explain, such as Gradient×Input; a
    method that masks what matters to the score, as DGA does, takes another path for each question.

    Args:
        rather: What speaks for the first class and not the second.
        sides: The explanations of the first class and of the second.
        key: Distinguishes the panel's controls from those of others on the page.
        fraction: Of the pixels that count as most relevant.
        raw_numbers: One scale of the attributions as they are, for all methods.
    """
    one, other = sides
    first, second = one.target_name, other.target_name
    by_method = {}
    for name in rather.attributions:
        a, b, direct = (heat_map(each.attributions[name]) for each in (one, other, rather))
        by_method[name] = {
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
    for name, maps in by_method.items():
        scale = every if raw_numbers else shared_scale(list(maps.values()))
        settings = ", ".join(f"{each}={value}" for each, value in rather.methods[name][1].items())
        cards = "".join(
            card(rather.picture, title, words[title], f"{name}, {title}", pixels, scale, fraction)
            for title, pixels in maps.items()
        )
        below = legend(scale, NUMBERS.format(unit_of(find_method(name).multiplies_by_inputs)))
        small = f" <small>{text(settings)}</small>" if settings else ""
        rows += (
            f'<h3>{text(name)}{small}</h3><div class="cards four">{cards}</div>'
            f'<div class="common">{below}</div>'
        )
    return (
        f'<section class="maps" aria-label="{text(rather.question)}">{controls(key, fraction)}'
        f"<p>In the maps that compare, red speaks for {text(first)} and blue for {text(second)}.</p>"
        f"{rows}</section>"
    )
