"""Variants of DGA that the paper compares or leaves open, as methods beside the library's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model
from distillgrad.methods import create_method, find_method
from distillgrad.methods.base import Method, whole_number
from distillgrad.methods.dga import DistilledGradientAggregation, aggregated

PASSES = {"integrated_gradients": "n_steps", "smoothgrad": "n_samples"}
"""Local attributions by name, and the parameter that counts their gradients."""


class FromFirstAnchor(DistilledGradientAggregation):
    """DGA as eq. 12 counts: the mean over ``n = 1 … N``, without the input's own attribution.

    Source: Jeon et al. 2022, eq. 12, which differs here from Algorithm 1.
    """

    def _attribute(self, batch: Batch) -> Tensor:
        anchors = self._sequence(batch)
        next(anchors)  # x̃(0) only leads to the others
        return aggregated(anchors, self.negative_scale)


class WithLocal(DistilledGradientAggregation):
    """DGA with another method of several gradients as its local attribution.

    Args:
        local: ``"integrated_gradients"`` or ``"smoothgrad"``.
        n_local: Their gradients at each anchor.
    """

    def __init__(self, model: Model, local: str, n_local: int = 4, n_steps: int = 30) -> None:
        self.n_local = whole_number("n_local", n_local)
        settings = {PASSES[local]: n_local}

        def attribution(explained: Model, inputs: Tensor, target: Any) -> Tensor:
            attributions: Tensor = create_method(local, explained, **settings).attribute(inputs, target)
            return attributions

        super().__init__(model, n_steps, local_attribution=attribution)

    @property
    def n_passes(self) -> int:
        """The passes for one image: ``n_local`` for each anchor."""
        return (self.n_steps + 1) * self.n_local


VARIANTS: Mapping[str, type[Method]] = {
    "dga_from_first_anchor": FromFirstAnchor,
    "dga_with_local": WithLocal,
}
"""The methods that exhibits know beside the library's, by name."""


def class_of(name: str) -> type[Method]:
    """Return the class of a variant or of one of the library's methods."""
    return VARIANTS[name] if name in VARIANTS else find_method(name)
