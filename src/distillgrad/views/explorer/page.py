"""The explorer: a page on which a picture is dropped, explained, and its explanation doubted."""

from __future__ import annotations

from typing import Any

from distillgrad.core.optional import optional
from distillgrad.sources.value_range import ValueRange
from distillgrad.views.explorer.image_tab import image_tab
from distillgrad.views.explorer.models import Models
from distillgrad.views.explorer.run_tab import run_tab
from distillgrad.views.html.page import fragment
from distillgrad.views.opened_runs.run_images import RunView


def page_of(models: Models, run: RunView | None = None, value_range: ValueRange | None = None) -> Any:
    """Return the page as a ``gradio.Blocks``, not launched yet.

    Args:
        value_range: The values of uploaded files that are shown black and white.
    """
    gr = optional("gradio", "explorer")
    with gr.Blocks(title="distillgrad explorer", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(
            fragment(
                '<h1>What did the model look at?</h1><p class="quiet">Drop a picture; Distilled Gradient '
                "Aggregation and other methods show what speaks for the predicted class.</p>"
            )
        )
        with gr.Tabs():
            if run is not None:
                run_tab(gr, run)
            image_tab(gr, models, value_range)
    page.queue(default_concurrency_limit=1, max_size=64)
    return page
