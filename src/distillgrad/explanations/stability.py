"""How stable the maps of methods are: each method held against itself on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from distillgrad.core.batch import TargetLike
from distillgrad.errors import DistillgradError
from distillgrad.methods import create_method
from distillgrad.metrics.self_stability import Stability, stability
from distillgrad.sources.classifier import LoadedModel


def stability_of_methods(
    loaded: LoadedModel,
    inputs: Tensor,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    target: TargetLike = None,
) -> dict[str, Stability | str]:
    """By label, the method's agreement with itself, or why it cannot explain the model.

    Cost: 5 explanations by each method.
    """
    found: dict[str, Stability | str] = {}
    for label, (name, parameters) in methods.items():

        def explainer(model: Any, name: str = name, parameters: Mapping[str, Any] = parameters) -> Any:
            return create_method(name, model, **parameters).attribute

        try:
            found[label] = stability(loaded.model, explainer, inputs, target)
        except DistillgradError as error:
            found[label] = str(error)
    return found
