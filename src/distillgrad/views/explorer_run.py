"""The explorer's view of a run: its leaderboard, and its images in an instructive order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distillgrad.errors import InputError
from distillgrad.views.explorer_errors import problem
from distillgrad.views.explorer_work import Models
from distillgrad.views.leaderboard import leaderboard_of
from distillgrad.views.page import text
from distillgrad.views.report import along_charts, leaderboard_table, sample_card
from distillgrad.views.run_images import ORDERS, explainable, open_evaluation, samples_of

PER_PAGE = 6


def run_tab(gr: Any, run: Path, models: Models) -> None:
    """A tab for the run in a folder. It was named on the command line: a visitor cannot choose another.

    Raises:
        SourceError, InputError: no run is there, or one that cannot be read.
    """
    evaluation = open_evaluation(run)
    # The command line's models may run code, a run's own only if they are named there, too.
    spec = str(evaluation.manifest["model"])
    found = explainable(evaluation, spec if spec in models.offered else None)
    board = leaderboard_of(evaluation)
    n_pages = -(-len(evaluation.ids) // PER_PAGE)
    note = f'<p class="note">{text(found.reason)}</p>' if found.reason else ""
    with gr.Tab(f"Run: {run.resolve().name}"):
        gr.HTML(
            f'<div class="dg"><h2>Which explanation of {text(spec)} can be trusted?</h2>'
            f'<p class="quiet">{len(evaluation.ids)} images</p>{leaderboard_table(board)}{along_charts(board)}'
            f"<h2>Images</h2>{note}</div>",
            elem_id="leaderboard",
        )
        with gr.Row():
            order = gr.Dropdown(
                [(words, name) for name, words in ORDERS.items()],
                value="disagreement",
                label="Order",
                elem_id="order",
            )
            number = gr.Number(
                1, precision=0, minimum=1, maximum=n_pages, label=f"Page, of {n_pages}", elem_id="page"
            )
            show = gr.Button("Show images", elem_id="show-images")
        gallery = gr.HTML(
            '<div class="dg"><p class="quiet">Maps are computed when they are asked for.</p></div>',
            elem_id="gallery",
        )

    def images(order: str, number: float, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            if order not in ORDERS:
                raise InputError(f"no such order: {order!r}")
            start = PER_PAGE * (min(max(int(number or 1), 1), n_pages) - 1)
            chosen = samples_of(evaluation, order)[start : start + PER_PAGE]
            cards = ""
            for place, sample in enumerate(chosen):
                progress((place, len(chosen)), desc="explaining", unit="images")
                cards += sample_card(evaluation, found, sample)
            page = f'<div class="dg"><div class="gallery">{cards}</div></div>'
        except Exception as error:  # noqa: BLE001  # the visitor is told, the page goes on
            return problem(error)
        return page

    gr.on(
        [show.click, order.change], images, [order, number], gallery,
        concurrency_id="model", concurrency_limit=1, api_visibility="private",
    )  # fmt: skip
