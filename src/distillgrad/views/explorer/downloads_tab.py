"""The explorer's tab of things to take along: code for the same arrays, the arrays, the figure, the report."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distillgrad.runs.files import file_name_of
from distillgrad.views.explorer.errors import problem
from distillgrad.views.explorer.models import Models
from distillgrad.views.explorer.result_tab import ONE_AT_A_TIME, PRIVATE, QUIET, ResultTab, required
from distillgrad.views.explorer.session import Displayed
from distillgrad.views.figures.explanation_figures import explanation_figure, save_figure
from distillgrad.views.html.page import code, fragment
from distillgrad.views.recipe import SAMPLE, commands_for, python_for
from distillgrad.views.report import image_report

NO_CODE = QUIET.format("Explain a picture first.")


def downloads_tab(gr: Any, models: Models, displayed: Any) -> ResultTab:  # as every tab's
    """Return the tab of the code, and of the files, which are made when its button is pressed."""
    with gr.Tab("Take it with you"):
        recipe = gr.HTML(NO_CODE, elem_id="recipe")
        button = gr.Button("Make files: arrays, figure, report", size="sm", elem_id="pack")
        message = gr.HTML(elem_id="pack-message")
        files = gr.File(
            label="Files", file_count="multiple", interactive=False, visible=False, elem_id="downloads"
        )
    no_files = gr.update(value=None, visible=False)

    def make(made: Displayed | None) -> dict[Any, Any]:
        try:
            return {files: gr.update(value=save_files(required(made)), visible=True), message: ""}
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            return {files: no_files, message: problem(error)}

    def filled(made: Displayed) -> Mapping[Any, Any]:
        return {recipe: code_blocks(made), files: no_files, message: ""}

    button.click(make, displayed, {files, message}, **ONE_AT_A_TIME, **PRIVATE)
    return ResultTab(empty={recipe: NO_CODE, files: no_files, message: ""}, filled=filled)


def code_blocks(displayed: Displayed) -> str:
    """Return the Python and the command line."""
    picture = displayed.picture
    given = displayed.explanation, picture.name, displayed.model, displayed.sides, picture.value_range
    return fragment(
        f"<h3>Python</h3>{code(python_for(*given), 'Python', 'live-python')}"
        f"<h3>Command line</h3>{code(commands_for(*given), 'Command line', 'live-command')}"
    )


def save_files(displayed: Displayed) -> list[str]:
    """Write arrays, figure and report into a folder that is removed with the page's others; return their paths."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
    name, explanation = displayed.picture.name, displayed.explanation
    stem = "".join(each if each.isalnum() or each in "-_" else "-" for each in Path(name or SAMPLE).stem)[:60]
    paths = []
    for each in (explanation, *displayed.sides):
        of_class = "" if each is explanation else f".class-{each.target}"
        for label, values in each.attributions.items():
            paths.append(folder / f"{stem}.{file_name_of(label)}{of_class}.npy")
            np.save(paths[-1], values.numpy(), allow_pickle=False)
    paths.append(folder / f"{stem}.png")
    save_figure(explanation_figure(explanation), paths[-1])
    paths.append(folder / f"{stem}.html")
    page = image_report(explanation, name, displayed.model, sides=displayed.sides)
    paths[-1].write_text(page, "utf-8")
    return [str(each) for each in paths]
