"""The explorer's column of questions: which image, model, classes, methods and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from distillgrad.methods import METHODS

FAVOURITES = ["dga", "uniform_fullgrad", "gradient_x_input"]


@dataclass(frozen=True)
class Question:
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
    top: Any
    raw: Any
    go: Any

    @property
    def answered(self) -> list[Any]:
        """What decides which arrays are computed."""
        return [
            *(self.model, self.target, self.versus, self.methods),
            *(self.n_steps, self.quantile, self.negative),
        ]

    @property
    def drawn(self) -> list[Any]:
        """What decides only how they are shown."""
        return [self.top, self.raw]


def question_column(gr: Any, offered: tuple[str, ...], prediction: str) -> Question:
    """The components, one below the other.

    Args:
        offered: Models to choose from; others are typed.
        prediction: What stands where the model's answer will.
    """
    upload = gr.File(label="Image; of an animation its first frame", height=160, elem_id="upload")
    upload.async_move_resource_to_block_cache = _only_uploads(gr, upload.async_move_resource_to_block_cache)
    example = gr.Button("Use the photograph of a cat", size="sm", elem_id="example")
    model = gr.Dropdown(
        list(offered), value=offered[0], label="Model", allow_custom_value=True, elem_id="model",
        info="or type torchvision:NAME, timm:NAME",
    )  # fmt: skip
    said = gr.HTML(prediction, elem_id="prediction")
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
    go = gr.Button("Explain", variant="primary", elem_id="explain")
    with gr.Accordion("How maps are shown", open=False, elem_id="drawing"):
        top = gr.Slider(1, 50, 10, step=1, label="Most relevant pixels shown, %", elem_id="top")
        raw = gr.Checkbox(
            False, label="Scale of the raw numbers", elem_id="raw",
            info="instead of shares of each map's own strongest: weak methods fade beside strong ones",
        )  # fmt: skip
    return Question(
        upload, example, model, said, target, versus, methods, n_steps, quantile, negative, top, raw, go
    )


def _only_uploads(gr: Any, move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``move`` of a component, which would download whatever address a program names, of any size."""

    async def moved(path: Any) -> Any:
        if urlsplit(str(path)).scheme in ("http", "https"):
            raise gr.Error("upload the file itself", print_exception=False)
        return await move(path)

    return moved
