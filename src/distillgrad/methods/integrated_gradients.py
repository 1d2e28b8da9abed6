"""Integrated Gradients: the gradient along the straight path from the baseline to the input, by Captum."""

from __future__ import annotations

from typing import Any

from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, Target, value_and_gradient
from distillgrad.errors import UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import ALONG_PATH
from distillgrad.methods.captum_call import captum_forward, on_the_cpu_by_default

QUADRATURES = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


class IntegratedGradients(GradientMethod):
    """``(x − b) ⊙ ∫₀¹ ∇f(b + α(x − b)) dα``, signed, in logit units: Captum's, one step at a time.

    Sums to ``f(x) − f(b)`` up to the error of the quadrature, and exactly for a linear model.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Points of the quadrature; at least 1, for Riemann sums at least 2.
        method: ``"gausslegendre"``, ``"riemann_left"``, ``"riemann_right"``, ``"riemann_middle"`` or
            ``"riemann_trapezoid"``.

    Raises:
        ParameterError: a parameter outside its range.
    Cost: n_steps forward and backward passes, and a forward pass where the target is the prediction;
        the memory of one pass, whatever n_steps.
    Source: Sundararajan et al. 2017, "Axiomatic attribution for deep networks"; ``captum.attr``.
    """

    signed = True
    cost = "n_steps gradient passes (50)"
    source = "Sundararajan et al. 2017"
    multiplies_by_inputs = True

    def __init__(self, model: Model, n_steps: int = 50, method: str = "gausslegendre") -> None:
        super().__init__(model)
        if method not in QUADRATURES:
            raise UnknownNameError("quadrature", str(method), QUADRATURES)
        least = 1 if method == "gausslegendre" else 2
        self.n_steps = whole_number("n_steps", n_steps, least)
        self.method = method

    @property
    def n_passes(self) -> int:
        """One pass for each point of the quadrature."""
        return self.n_steps

    @property
    def _zero_means(self) -> str:
        return ALONG_PATH

    def _attribute(self, batch: Batch) -> Tensor:
        function, target = captum_forward(self.forward_func, batch)
        baselines = batch.baselines
        if isinstance(baselines, Tensor):
            baselines = baselines.to(batch.inputs.dtype).expand(batch.inputs.shape)
        with on_the_cpu_by_default(function) as model:
            captum = CaptumIntegratedGradients(model)
            captum.gradient_func = _gradients
            attributions: Tensor = captum.attribute(
                batch.inputs,
                baselines=baselines,
                target=target,
                additional_forward_args=batch.extra or None,
                n_steps=self.n_steps,
                method=self.method,
                internal_batch_size=len(batch),
            )
        return attributions


def _gradients(
    forward_fn: Model, inputs: tuple[Tensor], target_ind: Target, additional_forward_args: Any
) -> tuple[Tensor]:
    """Return the gradients that Captum integrates, with our errors for models that have none."""
    _, gradient, _ = value_and_gradient(forward_fn, inputs[0], target_ind, additional_forward_args or ())
    return (gradient,)
