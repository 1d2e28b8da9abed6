"""The explorer's tab with the maps of one class, or of two."""

from __future__ import annotations

from typing import Any

from distillgrad.views.explorer.controls import Controls
from distillgrad.views.explorer.errors import problem
from distillgrad.views.explorer.result_tab import PRIVATE, QUIET
from distillgrad.views.explorer.session import Displayed
from distillgrad.views.html.comparison_cards import comparison_panel
from distillgrad.views.html.map_cards import map_panel
from distillgrad.views.html.page import fragment, text

NO_MAPS = QUIET.format("Drop a picture, or use the photograph of a cat.")


def maps_tab(gr: Any, displayed: Any, controls: Controls) -> Any:
    """Return the component with the maps; a change of how they are drawn asks nothing of the model.

    Args:
        displayed: The component with what a visitor looks at.
    """
    with gr.Tab("Maps"):
        maps = gr.HTML(NO_MAPS, elem_id="maps")

    def redraw(values: dict[Any, Any]) -> Any:
        try:
            made: Displayed | None = values[displayed]
            return gr.skip() if made is None else maps_html(made, **controls.drawing(values))
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            return problem(error)

    gr.on(
        [each.change for each in (controls.top, controls.raw)], redraw, {displayed, *controls.drawing_inputs},
        maps, trigger_mode="always_last", show_progress="hidden", **PRIVATE,
    )  # fmt: skip
    return maps


def maps_html(displayed: Displayed, **drawing: Any) -> str:
    """Return the maps of what is displayed.

    Args:
        drawing: Keywords of the panels.
    """
    explanation = displayed.explanation
    panel = (
        comparison_panel(explanation, displayed.sides, "live", **drawing)
        if displayed.sides
        else map_panel(explanation, "live", **drawing)
    )
    return fragment(f"<h2>{text(explanation.question)}</h2>{panel}")
