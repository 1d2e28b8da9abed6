"""The explorer: a page on which a picture is dropped, explained, and its explanation doubted."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from distillgrad.core.optional import optional
from distillgrad.errors import DistillgradError, InputError, SourceError
from distillgrad.methods import METHODS
from distillgrad.views.explorer_run import run_tab
from distillgrad.views.explorer_work import (
    MAX_BYTES,
    Models,
    Picture,
    Shown,
    asked,
    class_choices,
    explained,
    faithfulness,
    picture_of,
    said,
    sequence,
)
from distillgrad.views.map_cards import curves_panel, map_panel, prediction_list, sequence_panel
from distillgrad.views.page import code, script, stylesheet, text
from distillgrad.views.plots import explanation_figure, save_figure
from distillgrad.views.report import image_report
from distillgrad.views.reproduction import SAMPLE, command_for, python_for

_log = logging.getLogger(__name__)

FAVOURITES = ["dga", "uniform_fullgrad", "gradient_x_input"]
CURVE_STEPS = 20
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
PAGE_CSS = """
.gradio-container { max-width: 1360px !important; margin: 0 auto; }
.gradio-container .prose, .gradio-container .dg { font-size: 15px; }
footer { display: none !important; }
button[role="tab"][aria-selected="true"] { color: var(--dg-accent) !important; }
"""
EMPTY = '<div class="dg"><p class="quiet">{}</p></div>'
NO_PICTURE = EMPTY.format("No picture yet.")
NO_FRAMES = EMPTY.format("The anchors, their attributions and the score along them.")
NO_CURVES = EMPTY.format("MoRF and LeRF of the maps that are shown.")
NO_RECIPE = EMPTY.format("Explain a picture first.")


def _dg(html: str) -> str:
    return f'<div class="dg">{html}</div>'


def _logged(error: Exception) -> None:
    """A visitor's mistake is a note in the log, what went wrong here an error."""
    level = logging.INFO if isinstance(error, DistillgradError) else logging.ERROR
    _log.log(level, "a request failed", exc_info=error)


def _problem(error: Exception) -> str:
    _logged(error)
    return _dg(
        f'<div class="note" role="alert"><strong>That did not work.</strong> {text(said(error))}</div>'
    )


