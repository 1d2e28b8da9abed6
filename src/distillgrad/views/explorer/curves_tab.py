"""The explorer's tab with the MoRF and LeRF curves of the maps that are displayed."""

from __future__ import annotations

from typing import Any

from distillgrad.explanations.faithfulness import faithfulness
from distillgrad.views.explorer.errors import problem
from distillgrad.views.explorer.models import Models
from distillgrad.views.explorer.result_tab import (
    AGAIN,
    ONE_AT_A_TIME,
    PRIVATE,
    QUIET,
    PassProgress,
    ResultTab,
    required,
)
from distillgrad.views.explorer.session import Displayed
from distillgrad.views.html.map_cards import curves_panel
from distillgrad.views.html.page import fragment

STEPS = 20
NO_CURVES = QUIET.format("MoRF and LeRF of the maps that are shown.")


def curves_tab(gr: Any, models: Models, displayed: Any) -> ResultTab:
    """Return the tab of the curves, which are measured when its button is pressed."""
    with gr.Tab("Whether to believe it"):
        button = gr.Button("Remove pixels and watch the probability", size="sm", elem_id="measure")
        curves = gr.HTML(NO_CURVES, elem_id="curves")

    def show(made: Displayed | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = required(made)
            n_rows = 2 + 2 * (STEPS - 1) * len(made.explanation.attributions)
            rows = PassProgress(progress, n_rows, "removing pixels")
            loaded = models.load(made.model)
            measured = faithfulness(loaded, made.picture.image, made.explanation, n_steps=STEPS, on_rows=rows)
            return fragment(curves_panel(measured))
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            return problem(error)

    button.click(show, displayed, curves, **ONE_AT_A_TIME, **PRIVATE)
    return ResultTab(empty={curves: NO_CURVES}, filled=lambda _: {curves: AGAIN})
