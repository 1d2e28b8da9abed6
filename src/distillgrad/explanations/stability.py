"""The stability of methods: each one's maps compared with its own under small changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from distillgrad.core.batch import TargetLike
from distillgrad.errors import DistillgradError
from distillgrad.explanations.explanation import model_for
from distillgrad.methods import create_method, find_method
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.metrics.self_stability import Stability, stability
from distillgrad.sources.classifier import LoadedModel


def stability_of_methods(
    loaded: LoadedModel,
    inputs: Tensor,
    methods: MethodSpecs,
    target: TargetLike = None,
    *,
    fast: nn.Module | None = None,
) -> dict[str, Stability | str]:
    """Return, by label, the method's stability, or the reason why it cannot explain the model.

    Args:
        fast: An equivalent of the model, whose maps are then compared; other precisions are the model's own.
    Cost: 5 explanations by each method.
    """
    stabilities: dict[str, Stability | str] = {}
    for label, (name, parameters) in methods.items():

        def explainer(model: Any, name: str = name, parameters: Mapping[str, Any] = parameters) -> Any:
            chosen = model_for(find_method(name), loaded, fast) if model is loaded.model else model
            return create_method(name, chosen, **parameters).attribute

        try:
            stabilities[label] = stability(loaded.model, explainer, inputs, target)
        except DistillgradError as error:
            stabilities[label] = str(error)
    return stabilities