def page_of(models: Models, run: Path | None = None) -> Any:
    """The page as a ``gradio.Blocks``, not launched yet."""
    gr = optional("gradio", "explorer")
    with gr.Blocks(title="distillgrad explorer", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(
            _dg(
                '<h1>What did the model look at?</h1><p class="quiet">Drop a picture; Distilled Gradient '
                "Aggregation and other methods show what speaks for the predicted class.</p>"
            )
        )
        with gr.Tabs():
            if run is not None:
                run_tab(gr, run, models, _problem)
            with gr.Tab("Explain an image"):
                _image_tab(gr, models)
    page.queue(default_concurrency_limit=1, max_size=64)
    return page


def _image_tab(gr: Any, models: Models) -> None:  # noqa: PLR0915  # a page is a list of its parts
    shown, picture = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            upload = gr.File(
                label="Image (drop a file; of an animation the first frame is taken)",
                height=130,
                elem_id="upload",
            )
            upload.async_move_resource_to_block_cache = _only_uploads(
                gr, upload.async_move_resource_to_block_cache
            )
            example = gr.Button("Use the photograph of a cat", size="sm", elem_id="example")
            model = gr.Dropdown(
                list(models.offered), value=models.offered[0], label="Model", allow_custom_value=True,
                info="or type torchvision:NAME, timm:NAME", elem_id="model",
            )  # fmt: skip
            prediction = gr.HTML(NO_PICTURE, elem_id="prediction")
            target = gr.Dropdown(
                [],
                value=None,
                label="Class to explain",
                info="empty: the predicted one",
                allow_custom_value=True,
                elem_id="target",
            )
            versus = gr.Dropdown(
                [],
                value=None,
                label="… and not",
                info="optional: a second class, to ask what decides between the two",
                allow_custom_value=True,
                elem_id="versus",
            )
            methods = gr.Dropdown(
                list(METHODS), value=FAVOURITES, multiselect=True, label="Methods", elem_id="methods"
            )
            with gr.Accordion("Settings", open=False):
                n_steps = gr.Slider(1, 100, 30, step=1, label="N, steps of DGA")
                quantile = gr.Slider(0.5, 1.0, 0.9, step=0.01, label="q: above it DGA drops extreme features")
                negative = gr.Slider(0.0, 1.0, 0.0, step=0.05, label="β, weight of what speaks against")
                top = gr.Slider(1, 50, 10, step=1, label="Most relevant pixels shown, %")
                scale = gr.Checkbox(False, label="One colour scale for all methods", elem_id="one-scale")
            go = gr.Button("Explain", variant="primary", elem_id="explain")
        with gr.Column(scale=3, min_width=320), gr.Tabs():
            with gr.Tab("Maps"):
                maps = gr.HTML(
                    EMPTY.format("Drop a picture, or use the photograph of a cat."), elem_id="maps"
                )
            with gr.Tab("How DGA got there"):
                distil = gr.Button("Show the distillation sequence", size="sm", elem_id="distil")
                frames = gr.HTML(NO_FRAMES, elem_id="sequence")
            with gr.Tab("Whether to believe it"):
                measure = gr.Button("Remove pixels and watch the probability", size="sm", elem_id="measure")
                curves = gr.HTML(NO_CURVES, elem_id="curves")
            with gr.Tab("Take it with you"):
                recipe = gr.HTML(NO_RECIPE, elem_id="recipe")
                pack = gr.Button("Make files: arrays, figure, report", size="sm", elem_id="pack")
                message = gr.HTML(elem_id="pack-message")
                downloads = gr.File(
                    label="Files",
                    file_count="multiple",
                    interactive=False,
                    visible=False,
                    elem_id="downloads",
                )

    settings = [model, target, versus, methods, n_steps, quantile, negative, top, scale]
    no_files = gr.update(value=None, visible=False)
    results = [shown, prediction, maps, frames, curves, recipe, target, versus, downloads, message]

    def take(path: str | None, sample: bool = False) -> tuple[Any, ...]:
        """The picture, or the words in its place; classes chosen for the one before are forgotten."""
        if path is None and not sample:
            return NO_PICTURE, NO_PICTURE, None, None
        try:
            found = picture_of(None if sample else path)
        except Exception as error:  # noqa: BLE001  # whatever it is, the visitor is told and the page goes on
            problem = _problem(error)
            return problem, problem, None, None
        return found, gr.skip(), None, None

    def nothing(words: str) -> tuple[Any, ...]:
        """Words in place of results; nobody is to take an earlier picture's for this one's."""
        return None, "", words, NO_FRAMES, NO_CURVES, NO_RECIPE, gr.skip(), gr.skip(), no_files, ""

    def explain_picture(
        found: Picture | str | None, model: str, target: str | None, versus: str | None, methods: list[str],
        n_steps: float, quantile: float, negative: float, top: float, scale: bool, progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        if not isinstance(found, Picture):
            return nothing(found or NO_PICTURE)
        try:
            request = asked(methods, n_steps, quantile, negative)
            passes = _Counter(progress, request.n_passes, "explaining")
            made = explained(models, found, model, target, versus, request, passes)
            choices = class_choices(models.load(model), made.explanation)
            again = EMPTY.format("Press the button above for the maps that are shown now.")
            return (
                made,
                _dg(f"<h2>What the model says</h2>{prediction_list(made.explanation)}"),
                _dg(
                    f"<h2>{text(made.explanation.question)}</h2>"
                    f"{map_panel(made.explanation, 'live', fraction=top / 100, one_scale=scale)}"
                ),
                again,
                again,
                _recipe(made),
                gr.update(choices=choices),
                gr.update(choices=choices),
                no_files,
                "",
            )
        except Exception as error:  # noqa: BLE001  # as above
            return nothing(_problem(error))

    def new_model() -> tuple[Any, Any]:
        return None, None

    def show_sequence(made: Shown | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = _expect(made)
            loaded = models.load(made.model)
            total = 1 + made.explanation.parameters.get("dga", {}).get("n_steps", 0)
            steps = sequence(loaded, made, _Counter(progress, total, "distilling"))
            return _dg(sequence_panel(steps, loaded.displayable, made.explanation.score))
        except Exception as error:  # noqa: BLE001
            return _problem(error)

    def show_curves(made: Shown | None, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            made = _expect(made)
            rows = 2 + 2 * (CURVE_STEPS - 1) * len(made.explanation.attributions)
            counter = _Counter(progress, rows, "removing pixels")
            found = faithfulness(models.load(made.model), made, CURVE_STEPS, counter)
            return _dg(curves_panel(found))
        except Exception as error:  # noqa: BLE001
            return _problem(error)

    def make_files(made: Shown | None) -> tuple[Any, str]:
        try:
            return gr.update(value=_files(_expect(made), models), visible=True), ""
        except Exception as error:  # noqa: BLE001
            return no_files, _problem(error)

    def explain_file(path: str | None, model: str, target: str | None, methods: list[str]) -> tuple[Any, str]:
        """For programs: the attributions by method as nested lists, and the class."""
        try:
            request = asked(methods, 30, 0.9, 0.0)
            made = explained(models, picture_of(path), model, target, None, request, lambda: None)
        except Exception as error:  # noqa: BLE001
            _logged(error)
            raise gr.Error(said(error), print_exception=False) from None
        found = made.explanation
        return {name: each.tolist() for name, each in found.attributions.items()}, found.target_name

    heavy: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
    shows = {
        "fn": explain_picture,
        "inputs": [picture, *settings],
        "outputs": results,
        **heavy,
        **PRIVATE,
        "show_progress_on": [maps],
    }
    taken = [picture, maps, target, versus]
    upload.change(take, upload, taken, **PRIVATE).then(**shows)
    example.click(lambda: take(None, sample=True), None, taken, **PRIVATE).then(**shows)
    model.change(new_model, None, [target, versus], **PRIVATE).then(**shows)
    go.click(**shows)
    distil.click(show_sequence, shown, frames, **heavy, **PRIVATE)
    measure.click(show_curves, shown, curves, **heavy, **PRIVATE)
    pack.click(make_files, shown, [downloads, message], **heavy, **PRIVATE)
    # A component checks that a file was uploaded; what has no component would take any path.
    program = gr.Button(visible=False)
    answers = [gr.JSON(visible=False), gr.Textbox(visible=False)]
    program.click(explain_file, [upload, model, target, methods], answers, api_name="explain", **heavy)


def _only_uploads(gr: Any, move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``move`` of a component, which would download whatever address a program names, of any size."""

    async def moved(path: Any) -> Any:
        if urlsplit(str(path)).scheme in ("http", "https"):
            raise gr.Error("upload the file itself", print_exception=False)
        return await move(path)

    return moved


class _Counter:
    """Shows passes as progress."""

    def __init__(self, progress: Any, total: int, words: str) -> None:
        self._progress, self._total, self._words, self._done = progress, max(total, 1), words, 0

    def __call__(self, amount: int = 1) -> None:
        self._done += amount
        self._progress((min(self._done, self._total), self._total), desc=self._words, unit="passes")


def _expect(made: Shown | None) -> Shown:
    if made is None:
        raise InputError("there is no explanation yet: drop a picture first")
    return made


def _recipe(made: Shown) -> str:
    given = made.explanation, made.picture.name, made.model
    return _dg(
        f"<h3>Python</h3>{code(python_for(*given), 'Python', 'live-python')}"
        f"<h3>Command line</h3>{code(command_for(*given), 'Command line', 'live-command')}"
    )


def _files(made: Shown, models: Models) -> list[str]:
    """Arrays, figure and report of what is shown, in a folder that is removed with the page's others."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
    stem = "".join(
        each if each.isalnum() or each in "-_" else "-" for each in Path(made.picture.name or SAMPLE).stem
    )[:60]
    paths = []
    for method, values in made.explanation.attributions.items():
        paths.append(folder / f"{stem}.{method}.npy")
        np.save(paths[-1], values.numpy(), allow_pickle=False)
    paths.append(folder / f"{stem}.png")
    save_figure(explanation_figure(made.explanation), paths[-1])
    paths.append(folder / f"{stem}.html")
    paths[-1].write_text(image_report(made.explanation, made.picture.name, made.model), "utf-8")
    return [str(each) for each in paths]


@contextlib.contextmanager
def launched(run: Path | None, offered: tuple[str, ...], host: str, port: int) -> Iterator[tuple[str, Any]]:
    """A running server: its address and the page. Its uploads live in a private folder and go with it.

    Raises:
        MissingExtraError: gradio is not installed.
        SourceError: the address cannot be had, or ``run`` is no run.
    """
    with contextlib.ExitStack() as undone:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
            undone.callback(_set_environment, name, os.environ.get(name))
        folder = tempfile.mkdtemp(prefix="distillgrad-explorer-")
        undone.callback(shutil.rmtree, folder, ignore_errors=True)
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        gr = optional("gradio", "explorer")
        models = Models(offered)
        models.load(models.offered[0])
        page = page_of(models, run)
        undone.callback(page.close)
        try:
            page.launch(
                server_name=host, server_port=port or None, prevent_thread_lock=True, quiet=True,
                inbrowser=False, share=False, show_error=True, max_file_size=MAX_BYTES, footer_links=[],
                run_history=False, enable_monitoring=False, ssr_mode=False, mcp_server=False,
                state_session_capacity=50, theme=_theme(gr), css=stylesheet() + PAGE_CSS,
                head=f"<script>{script()}</script>",
            )  # fmt: skip
        except OSError as error:
            raise SourceError(f"cannot serve at {host}:{port}: {error}; give another --port") from error
        yield page.local_url, page


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _theme(gr: Any) -> Any:
    fonts = ["system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
    return gr.themes.Default(
        primary_hue="orange", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    ).set(
        button_primary_background_fill="#b43a09", button_primary_background_fill_dark="#b43a09",
        button_primary_background_fill_hover="#9a3412", button_primary_text_color="white",
        block_label_text_color="#3f4654", block_info_text_color="#5b6270",
        block_info_text_color_dark="#a9b0be", body_text_color_subdued="#5b6270",
        body_text_color_subdued_dark="#a9b0be", input_placeholder_color="#5b6270",
    )  # fmt: skip


def serve(
    run: Path | None,
    offered: tuple[str, ...],
    host: str,
    port: int,
    *,
    browser: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serves until it is interrupted or asked to end; either way nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with launched(run, offered, host, port) as (url, page):
            on_ready(url)
            if browser:
                import webbrowser

                webbrowser.open(url)
            page.block_thread()
    finally:
        signal.signal(signal.SIGTERM, before)
