"""The faithfulness of one photograph's maps: the probability of the class while pixels are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor, nn

from distillgrad.explanations.explanation import Explanation, seen_by
from distillgrad.metrics import MorfAndLerf, morf_and_lerf
from distillgrad.sources.classifier import LoadedModel


def faithfulness(
    loaded: LoadedModel,
    image: Image.Image,
    explanation: Explanation,
    *,
    n_steps: int = 20,
    fast: nn.Module | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> dict[str, MorfAndLerf]:
    """Return MoRF and LeRF of each map, by label; of two classes, for the probability of the first.

    Args:
        fast: An equivalent of the model to predict with.
        on_rows: Called with the number of rows of each pass through the model.
    Cost: 2 + 2(n_steps − 1) predictions by each map.
    """
    model = fast or loaded.model

    def counting(inputs: Tensor, *extra: Any) -> Any:
        if on_rows is not None:
            on_rows(len(inputs))
        return model(inputs, *extra)

    attributions = {label: each[None] for label, each in explanation.attributions.items()}
    return morf_and_lerf(
        counting if on_rows else model,
        seen_by(loaded, image),
        explanation.target,
        attributions,
        n_steps=n_steps,
    )
