"""The explorer's tabs behind the maps: how DGA got there, whether to believe it, what to take along."""

from __future__ import annotations

from typing import Any

from distillgrad.errors import InputError
from distillgrad.views.explorer.downloads import files_of
from distillgrad.views.explorer.errors import problem
from distillgrad.views.explorer.session import Displayed, Models, faithfulness, sequence
from distillgrad.views.html.map_cards import curves_panel, sequence_panel
from distillgrad.views.html.page import fragment

CURVE_STEPS = 20
QUIET = '<div class="dg"><p class="quiet">{}</p></div>'
NO_FRAMES = QUIET.format("The anchors, their attributions and the score along them.")
NO_CURVES = QUIET.format("MoRF and LeRF of the maps that are shown.")
NO_RECIPE = QUIET.format("Explain a picture first.")
AGAIN = QUIET.format("Press the button above for the maps that are shown now.")
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""Whatever asks something of a model waits for the others that do."""


class Counter:
    """Shows passes as progress."""

    def __init__(self, progress: Any, total: int, words: str) -> None:
        self._progress, self._total, self._words, self._done = progress, max(total, 1), words, 0

    def __call__(self, amount: int = 1) -> None:
        self._done += amount
        self._progress((min(self._done, self._total), self._total), desc=self._words, unit="passes")


def sequence_tab(gr: Any, models: Models, shown: Any) -> Any:
    """The distillation sequence of what is ``shown``; returns the component that holds it."""
    with gr.Tab("How DGA got there"):
        distil = gr.Button("Show the distillation sequence", size="sm", elem_id="distil")
        frames = gr.HTML(NO_FRAMES, elem_id="sequence")

    def show(made: Displayed | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = _expect(made)
            loaded = models.load(made.model)
            total = 1 + made.explanation.methods.get("dga", ("dga", {}))[1].get("n_steps", 0)
            steps = sequence(loaded, made, Counter(progress, total, "distilling"))
            return fragment(sequence_panel(steps, loaded.displayable, made.explanation.score))
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            return problem(error)

    distil.click(show, shown, frames, **ONE_AT_A_TIME, **PRIVATE)
    return frames


def curves_tab(gr: Any, models: Models, shown: Any) -> Any:
    """MoRF and LeRF of the maps that are ``shown``; returns the component that holds them."""
    with gr.Tab("Whether to believe it"):
        measure = gr.Button("Remove pixels and watch the probability", size="sm", elem_id="measure")
        curves = gr.HTML(NO_CURVES, elem_id="curves")

    def show(made: Displayed | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = _expect(made)
            rows = 2 + 2 * (CURVE_STEPS - 1) * len(made.explanation.attributions)
            counter = Counter(progress, rows, "removing pixels")
            return fragment(curves_panel(faithfulness(models.load(made.model), made, CURVE_STEPS, counter)))
        except Exception as error:  # noqa: BLE001  # as above
            return problem(error)

    measure.click(show, shown, curves, **ONE_AT_A_TIME, **PRIVATE)
    return curves


def take_away_tab(gr: Any, shown: Any) -> tuple[Any, Any, Any]:
    """Code and files of what is ``shown``; returns the components: code, files, message."""
    with gr.Tab("Take it with you"):
        recipe = gr.HTML(NO_RECIPE, elem_id="recipe")
        pack = gr.Button("Make files: arrays, figure, report", size="sm", elem_id="pack")
        message = gr.HTML(elem_id="pack-message")
        downloads = gr.File(
            label="Files", file_count="multiple", interactive=False, visible=False, elem_id="downloads"
        )

    def make(made: Displayed | None) -> tuple[Any, str]:
        try:
            return gr.update(value=files_of(_expect(made)), visible=True), ""
        except Exception as error:  # noqa: BLE001  # as above
            return gr.update(value=None, visible=False), problem(error)

    pack.click(make, shown, [downloads, message], **ONE_AT_A_TIME, **PRIVATE)
    return recipe, downloads, message


def _expect(made: Displayed | None) -> Displayed:
    if made is None:
        raise InputError("there is no explanation yet: drop a picture first")
    return made
