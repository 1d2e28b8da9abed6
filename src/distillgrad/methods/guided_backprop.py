"""Guided back-propagation."""

from __future__ import annotations

from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.intercept import guided_relu
from distillgrad.core.wrappers import unwrapped
from distillgrad.methods.base import GradientMethod


class GuidedBackprop(GradientMethod):
    """The gradient with every ReLU passing back positive parts only: what excites the score, by edges.

    Right for ReLUs however they are written, also functional and in place, which hooks on modules do not see.

    Raises:
        ModelError: the model has no ReLU, or is compiled where it cannot be seen.
    Cost: one forward and one backward pass.
    Source: Springenberg et al. 2015, "Striving for simplicity"; the baseline is not used.
    """

    signed = True
    source = "Springenberg et al. 2015"

    @property
    def _zero_means(self) -> str:
        return "nothing is left of the gradient where every ReLU passes back positive parts only"

    def _attribute(self, batch: Batch) -> Tensor:
        model = unwrapped(self.forward_func)
        with guided_relu():
            _, gradient, _ = value_and_gradient(model, batch.inputs, batch.target, batch.extra)
        return gradient
