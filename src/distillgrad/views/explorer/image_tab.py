"""The explorer's tab for one image: the controls, the maps that answer them, and the tabs of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from distillgrad.sources.value_range import ValueRange
from distillgrad.views.explorer.controls import Controls, controls_column
from distillgrad.views.explorer.curves_tab import curves_tab
from distillgrad.views.explorer.downloads_tab import downloads_tab
from distillgrad.views.explorer.errors import log_failure, problem, public_message
from distillgrad.views.explorer.maps_tab import maps_html, maps_tab
from distillgrad.views.explorer.models import Models, class_choices
from distillgrad.views.explorer.result_tab import ONE_AT_A_TIME, PRIVATE, QUIET, PassProgress, ResultTab
from distillgrad.views.explorer.sequence_tab import sequence_tab
from distillgrad.views.explorer.session import Displayed, checked_settings, explain_picture
from distillgrad.views.explorer.uploads import Picture, picture_of
from distillgrad.views.html.map_cards import prediction_list
from distillgrad.views.html.page import fragment, text
from distillgrad.views.recipe import SAMPLE

NO_PICTURE = QUIET.format("No picture yet.")
RESULT_TABS: tuple[Callable[[Any, Models, Any], ResultTab], ...] = (sequence_tab, curves_tab, downloads_tab)
"""The tabs beside the maps, in their order. Each takes gradio, the models and the component of what is displayed."""


def image_tab(gr: Any, models: Models, value_range: ValueRange | None) -> None:
    """Add the tab to the page. What a visitor sees is kept in their session."""

    def taken_from(path: str | None) -> Picture:
        return picture_of(path, value_range)

    with gr.Tab("Explain an image"):
        displayed, picture = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                controls = controls_column(gr, models.offered, NO_PICTURE)
            with gr.Column(scale=3, min_width=320), gr.Tabs():
                maps = maps_tab(gr, displayed, controls)
                results = [tab(gr, models, displayed) for tab in RESULT_TABS]
        _explain_on_demand(gr, models, taken_from, controls, displayed, picture, maps, results)
        _explain_for_programs(gr, models, taken_from, controls)


def _explain_on_demand(
    gr: Any,
    models: Models,
    taken_from: Callable[[str | None], Picture],
    controls: Controls,
    displayed: Any,
    picture: Any,
    maps: Any,
    results: Sequence[ResultTab],
) -> None:
    """Add the events by which a picture is taken and explained."""

    def take(path: str | None, sample: bool = False) -> dict[Any, Any]:
        """Return the picture, or words in its place, with the place for files empty for the next one.

        Classes chosen for the picture before are forgotten.
        """
        cleared = dict.fromkeys((controls.target, controls.versus, controls.upload))
        try:
            return {**cleared, picture: taken_from(None if sample else path)}
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            words = problem(error)
            return {**cleared, picture: words, maps: words}

    def without(words: str) -> dict[Any, Any]:
        """Return words in place of results: an earlier picture's are not to be taken for this one's."""
        empty = {component: value for tab in results for component, value in tab.empty.items()}
        return {**empty, displayed: None, controls.prediction: "", maps: words}

    def explain_upload(values: dict[Any, Any], progress: Any = gr.Progress()) -> dict[Any, Any]:  # noqa: B008
        upload, versus = values[picture], values[controls.versus]
        if not isinstance(upload, Picture):
            return without(upload or NO_PICTURE)
        try:
            settings = controls.settings(values)
            passes = PassProgress(progress, settings.n_passes * (3 if versus else 1), "explaining")
            model, target = values[controls.model], values[controls.target]
            made = explain_picture(models, upload, model, target, versus, settings, passes, values[displayed])
            choices = gr.update(choices=class_choices(models.load(model), made.explanation.prediction))
            filled = {component: value for tab in results for component, value in tab.filled(made).items()}
            return {
                **filled,
                displayed: made,
                controls.prediction: _prediction(made),
                controls.target: choices,
                controls.versus: choices,
                maps: maps_html(made, **controls.drawing(values)),
            }
        except Exception as error:  # noqa: BLE001  # as above
            return without(problem(error))

    classes = {controls.target, controls.versus}
    explains = {
        "fn": explain_upload,
        "inputs": {picture, displayed, *controls.inputs},
        "outputs": {
            displayed, controls.prediction, maps, *classes, *(each for tab in results for each in tab.empty)
        },
        **ONE_AT_A_TIME,
        **PRIVATE,
        "show_progress_on": [maps],
    }  # fmt: skip
    taken = {picture, maps, controls.upload, *classes}
    controls.upload.upload(take, controls.upload, taken, **PRIVATE).then(**explains)
    controls.example.click(lambda: take(None, sample=True), None, taken, **PRIVATE).then(**explains)
    controls.model.change(lambda: dict.fromkeys(classes), None, classes, **PRIVATE).then(**explains)
    controls.explain.click(**explains)


def _prediction(displayed: Displayed) -> str:
    name = text(displayed.picture.name or SAMPLE)
    predictions = prediction_list(displayed.explanation)
    notes = "".join(f'<p class="quiet">{text(each)}</p>' for each in displayed.picture.notes)
    return fragment(f'<h2>What the model says</h2><p class="quiet">of {name}</p>{notes}{predictions}')


def _explain_for_programs(
    gr: Any, models: Models, taken_from: Callable[[str | None], Picture], controls: Controls
) -> None:
    """Add the one request that programs may make."""

    def explain_file(path: str | None, model: str, target: str | None, methods: list[str]) -> tuple[Any, str]:
        """Return, for programs, the attributions by method as nested lists, and the class."""
        try:
            settings = checked_settings(methods, 30, 0.9, 0.0)
            made = explain_picture(models, taken_from(path), model, target, None, settings, lambda: None)
        except Exception as error:  # noqa: BLE001  # whatever it is, the program is told
            log_failure(error)
            raise gr.Error(public_message(error), print_exception=False) from None
        explanation = made.explanation
        return {
            name: each.tolist() for name, each in explanation.attributions.items()
        }, explanation.target_name

    # A component checks that a file was uploaded; what has no component would take any path. No other event's
    # function may be called explain: gradio takes its name, though private, and numbers this one.
    program = gr.Button(visible=False)
    given = [controls.upload, controls.model, controls.target, controls.methods]
    answers = [gr.JSON(visible=False), gr.Textbox(visible=False)]
    program.click(explain_file, given, answers, api_name="explain", **ONE_AT_A_TIME)
