"""DeepLIFT through Captum, on a copy of the model and only where its rule reaches every nonlinearity."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from captum.attr import DeepLift as CaptumDeepLift
from torch import Tensor, nn
from torch.nn import functional

from distillgrad.core.batch import Batch
from distillgrad.core.equivalence import logits_apart, rounding
from distillgrad.core.forward import Model, Target, accumulation_dtype, scores, select
from distillgrad.core.operations import ADDITIVE, LINEAR, MOVES
from distillgrad.core.row_scores import RowScore
from distillgrad.core.trace import Trace, expect_equal, expect_sound, kind_of, reused
from distillgrad.core.working_copy import plain_module, working_copy
from distillgrad.errors import ModelError
from distillgrad.methods.base import GradientMethod

_POOLS: dict[type[nn.Module], Any] = {
    nn.MaxPool1d: functional.max_pool1d,
    nn.MaxPool2d: functional.max_pool2d,
    nn.MaxPool3d: functional.max_pool3d,
}
_RESCALED: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ELU: "elu",
    nn.LeakyReLU: "leaky_relu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Softplus: "softplus",
    **{pool: f"max_pool{n}d" for n, pool in enumerate(_POOLS, 1)},
}
"""The function of each module with a rule in DeepLIFT; Captum's for Softmax mixes the rows of a batch."""
SUMS_ALIKE = 1e-4
"""The share of its magnitude by which a sum may be off: ``Δout/Δin`` is rounded where both are small."""


class DeepLift(GradientMethod):
    """Captum's DeepLIFT, Rescale rule: each nonlinearity passes ``Δout/Δin`` instead of its derivative.

    Sums to ``f(x) − f(b)`` (completeness). Equals Captum called directly where that is right, and mends
    Captum 0.9 where it is not: nonlinearities that follow each other or share a tensor (its #1104), rows
    mixed by max-pooling (#1276), overlapping windows, in-place activations.

    Args:
        model: An ``nn.Module`` whose every nonlinearity is a module of its own, called once.
    Raises: ModelError: a model for which the rule would silently be left out, names where; or whose
        attributions do not sum to ``f(x) − f(b)``.
    Cost: two forward passes, and a forward and backward pass of twice the rows.
    Source: Shrikumar et al. 2017, "Learning important features through propagating activation differences".
    """

    signed = True
    cost = "2 forward passes, 1 gradient pass of inputs and baselines"
    source = "Shrikumar et al. 2017; Captum's DeepLift"
    multiplies_by_inputs = True
    layerwise = True
    needs_module = True

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        plain_module(model, "DeepLIFT")

    @property
    def n_passes(self) -> int:
        """Four passes: the score, the watched one, and the inputs' and baselines' own."""
        return 4

    def _attribute(self, batch: Batch) -> Tensor:
        expected, target = scores(self.forward_func, batch.inputs, batch.target, batch.extra)
        network = working_copy(plain_module(self.forward_func, "DeepLIFT"))
        trace = Trace(network)
        actual = trace.score(batch, target)
        expect_sound("DeepLIFT", _unlike_rescale(trace))
        expect_equal("DeepLIFT", actual, expected)
        for module in network.modules():
            if type(module) in _RESCALED:
                # Captum replaces the gradient of the very tensor that enters: it must be no other call's.
                module.register_forward_pre_hook(lambda _module, values: values[0].clone())
        doubled = _Doubled(network, batch, target)
        attributions = _captum_deep_lift(doubled, batch)
        score, of_baselines = doubled.scores.chunk(2)
        if logits_apart(score, expected) > rounding(batch.inputs) ** 0.5:
            raise ModelError(
                "DeepLIFT runs baselines and inputs as one batch, and the model's score of a row depends on "
                "the other rows: let it normalise with running statistics, with weights that no input changes"
            )
        _expect_complete(attributions, score, of_baselines)
        return attributions


