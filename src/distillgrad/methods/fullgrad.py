"""FullGrad's decomposition of the score into input and bias terms: FullGrad and Uniform FullGrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional

from distillgrad.core.batch import Batch, TargetLike, checked_batch, outside_inference_mode
from distillgrad.core.chunks import attribute_in_chunks
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.observation import Hook, Operation, observed_gradient
from distillgrad.core.plan import Plan, checked_size
from distillgrad.errors import InputError
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.bias_terms import AttentionInSteps, background_of, bias_of
from distillgrad.methods.gradient import gradient_x_input
from distillgrad.methods.term_places import Grids, Term, axis_of

MEND = (
    "What it adds cannot be told, or depends on the other rows: write it with torch's own operations (for an "
    "LSTM on a CPU, explain within torch.backends.mkldnn.flags(enabled=False)), give a batch norm running "
    "statistics, or take uniform_fullgrad, which looks at no operation"
)
LEFT_OUT = {1.0: "the whole", 0.5: "half", 0.1: "a tenth"}
"""The words of a note, by the share of the score that the terms leave out."""


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
    bilinearly; channels are summed. Every constant that the call really adds counts: biases of convolutions,
    linear layers and norms, batch norm's implicit one, numbers and parameters in sums, padding, what a clamp
    returns where it cuts off; in functional and exported code, too. Unused heads do not. A term is drawn if
    its values have a place in the image: maps, channels first or last, and tokens of a grid. Those of dense
    layers have none.

    Where the terms leave out more than a tenth of the score, :attr:`notes` say so.

    Raises:
        ModelError: an operation whose bias cannot be told lies on the image's way; names it.
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
        ``⟨∇f, b⟩`` for a baseline that is not zero. Each row is taken by itself, whatever
        ``internal_batch_size`` says. Takes and raises what ``attribute`` does.
        """
        batch = checked_batch(
            inputs, target, baselines=baselines, additional_forward_args=additional_forward_args
        )
        checked_size(internal_batch_size)
        return attribute_in_chunks(self.forward_func, self._residual, batch, Plan(len(batch), 1))

    @property
    def _zero_means(self) -> str:
        return "each of its terms has one magnitude everywhere, which its scaling makes zero"

    def _residual(self, batch: Batch) -> Tensor:
        total = torch.zeros(len(batch), dtype=batch.difference.dtype, device=batch.inputs.device)

        def add(term: Term) -> None:
            total.add_(term.values.sum())

        value = self._each_term(batch, Grids(batch.inputs), add)
        return value.to(total.dtype) - total

    def _attribute(self, batch: Batch) -> Tensor:
        n_dimensions = batch.inputs.ndim
        if n_dimensions not in INTERPOLATION:
            raise InputError(
                f"fullgrad draws a map over (N, C, L), (N, C, H, W) or (N, C, D, H, W); got inputs of shape "
                f"{tuple(batch.inputs.shape)}; for others use uniform_fullgrad"
            )
        grids = Grids(batch.inputs)
        maps: dict[tuple[int, ...], Tensor] = {}  # by resolution: each is enlarged once
        total = torch.zeros((), dtype=batch.difference.dtype, device=batch.inputs.device)

        def add(term: Term) -> None:
            total.add_(term.values.sum())
            placed = grids.placed(term)
            if placed is not None:
                size = tuple(placed.shape[2:])
                scaled = scaled_magnitude(placed)
                maps[size] = maps[size] + scaled if size in maps else scaled

        value = self._each_term(batch, grids, add)
        self._note_residual(value.to(total.dtype), total)
        size, mode = tuple(batch.inputs.shape[2:]), INTERPOLATION[n_dimensions]
        return torch.stack(
            [
                each
                if each.shape[2:] == size
                else functional.interpolate(each, size, mode=mode, align_corners=True)
                for each in maps.values()
            ]
        ).sum(0)

    def _note_residual(self, value: Tensor, total: Tensor) -> None:
        """Note how much of the scores the terms leave out, if it is more than a tenth."""
        left = float((value.sum() - total).abs() / value.abs().sum().clamp(min=torch.finfo(value.dtype).tiny))
        for share, words in LEFT_OUT.items():
            if left > share:
                self._note(
                    f"FullGrad's terms leave out more than {words} of the score: the curvature of smooth "
                    "layers, or what a baseline other than 0 takes off; residual() gives it for each image."
                )
                return

    def _each_term(self, batch: Batch, grids: Grids, add: Callable[[Term], None]) -> Tensor:
        """Hand each term of the decomposition to ``add``, as the backward pass meets it; return the score."""
        dtype = batch.difference.dtype

        def examine(operation: Operation) -> Hook | str | None:
            grids.see(operation)
            bias, constants = bias_of(operation, len(batch)), background_of(operation)
            if isinstance(bias, str):
                return bias
            if bias is None and constants is None:
                return None
            axis = axis_of(operation)

            def weigh(gradient: Tensor, whole: Tensor, node: Node) -> None:
                with outside_inference_mode():
                    if bias is not None:
                        values = gradient.to(dtype) * bias.to(dtype)
                        add(Term(grids.unflattened(values, node), axis))
                    if constants is not None:
                        add(Term(whole.to(dtype) * constants.to(dtype), None))

            return weigh

        value, gradient = observed_gradient(
            "FullGrad", MEND, self.forward_func, batch, examine, AttentionInSteps()
        )
        add(Term(gradient_x_input(gradient, batch.difference), "first"))
        return value


INTERPOLATION = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""The interpolation by the inputs' number of dimensions."""


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
