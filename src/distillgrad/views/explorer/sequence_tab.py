"""The explorer's tab with the distillation sequence of the DGA map that is displayed."""

from __future__ import annotations

from typing import Any

from distillgrad.explanations.distillation import distillation, n_anchors
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
from distillgrad.views.html.map_cards import sequence_panel
from distillgrad.views.html.page import fragment

NO_FRAMES = QUIET.format("The anchors, their attributions and the score along them.")


def sequence_tab(gr: Any, models: Models, displayed: Any) -> ResultTab:
    """Return the tab of the sequence, which is computed when its button is pressed."""
    with gr.Tab("How DGA got there"):
        button = gr.Button("Show the distillation sequence", size="sm", elem_id="distil")
        frames = gr.HTML(NO_FRAMES, elem_id="sequence")

    def show(made: Displayed | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = required(made)
            loaded, explanation = models.load(made.model), made.explanation
            passes = PassProgress(progress, n_anchors(explanation), "distilling")
            steps = distillation(loaded, made.picture.image, explanation, on_pass=passes)
            return fragment(sequence_panel(steps, loaded.displayable, explanation.score))
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            return problem(error)

    button.click(show, displayed, frames, **ONE_AT_A_TIME, **PRIVATE)
    return ResultTab(empty={frames: NO_FRAMES}, filled=lambda _: {frames: AGAIN})