def _expect_complete(attributions: Tensor, score: Tensor, of_baselines: Tensor) -> None:
    """Check that each row's attributions sum to what its score gains over its baseline's.

    Raises:
        ModelError: they do not, so that the rule has passed something over.
    """
    values = attributions.flatten(1).to(accumulation_dtype(attributions.dtype))
    size = values.abs().sum(1) + score.abs() + of_baselines.abs()
    apart = (values.sum(1) - (score - of_baselines)).abs() / size.clamp(min=1e-12)
    if bool((apart > max(SUMS_ALIKE, rounding(attributions) ** 0.5)).any()):
        raise ModelError(
            f"DeepLIFT's attributions do not sum to what the score gains over the baseline, by "
            f"{float(apart.max()):.1g} of their magnitude: its rule does not reach all that the model "
            "computes. Take dga or integrated_gradients, which look at no layer"
        )


def _unlike_rescale(trace: Trace) -> dict[str, list[str]]:
    """Return by kind where a nonlinearity is computed that Captum would give its plain gradient."""
    problems: dict[str, list[str]] = {}
    for call in trace.calls:
        own = _RESCALED.get(type(call.module))
        linear = call.function in LINEAR and call.n_dependent == 1
        if own == call.function or (own is None and (linear or call.function in MOVES | ADDITIVE)):
            continue
        hooked = own is not None
        kind = f"{call.function}() in a hook of {type(call.module).__name__}" if hooked else kind_of(call)
        problems.setdefault(kind, []).append(call.name)
    return problems | reused(trace, tuple(_RESCALED))


class _Doubled(nn.Module):
    """The score of inputs and baselines at once, as Captum's DeepLIFT runs them."""

    def __init__(self, network: nn.Module, batch: Batch, target: Target) -> None:
        super().__init__()
        self.network = network
        self.scores: Tensor
        n = len(batch)
        self.target = torch.cat([target, target]) if isinstance(target, Tensor) else target
        if isinstance(target, RowScore):
            self.target = target.rows(torch.arange(n).repeat(2))
        self.extra = tuple(
            torch.cat([value, value])
            if isinstance(value, Tensor) and value.ndim and len(value) == n
            else value
            for value in batch.extra
        )

    def forward(self, rows: Tensor) -> Tensor:
        scores = select(self.network(rows.clone(), *self.extra), self.target, len(rows))
        self.scores = scores.detach()
        return scores


class _CaptumDeepLift(CaptumDeepLift):  # type: ignore[misc]  # Captum is untyped
    """Captum's DeepLIFT with max-pooling that keeps the rows apart and sums overlapping windows."""

    def _backward_hook(self, module: Any, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        if type(module) not in _POOLS or not self.satisfies_attribute_criteria(module):
            multipliers: Tensor = super()._backward_hook(module, grad_input, grad_output)
            return multipliers
        inputs, baselines = module.input.chunk(2)
        pooled, pooled_baselines = module.output.chunk(2)
        highest = torch.maximum(pooled, pooled_baselines)
        difference = torch.cat([highest - pooled_baselines, pooled - highest])
        with torch.enable_grad():
            leaf = module.input.detach().requires_grad_()
            again = _POOLS[type(module)](
                leaf, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode
            )
            (sent,) = torch.autograd.grad(again, leaf, grad_output * difference)
        del module.input, module.output
        contribution = torch.cat([sum(sent.chunk(2))] * 2)
        change = torch.cat([inputs - baselines] * 2)
        return torch.where(change.abs() < self.eps, grad_input, contribution / change)


_filters = threading.Lock()
"""Warning filters belong to the process: two threads that change them at once lose the user's."""


def _captum_deep_lift(model: nn.Module, batch: Batch) -> Tensor:
    baselines = batch.shifted(torch.zeros_like(batch.difference)).contiguous()
    inputs = batch.inputs.clone().requires_grad_()
    with _filters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting forward, backward hooks", UserWarning)
        attributions: Tensor = _CaptumDeepLift(model).attribute(inputs, baselines)
    return attributions.detach()
