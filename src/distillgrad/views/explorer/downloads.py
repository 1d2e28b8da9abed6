"""What a visitor takes along: the code that makes the same arrays, the arrays, the figure, the report."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from distillgrad.views.explorer.session import Displayed
from distillgrad.views.figures.explanation_figures import explanation_figure, save_figure
from distillgrad.views.html.page import code, fragment
from distillgrad.views.recipe import SAMPLE, commands_for, python_for
from distillgrad.views.report import image_report


def recipe_of(made: Displayed) -> str:
    """The Python and the command line."""
    given = made.explanation, made.picture.name, made.model, made.sides
    return fragment(
        f"<h3>Python</h3>{code(python_for(*given), 'Python', 'live-python')}"
        f"<h3>Command line</h3>{code(commands_for(*given), 'Command line', 'live-command')}"
    )


def files_of(made: Displayed) -> list[str]:
    """Arrays, figure and report of what is shown, in a folder that is removed with the page's others."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
    stem = "".join(
        each if each.isalnum() or each in "-_" else "-" for each in Path(made.picture.name or SAMPLE).stem
    )[:60]
    paths = []
    for each in (made.explanation, *made.sides):
        of_class = "" if each is made.explanation else f".class-{each.target}"
        for method, values in each.attributions.items():
            paths.append(folder / f"{stem}.{method}{of_class}.npy")
            np.save(paths[-1], values.numpy(), allow_pickle=False)
    paths.append(folder / f"{stem}.png")
    save_figure(explanation_figure(made.explanation), paths[-1])
    paths.append(folder / f"{stem}.html")
    page = image_report(made.explanation, made.picture.name, made.model, sides=made.sides)
    paths[-1].write_text(page, "utf-8")
    return [str(each) for each in paths]
