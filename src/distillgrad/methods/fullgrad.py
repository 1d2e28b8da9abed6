"""FullGrad's decomposition of the score into input and bias terms: Uniform FullGrad."""

from __future__ import annotations

from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import value_and_gradient
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.gradient import gradient_x_input


class UniformFullGrad(GradientMethod):
    """``φ(x) = ∇f ⊙ (x−b) + (f(x) − ⟨∇f, x−b⟩)/d``: Gradient*Input plus the bias, spread evenly.

    Sums to ``f(x)`` to rounding. For a piecewise-linear network ``f(x) − ⟨∇f, x⟩`` is exactly FullGrad's
    sum of bias gradients, so neither hooks nor a list of layers is needed. For a smooth network (a
    transformer, GELU) it is the intercept of the tangent plane at ``x``.

    Cost: one forward and one backward pass.
    Source: Jeon et al. 2022, eq. 4; completeness: Srinivas and Fleuret 2019.
    """

    signed = True
    source = "Jeon et al. 2022, eq. 4"

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, for Captum."""
        return True

    def _attribute(self, batch: Batch) -> Tensor:
        value, gradient, _ = value_and_gradient(self.forward_func, batch.inputs, batch.target, batch.extra)
        return uniform_fullgrad(value, gradient, batch.difference)


def uniform_fullgrad(value: Tensor, gradient: Tensor, difference: Tensor) -> Tensor:
    """Eq. 4 from the score ``(N,)``, its gradient and ``x − b``, in the dtype of ``difference``."""
    attribution = gradient_x_input(gradient, difference)
    bias = value.to(attribution.dtype) - attribution.flatten(1).sum(1)
    n_features = attribution[0].numel()
    return attribution.add_((bias / n_features).view(-1, *(1,) * (attribution.ndim - 1)))
