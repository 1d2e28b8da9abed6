"""FullGrad's decomposition of the score into input and bias terms: FullGrad and Uniform FullGrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from distillgrad.core.batch import Batch, TargetLike, checked_batch, outside_inference_mode
from distillgrad.core.chunks import attribute_in_chunks
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.intercept import captured_biases
from distillgrad.core.plan import Plan, checked_size
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import InputError
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
    multiplies_by_inputs = True

    def _attribute(self, batch: Batch) -> Tensor:
        value, gradient, _ = value_and_gradient(self.forward_func, batch.inputs, batch.target, batch.extra)
        return uniform_fullgrad(value, gradient, batch.difference)


def uniform_fullgrad(value: Tensor, gradient: Tensor, difference: Tensor) -> Tensor:
    """Return eq. 4 from the score ``(N,)``, its gradient and ``x − b``, in the dtype of ``difference``."""
    attribution = gradient_x_input(gradient, difference)
    bias = value.to(attribution.dtype) - attribution.flatten(1).sum(1)
    n_features = attribution[0].numel()
    return attribution.add_((bias / n_features).view(-1, *(1,) * (attribution.ndim - 1)))


class FullGrad(GradientMethod):
    """``Ψ(∇f ⊙ x) + Σ_l Σ_c Ψ(∇_b f ⊙ b)``: the input's term and the bias terms of every layer, as a map.

    Ψ is the published one: magnitude, scaled per sample and layer to [0, 1], laid over the image
    bilinearly; channels are summed. Every bias that the call really adds counts, batch norm's implicit one
    and numbers in sums included, in functional code too; unused heads do not.

    Cost: one forward and one backward pass, and a few passes over the activations.
    Source: Srinivas and Fleuret 2019, eq. 2 of Jeon et al. 2022.
    """

    layerwise = True
    signed = False
    result = "pixels"
    source = "Srinivas and Fleuret 2019"
    multiplies_by_inputs = True

    def residual(
        self,
        inputs: Tensor,
        target: TargetLike = None,
        *,
        baselines: Tensor | float = 0.0,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
    ) -> Tensor:
        """Return ``f(x) − Σ`` of all terms before Ψ, ``(N,)``: zero, rounded, for piecewise-linear networks.

        What is left says how much of the score the map leaves out: the curvature of smooth layers, and
        ``⟨∇f, b⟩`` for a baseline that is not zero. Takes and raises what ``attribute`` does.
        """
        batch = checked_batch(
            inputs, target, baselines=baselines, additional_forward_args=additional_forward_args
        )
        plan = Plan(len(batch), checked_size(internal_batch_size) or len(batch))
        return attribute_in_chunks(self.forward_func, self._residual, batch, plan)

    @property
    def _zero_means(self) -> str:
        return "each of its terms has one magnitude everywhere, which its scaling makes zero"

    def _residual(self, batch: Batch) -> Tensor:
        total = torch.zeros(len(batch), dtype=batch.difference.dtype, device=batch.inputs.device)

        def add(term: Tensor) -> None:
            total.add_(term.flatten(1).sum(1))

        value = self._each_term(batch, add)
        return value.to(total.dtype) - total

    def _attribute(self, batch: Batch) -> Tensor:
        n_dimensions = batch.inputs.ndim
        if n_dimensions not in INTERPOLATION:
            raise InputError(
                f"fullgrad draws a map over (N, C, L), (N, C, H, W) or (N, C, D, H, W); got inputs of shape "
                f"{tuple(batch.inputs.shape)}; for others use uniform_fullgrad"
            )
        maps: dict[tuple[int, ...], Tensor] = {}  # by resolution: each is enlarged once

        def add(term: Tensor) -> None:
            if term.ndim == n_dimensions:
                size = tuple(term.shape[2:])
                scaled = scaled_magnitude(term)
                maps[size] = maps[size] + scaled if size in maps else scaled

        self._each_term(batch, add)
        size, mode = tuple(batch.inputs.shape[2:]), INTERPOLATION[n_dimensions]
        return torch.stack(
            [
                each
                if each.shape[2:] == size
                else functional.interpolate(each, size, mode=mode, align_corners=True)
                for each in maps.values()
            ]
        ).sum(0)

    def _each_term(self, batch: Batch, add: Callable[[Tensor], None]) -> Tensor:
        """Hand each term of the decomposition to ``add``, as the backward pass meets it; return the score."""
        dtype = batch.difference.dtype
        n_rows = len(batch)

        def add_bias(bias: Tensor, gradient: Tensor) -> None:
            if len(gradient) == n_rows:
                with outside_inference_mode():
                    add(gradient.to(dtype) * bias.to(dtype))

        with captured_biases(add_bias):
            value, gradient, _ = value_and_gradient(
                unwrapped(self.forward_func), batch.inputs, batch.target, batch.extra
            )
        add(gradient_x_input(gradient, batch.difference))
        return value


INTERPOLATION = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""By the inputs' number of dimensions."""


def scaled_magnitude(term: Tensor) -> Tensor:
    """Return Ψ before enlarging: ``|t|`` scaled to [0, 1] per sample, summed over channels, ``(N, 1, …)``.

    The sum over channels commutes with the interpolation that follows, so one channel is enlarged.
    """
    magnitude = term.abs()
    ones = (1,) * (term.ndim - 1)
    lowest, highest = magnitude.flatten(1).aminmax(dim=1)
    span = (highest - lowest + 1e-6).view(-1, *ones)
    summed = magnitude.sum(1, keepdim=True)
    return (summed - term.shape[1] * lowest.view(-1, *ones)) / span
