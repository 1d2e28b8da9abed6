"""The distillation of one photograph, under the weak mask alone and under both (the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor, nn

from distillgrad.core.forward import counted
from distillgrad.errors import InputError
from distillgrad.explanations.explanation import Explanation, seen_by
from distillgrad.methods import create_method
from distillgrad.methods.dga import Distillation, DistilledGradientAggregation, Masks
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.model_inputs import class_probabilities

SEQUENCES: Mapping[str, Masks] = {"WC": "weak", "WC + EPC": "both"}


@dataclass(frozen=True)
class Distilled:
    """The sequences of one photograph, by name, and the class they are of.

    Attributes:
        display: Turns the model's inputs ``(C, H, W)`` into a picture in [0, 1].
    """

    sequences: Mapping[str, Distillation]
    target: int
    target_name: str
    parameters: Mapping[str, Any]
    display: Callable[[Tensor], Tensor]


def distil(
    loaded: LoadedModel,
    image: Image.Image,
    *,
    target: int | None = None,
    n_steps: int = 30,
    epc_quantile: float = 0.9,
    fast: nn.Module | None = None,
    on_pass: Callable[[], None] = lambda: None,
) -> Distilled:
    """Return both sequences for ``target``, by default the prediction.

    Args:
        fast: An equivalent of the model to distil with.
    Cost: 2(N+1) gradient passes.
    """
    inputs = seen_by(loaded, image)
    chosen = int(class_probabilities(loaded, loaded.model, inputs)[0].argmax()) if target is None else target
    model = counted(fast or loaded.model, on_pass)
    sequences = {
        name: DistilledGradientAggregation(model, n_steps, epc_quantile, masks=masks).distill(inputs, chosen)
        for name, masks in SEQUENCES.items()
    }
    return Distilled(
        sequences=sequences,
        target=chosen,
        target_name=loaded.classes[chosen],
        parameters={"n_steps": n_steps, "epc_quantile": epc_quantile},
        display=loaded.displayable,
    )


def distillation(
    loaded: LoadedModel,
    image: Image.Image,
    explanation: Explanation,
    *,
    fast: nn.Module | None = None,
    on_pass: Callable[[], None] | None = None,
) -> Distillation:
    """Return the sequence of the explanation's first DGA map.

    Args:
        fast: An equivalent of the model to distil with.
    Raises:
        InputError: DGA is not among the explanation's methods.
    Cost: N+1 gradient passes.
    """
    parameters = _dga_parameters(explanation)
    if parameters is None:
        raise InputError("the sequence is DGA's: choose dga among the methods and explain again")
    model = fast or loaded.model
    method: Any = create_method("dga", counted(model, on_pass) if on_pass else model, **parameters)
    sequence: Distillation = method.distill(seen_by(loaded, image), explanation.scored_target)
    return sequence


def n_anchors(explanation: Explanation) -> int:
    """Return the number of anchors of the explanation's first DGA map, 0 if there is none."""
    parameters = _dga_parameters(explanation)
    return 0 if parameters is None else create_method("dga", nn.Identity(), **parameters).n_passes


def _dga_parameters(explanation: Explanation) -> Mapping[str, Any] | None:
    return next((parameters for name, parameters in explanation.methods.values() if name == "dga"), None)
