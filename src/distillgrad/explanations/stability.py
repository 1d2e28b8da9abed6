"""The stability of methods: each one's maps compared with its own under small changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from distillgrad.core.batch import TargetLike
from distillgrad.errors import DistillgradError
from distillgrad.methods import create_method
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.metrics.stability import Stability, stability
from distillgrad.sources.classifier import LoadedModel


def stability_of_methods(
    loaded: LoadedModel,
    inputs: Tensor,
    methods: MethodSpecs,
    target: TargetLike = None,
) -> dict[str, Stability | str]:
    """Return, by label, the method's stability, or the reason why it cannot explain the model.

    Cost: 5 explanations by each method.
    """
    stabilities: dict[str, Stability | str] = {}
    for label, (name, parameters) in methods.items():

        def explainer(model: Any, name: str = name, parameters: Mapping[str, Any] = parameters) -> Any:
            return create_method(name, model, **parameters).attribute

        try:
            stabilities[label] = stability(loaded.model, explainer, inputs, target)
        except DistillgradError as error:
            stabilities[label] = str(error)
    return stabilities
