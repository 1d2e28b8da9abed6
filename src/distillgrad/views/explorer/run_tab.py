"""The explorer's tab for a run: its results, its images in an instructive order, each of them large."""

from __future__ import annotations

from typing import Any

from distillgrad.errors import InputError
from distillgrad.views.explorer.errors import problem
from distillgrad.views.explorer.result_tab import ONE_AT_A_TIME, PRIVATE, QUIET
from distillgrad.views.html.page import fragment, text
from distillgrad.views.opened_runs.run_cards import compared_words, sample_card, sample_panel
from distillgrad.views.opened_runs.run_images import COMPARED, ORDERS, RunView, disagreements, in_order

PER_PAGE = 6
SELECT_SAMPLE = """
element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-sample]");
    if (button) trigger("select", { index: Number(button.dataset.sample) });
});
"""
SCROLL_TO_LARGE = "() => document.querySelector('#large').scrollIntoView({ block: 'nearest' })"


def run_tab(gr: Any, view: RunView) -> None:
    """Add the tab for a run. It was named on the command line: a visitor cannot choose another."""
    n_pages = -(-len(view.samples) // PER_PAGE)
    by_position = {each.position: each for each in view.samples}
    known: dict[int, float] = {}  # shared by all visitors: it is the run's
    note = f'<p class="note">{text(view.explainable.reason)}</p>' if view.explainable.reason else ""
    with gr.Tab(f"Run: {view.name}"):
        gr.HTML(
            fragment(
                f'<h2>{text(view.question)}</h2><p class="quiet">{text(view.count)}</p>{view.above}'
                f"<h2>Images</h2>{note}"
            ),
            elem_id="leaderboard",
        )
        with gr.Row():
            order = gr.Dropdown(
                [(f"{ORDERS[name]}{compared_words(view) * (name == 'disagreement')}", name) for name in view.orders],
                value=view.orders[0], label="Order", elem_id="order",
            )  # fmt: skip
            number = gr.Number(
                1, precision=0, minimum=1, maximum=n_pages, label=f"Page, of {n_pages}", elem_id="page"
            )
            show = gr.Button("Show images", elem_id="show-images")
        large = gr.HTML(elem_id="large")
        gallery = gr.HTML(
            QUIET.format("Press the button; then a click on an image shows it large."),
            elem_id="gallery", js_on_load=SELECT_SAMPLE,
        )  # fmt: skip
        gr.HTML(fragment(view.below), elem_id="made")

    def images(order: str, number: float, progress: Any = gr.Progress()) -> str:  # noqa: B008
        try:
            if order not in view.orders:
                raise InputError(f"no such order: {order!r}")
            if order == "disagreement":
                n_compared, done = min(COMPARED, len(view.samples)), [0]

                def compared() -> None:
                    done[0] += 1
                    progress((done[0], n_compared), desc="comparing maps", unit="images")

                known.update(disagreements(view, known, compared))
            start = PER_PAGE * (min(max(int(number or 1), 1), n_pages) - 1)
            chosen = in_order(view, order, known)[start : start + PER_PAGE]
            cards = ""
            for place, sample in enumerate(chosen):
                progress((place, len(chosen)), desc="drawing maps", unit="images")
                cards += sample_card(view, sample)
            page = fragment(f'<div class="gallery">{cards}</div>')
        except Exception as error:  # noqa: BLE001  # the visitor is told, the page goes on
            return problem(error)
        return page

    def enlarge(event: Any) -> str:
        try:
            sample = by_position.get(getattr(event, "index", -1))
            if sample is None:
                raise InputError("no such image in the run")
            return fragment(f"<h2>{text(sample.id)}</h2>{sample_panel(view, sample, 'large')}")
        except Exception as error:  # noqa: BLE001  # as above
            return problem(error)

    enlarge.__annotations__["event"] = gr.EventData  # so gradio knows what to pass
    gr.on(
        [show.click, order.change, number.submit],
        images,
        [order, number],
        gallery,
        **ONE_AT_A_TIME,
        **PRIVATE,
    )
    gallery.select(enlarge, None, large, **ONE_AT_A_TIME, **PRIVATE).then(None, js=SCROLL_TO_LARGE)
