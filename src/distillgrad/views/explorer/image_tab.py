"""The explorer's tab for one image: what is asked, and the maps that answer it."""

from __future__ import annotations

from typing import Any

from distillgrad.views.explorer.controls import Question, question_column
from distillgrad.views.explorer.downloads import recipe_of
from distillgrad.views.explorer.errors import logged, problem, said
from distillgrad.views.explorer.result_tabs import (
    AGAIN,
    NO_CURVES,
    NO_FRAMES,
    NO_RECIPE,
    ONE_AT_A_TIME,
    PRIVATE,
    QUIET,
    Counter,
    curves_tab,
    sequence_tab,
    take_away_tab,
)
from distillgrad.views.explorer.session import (
    Displayed,
    Models,
    Picture,
    asked,
    class_choices,
    explained,
    picture_of,
)
from distillgrad.views.html.comparison_cards import comparison_panel
from distillgrad.views.html.map_cards import map_panel, prediction_list
from distillgrad.views.html.page import fragment, text
from distillgrad.views.recipe import SAMPLE

NO_PICTURE = QUIET.format("No picture yet.")
NO_MAPS = QUIET.format("Drop a picture, or use the photograph of a cat.")


def image_tab(gr: Any, models: Models) -> None:
    """The tab's parts, and what happens when they are used. What a visitor sees is kept in their session."""
    shown, picture = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            question = question_column(gr, models.offered, NO_PICTURE)
        with gr.Column(scale=3, min_width=320), gr.Tabs():
            with gr.Tab("Maps"):
                maps = gr.HTML(NO_MAPS, elem_id="maps")
            frames, curves = sequence_tab(gr, models, shown), curves_tab(gr, models, shown)
            recipe, downloads, message = take_away_tab(gr, shown)

    def take(path: str | None, sample: bool = False) -> tuple[Any, ...]:
        """The picture, or the words in its place; classes chosen for the one before are forgotten.

        The place for files is empty again, ready for the next one.
        """
        try:
            found = picture_of(None if sample else path)
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            words = problem(error)
            return words, words, None, None, None
        return found, gr.skip(), None, None, None

    def nothing(words: str) -> tuple[Any, ...]:
        """Words in place of results; nobody is to take an earlier picture's for this one's."""
        classes, no_files = (gr.skip(), gr.skip()), gr.update(value=None, visible=False)
        return None, "", words, NO_FRAMES, NO_CURVES, NO_RECIPE, *classes, no_files, ""

    def explain_picture(
        found: Picture | str | None, model: str, target: str | None, versus: str | None, methods: list[str],
        n_steps: float, quantile: float, negative: float, top: float, raw: bool, before: Displayed | None,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        if not isinstance(found, Picture):
            return nothing(found or NO_PICTURE)
        try:
            request = asked(methods, n_steps, quantile, negative)
            passes = Counter(progress, request.n_passes * (3 if versus else 1), "explaining")
            made = explained(models, found, model, target, versus, request, passes, before)
            choices = gr.update(choices=class_choices(models.load(model), made.explanation))
            return (
                made,
                _said(made),
                maps_of(made, top, raw),
                AGAIN,
                AGAIN,
                recipe_of(made),
                choices,
                choices,
                gr.update(value=None, visible=False),
                "",
            )
        except Exception as error:  # noqa: BLE001  # as above
            return nothing(problem(error))

    def redraw(made: Displayed | None, top: float, raw: bool) -> Any:
        """The same maps, drawn otherwise: asks nothing of the model."""
        try:
            return gr.skip() if made is None else maps_of(made, top, raw)
        except Exception as error:  # noqa: BLE001  # as above
            return problem(error)

    classes = [question.target, question.versus]
    shows = {
        "fn": explain_picture,
        "inputs": [picture, *question.answered, *question.drawn, shown],
        "outputs": [
            shown, question.prediction, maps, frames, curves, recipe, *classes, downloads, message,
        ],
        **ONE_AT_A_TIME,
        **PRIVATE,
        "show_progress_on": [maps],
    }  # fmt: skip
    taken = [picture, maps, *classes, question.upload]
    question.upload.upload(take, question.upload, taken, **PRIVATE).then(**shows)
    question.example.click(lambda: take(None, sample=True), None, taken, **PRIVATE).then(**shows)
    question.model.change(lambda: (None, None), None, classes, **PRIVATE).then(**shows)
    question.go.click(**shows)
    gr.on(
        [each.change for each in question.drawn], redraw, [shown, *question.drawn], maps,
        trigger_mode="always_last", show_progress="hidden", **PRIVATE,
    )  # fmt: skip
    _for_programs(gr, models, question)


def _said(made: Displayed) -> str:
    name = text(made.picture.name or SAMPLE)
    return fragment(
        f'<h2>What the model says</h2><p class="quiet">of {name}</p>{prediction_list(made.explanation)}'
    )


def maps_of(made: Displayed, top: float, raw: bool) -> str:
    """The maps that are shown, of one class or of two."""
    drawn: dict[str, Any] = {"fraction": top / 100, "raw_numbers": raw}
    panel = (
        comparison_panel(made.explanation, made.sides, "live", **drawn)
        if made.sides
        else map_panel(made.explanation, "live", **drawn)
    )
    return fragment(f"<h2>{text(made.explanation.question)}</h2>{panel}")


def _for_programs(gr: Any, models: Models, question: Question) -> None:
    """The one request that programs may make."""

    def explain_file(path: str | None, model: str, target: str | None, methods: list[str]) -> tuple[Any, str]:
        """For programs: the attributions by method as nested lists, and the class."""
        try:
            request = asked(methods, 30, 0.9, 0.0)
            made = explained(models, picture_of(path), model, target, None, request, lambda: None)
        except Exception as error:  # noqa: BLE001  # whatever it is, the program is told
            logged(error)
            raise gr.Error(said(error), print_exception=False) from None
        found = made.explanation
        return {name: each.tolist() for name, each in found.attributions.items()}, found.target_name

    # A component checks that a file was uploaded; what has no component would take any path.
    program = gr.Button(visible=False)
    given = [question.upload, question.model, question.target, question.methods]
    answers = [gr.JSON(visible=False), gr.Textbox(visible=False)]
    program.click(explain_file, given, answers, api_name="explain", **ONE_AT_A_TIME)
