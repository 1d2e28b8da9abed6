"""Distilled Gradient Aggregation: Algorithm 1 of Jeon et al. 2022."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.batch import (
    Batch,
    TargetLike,
    checked_batch,
    outside_inference_mode,
)
from distillgrad.core.forward import Model, Target, accumulation_dtype, scores, value_and_gradient
from distillgrad.core.intercept import evaluating
from distillgrad.core.profiling import timed
from distillgrad.core.ranking import (
    above_lowest,
    among_lowest,
    below,
    count_below,
    from_on,
    order_statistic,
)
from distillgrad.errors import ModelError, ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.fullgrad import uniform_fullgrad
from distillgrad.methods.gradient import gradient_x_input

Masks: TypeAlias = Literal["both", "weak", "extreme"]
LocalAttribution: TypeAlias = Callable[[Model, Tensor, Any], Tensor]
"""``(model, x, target) -> φ``: attributions of anchors ``x``, of their shape."""

LOCAL_ATTRIBUTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "uniform_fullgrad": uniform_fullgrad,
    "gradient_x_input": lambda _value, gradient, difference: gradient_x_input(gradient, difference),
}


class Anchor(NamedTuple):
    """One step of the sequence: ``x̃(n)``, ``φ(x̃(n))``, its score ``(B,)`` if known, the explained target."""

    inputs: Tensor
    attribution: Tensor
    score: Tensor | None
    target: Target


@dataclass(frozen=True)
class Distillation:
    """The distillation sequence and what it aggregates to.

    Attributes:
        anchors: ``x̃(0) … x̃(N)``, ``(N+1, B, …)``.
        attributions: Their local attributions, ``(N+1, B, …)``.
        scores: The target's score at each anchor, ``(N+1, B)``.
        attribution: What ``attribute`` returns, ``(B, …)``.
    """

    anchors: Tensor
    attributions: Tensor
    scores: Tensor
    attribution: Tensor


class DistilledGradientAggregation(GradientMethod):
    """The mean positive local attribution along a sequence of inputs distilled by their own attributions.

    ``x̃(0) = x``; ``x̃(n+1) = b + M ⊙ (x−b)`` with ``M = n/N·M_WC + (1−n/N)·M_EPC``: the first mask drops
    weak contributors, more with each step, the second drops extreme positive ones. In logit units,
    averaged over the N+1 anchors. A row's result does not depend on the rest of its batch.

    The masks feed 0/1 decisions back, so a map moves visibly between float32 and float64 while its
    faithfulness does not: compare maps in float64.

    >>> model = torch.nn.Linear(4, 3)
    >>> DistilledGradientAggregation(model, n_steps=10).attribute(torch.rand(2, 4), target=1).shape
    torch.Size([2, 4])

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: N, at least 1.
        epc_quantile: q in (0, 1]: features whose signed rank is above ``⌊q·d⌋`` count as extreme.
        negative_scale: β, the weight of negative local attributions; 0 is the ReLU of eq. 12, 1 keeps signs.
        local_attribution: ``"uniform_fullgrad"``, ``"gradient_x_input"``, or ``(model, x, target) -> φ``.
        masks: ``"both"``; ``"weak"`` leaves the second term of M out (eq. 8), ``"extreme"`` the first.

    Raises:
        ParameterError: a parameter outside its range.
    Cost: N+1 forward and backward passes and 2N−1 selections; the memory of one pass, whatever N.
    Source: Jeon et al. 2022, Algorithm 1, eq. 5–12. Departures: the anchors are Algorithm 1's
        n = 0 … N, which eq. 12 counts from 1; their sum is divided by N+1 to stay in logit units.
    """

    signed = False
    cost = "N+1 gradient passes (31)"
    source = "Jeon et al. 2022"
    multiplies_by_inputs = True

    def __init__(
        self,
        model: Model,
        n_steps: int = 30,
        epc_quantile: float = 0.9,
        negative_scale: float = 0.0,
        local_attribution: str | LocalAttribution = "uniform_fullgrad",
        masks: Masks = "both",
    ) -> None:
        super().__init__(model)
        if not 0 < epc_quantile <= 1:
            raise ParameterError(f"epc_quantile must lie in (0, 1], not {epc_quantile}")
        if not 0 <= negative_scale < float("inf"):
            raise ParameterError(f"negative_scale must be finite and ≥ 0, not {negative_scale}")
        if masks not in ("both", "weak", "extreme"):
            raise UnknownNameError("masks", str(masks), ("both", "weak", "extreme"))
        if not callable(local_attribution) and local_attribution not in LOCAL_ATTRIBUTIONS:
            raise UnknownNameError("local attribution", str(local_attribution), LOCAL_ATTRIBUTIONS)
        self.n_steps = whole_number("n_steps", n_steps)
        self.epc_quantile = epc_quantile
        self.negative_scale = negative_scale
        self.local_attribution = local_attribution
        self.masks = masks

    @property
    def n_passes(self) -> int:
        """N+1, one for each anchor."""
        return self.n_steps + 1

    def distill(
        self,
        inputs: Tensor,
        target: TargetLike = None,
        *,
        baselines: Tensor | float = 0.0,
        additional_forward_args: Any = None,
    ) -> Distillation:
        """The whole sequence, kept: the paper's Figure 4.

        Takes what ``attribute`` takes and raises what it raises. Memory: 2(N+1) tensors of the inputs' size.
        """
        batch = checked_batch(
            inputs, target, baselines=baselines, additional_forward_args=additional_forward_args
        )
        model = self.forward_func
        with evaluating(model), outside_inference_mode():
            steps = list(self._sequence(batch))
            scored = [
                scores(model, step.inputs, step.target, batch.extra)[0] if step.score is None else step.score
                for step in steps
            ]
        total = self._rectified(steps[0].attribution)
        for step in steps[1:]:
            total.add_(self._rectified(step.attribution))
        dtype = inputs.dtype
        return Distillation(
            anchors=torch.stack([step.inputs for step in steps]),
            attributions=torch.stack([step.attribution for step in steps]).to(dtype),
            scores=torch.stack(scored).to(dtype),
            attribution=(total / len(steps)).to(dtype),
        )

    @property
    def _thread_safe(self) -> bool:
        return not callable(self.local_attribution)  # which may keep what it sees

    def _attribute(self, batch: Batch) -> Tensor:
        steps = self._sequence(batch)
        total = self._rectified(next(steps).attribution)
        for step in steps:
            with timed("aggregation"):
                total.add_(self._rectified(step.attribution))
            del step  # or a whole anchor and its attribution would live through the next pass
        return total.div_(self.n_steps + 1)

    def _rectified(self, attribution: Tensor) -> Tensor:
        """``max(φ, 0) + β·min(φ, 0)``: the ReLU of line 7, leaking β."""
        rectified = attribution.clamp(min=0)
        if self.negative_scale:
            rectified.add_(attribution.clamp(max=0), alpha=self.negative_scale)
        return rectified

    def _sequence(self, batch: Batch) -> Iterator[Anchor]:
        """Lines 1–6: the anchors ``x̃(0) … x̃(N)``, each with its local attribution."""
        difference, at = batch.difference, batch
        for n in range(self.n_steps + 1):
            attribution, score, target = self._local(at)
            yield Anchor(at.inputs, attribution, score, target)
            if n < self.n_steps:  # the masks after the last anchor would go unused
                with timed("masking"):
                    mask = distillation_mask(attribution, n, self.n_steps, self.epc_quantile, self.masks)
                    kept = mask.mul_(difference)
                    at = replace(batch, inputs=batch.shifted(kept), target=target)
                del attribution, mask, kept  # the next pass needs the memory

    def _local(self, at: Batch) -> tuple[Tensor, Tensor | None, Target]:
        """``φ`` of the anchors, their scores where that costs no pass, and the target they were taken for."""
        model = self.forward_func
        if not callable(self.local_attribution):
            score, gradient, target = value_and_gradient(model, at.inputs, at.target, at.extra)
            rule = LOCAL_ATTRIBUTIONS[self.local_attribution]
            return rule(score, gradient, at.difference), score, target
        target = at.target
        if target is None:
            _, target = scores(model, at.inputs, None, at.extra)
        attribution = self.local_attribution(model, at.inputs, target)
        if attribution.shape != at.inputs.shape:
            raise ModelError(
                f"the local attribution returned shape {tuple(attribution.shape)} for anchors of shape "
                f"{tuple(at.inputs.shape)}; it must be theirs"
            )
        return attribution.detach().to(accumulation_dtype(at.inputs.dtype)), None, target


def distillation_mask(
    attribution: Tensor, n: int, n_steps: int, quantile: float, masks: Masks = "both"
) -> Tensor:
    """Line 4 of Algorithm 1: ``M = n/N·M_WC + (1−n/N)·M_EPC``, of the attribution's shape (eq. 7, 10, 11)."""
    flat = attribution.flatten(1)
    weight, n_features = n / n_steps, flat.shape[1]
    weak, extreme = masks != "extreme" and n > 0, masks != "weak"
    # Both selections before the arithmetic: torch's threads sleep meanwhile, and waking them takes as long as
    # two operations.
    if weak:
        magnitude = flat.abs()
        lowest = order_statistic(magnitude, n * n_features // n_steps)
    if extreme:
        highest = order_statistic(flat, count_below(quantile, n_features))
    mask = below(flat, highest).mul_(1 - weight) if extreme else torch.zeros_like(flat)
    if weak:
        mask.add_(from_on(magnitude, lowest), alpha=weight)
    return mask.view_as(attribution)


def weak_contributor_mask(attribution: Tensor, n: int, n_steps: int) -> Tensor:
    """``M_WC(n; N)``: 0 where the rank of ``|φ|`` is at most ``n/N`` of the features, else 1 (eq. 6–7)."""
    flat = attribution.flatten(1)
    return above_lowest(flat.abs(), n * flat.shape[1] // n_steps).view_as(attribution)


def extreme_positive_contributor_mask(attribution: Tensor, quantile: float) -> Tensor:
    """``M_EPC(q)``: 1 where the signed rank of ``φ`` is at most ``q`` of the features, else 0 (eq. 9–10)."""
    flat = attribution.flatten(1)
    return among_lowest(flat, count_below(quantile, flat.shape[1])).view_as(attribution)
