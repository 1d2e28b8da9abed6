"""The explorer's column of controls: which image, model, classes, methods and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillgrad.methods import METHODS
from distillgrad.views.explorer.session import Settings, checked_settings

FAVOURITES = ["dga", "uniform_fullgrad", "gradient_x_input"]


@dataclass(frozen=True)
class Controls:
    """The column's components, ``gradio``'s."""

    upload: Any
    example: Any
    model: Any
    prediction: Any
    target: Any
    versus: Any
    methods: Any
    n_steps: Any
    quantile: Any
    negative: Any
    explain: Any
    top: Any
    raw: Any

    @property
    def inputs(self) -> set[Any]:
        """The components that decide which arrays are computed, and how they are drawn."""
        computed = {self.model, self.target, self.versus, self.methods}
        return computed | {self.n_steps, self.quantile, self.negative} | self.drawing_inputs

    @property
    def drawing_inputs(self) -> set[Any]:
        """The components that decide only how maps are drawn."""
        return {self.top, self.raw}

    def settings(self, values: Mapping[Any, Any]) -> Settings:
        """Return the settings that the components' values make, checked."""
        return checked_settings(
            values[self.methods], values[self.n_steps], values[self.quantile], values[self.negative]
        )

    def drawing(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the keywords of the panels that draw maps."""
        return {"fraction": values[self.top] / 100, "raw_numbers": values[self.raw]}


def controls_column(gr: Any, offered: tuple[str, ...], prediction: str) -> Controls:
    """Return the components, laid out one below the other.

    Args:
        offered: Models to choose from; others are typed.
        prediction: HTML in the place of the model's answer, until there is one.
    """
    upload = gr.File(label="Image; of an animation its first frame", height=160, elem_id="upload")
    upload.async_move_resource_to_block_cache = _only_uploads(gr, upload.async_move_resource_to_block_cache)
    example = gr.Button("Use the photograph of a cat", size="sm", elem_id="example")
    model = gr.Dropdown(
        list(offered), value=offered[0], label="Model", allow_custom_value=True, elem_id="model",
        info="or type torchvision:NAME, timm:NAME",
    )  # fmt: skip
    answer = gr.HTML(prediction, elem_id="prediction")
    target = gr.Dropdown(
        [], value=None, label="Class to explain", allow_custom_value=True, elem_id="target",
        info="empty: the predicted one",
    )  # fmt: skip
    versus = gr.Dropdown(
        [], value=None, label="… and not", allow_custom_value=True, elem_id="versus",
        info="optional: a second class, to ask what decides between the two",
    )  # fmt: skip
    methods = gr.Dropdown(
        list(METHODS), value=FAVOURITES, multiselect=True, label="Methods", elem_id="methods"
    )
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        n_steps = gr.Slider(1, 100, 30, step=1, label="N, steps of DGA", elem_id="n-steps")
        quantile = gr.Slider(0.5, 1.0, 0.9, step=0.01, label="q: above it DGA drops extreme features")
        negative = gr.Slider(0.0, 1.0, 0.0, step=0.05, label="β, weight of what speaks against")
    explain = gr.Button("Explain", variant="primary", elem_id="explain")
    with gr.Accordion("How maps are shown", open=False, elem_id="drawing"):
        top = gr.Slider(1, 50, 10, step=1, label="Most relevant pixels shown, %", elem_id="top")
        raw = gr.Checkbox(
            False, label="Scale of the raw numbers", elem_id="raw",
            info="instead of shares of each map's own strongest: weak methods fade beside strong ones",
        )  # fmt: skip
    return Controls(
        upload=upload, example=example, model=model, prediction=answer, target=target, versus=versus,
        methods=methods, n_steps=n_steps, quantile=quantile, negative=negative, explain=explain, top=top,
        raw=raw,
    )  # fmt: skip


def _only_uploads(gr: Any, move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return ``move`` of a component for uploads alone: it would download any address, or read any file."""

    async def moved(path: Any) -> Any:
        if not Path(str(path)).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve()):
            raise gr.Error("upload the file itself", print_exception=False)
        return await move(path)

    return moved
