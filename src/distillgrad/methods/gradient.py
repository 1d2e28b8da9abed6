"""One gradient: Saliency and Gradient*Input."""

from __future__ import annotations

from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import value_and_gradient
from distillgrad.methods.base import GradientMethod


class Saliency(GradientMethod):
    """The gradient's magnitude, ``|∇f(x)|``: where the score is sensitive, not what it is made of.

    Cost: one forward and one backward pass.
    Source: Simonyan et al. 2014, "Deep inside convolutional networks"; the baseline is not used.
    """

    signed = False
    source = "Simonyan et al. 2014"

    def _attribute(self, batch: Batch) -> Tensor:
        _, gradient, _ = value_and_gradient(self.forward_func, batch.inputs, batch.target, batch.extra)
        return gradient.abs()  # not in place: the gradient of a sum is one number, seen everywhere


class GradientXInput(GradientMethod):
    """``∇f(x) ⊙ (x − b)``: the linear terms of the tangent plane, signed, in logit units.

    Exact for a model that is linear between ``b`` and ``x``; without biases it sums to ``f(x)``.

    Cost: one forward and one backward pass.
    Source: Shrikumar et al. 2016, "Not just a black box".
    """

    signed = True
    source = "Shrikumar et al. 2016"
    multiplies_by_inputs = True

    def _attribute(self, batch: Batch) -> Tensor:
        _, gradient, _ = value_and_gradient(self.forward_func, batch.inputs, batch.target, batch.extra)
        return gradient_x_input(gradient, batch.difference)


def gradient_x_input(gradient: Tensor, difference: Tensor) -> Tensor:
    """Return ``∇f ⊙ (x − b)`` in the dtype of ``difference``."""
    return gradient.to(difference.dtype) * difference
