"""Distilled Gradient Aggregation: Algorithm 1 of Jeon et al. 2022, in its order, and the method around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, TargetLike, checked_batch, outside_inference_mode
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.examination.first_use import Work, examine, expecting_the_same_again
from distillgrad.core.forward import Model, Target, accumulation_dtype, scores, value_and_gradient
from distillgrad.core.profiling import timed
from distillgrad.core.ranking import above_lowest, among_lowest, count_below
from distillgrad.errors import ModelError, ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import SPEAKS_AGAINST
from distillgrad.methods.fullgrad import uniform_fullgrad
from distillgrad.methods.gradient import gradient_x_input

Masks: TypeAlias = Literal["both", "weak", "extreme"]


class Anchor(NamedTuple):
    """A step of the sequence: ``x̃(n)``, ``φ(x̃(n))``, its score ``(B,)`` if known, the explained target."""

    inputs: Tensor
    attribution: Tensor
    score: Tensor | None
    target: Target


def distillation_sequence(
    local: Callable[[Batch], Anchor], batch: Batch, n_steps: int, quantile: float, masks: Masks = "both"
) -> Iterator[Anchor]:
    """Yield the anchors ``x̃(0) … x̃(N)``, each with its local attribution: lines 1–6 of Algorithm 1."""
    difference, at = batch.difference, batch  # x̃(0) = x
    for n in range(n_steps + 1):
        anchor = local(at)
        yield anchor
        if n < n_steps:  # x̃(N+1) would go unused
            with timed("masking"):
                mask = distillation_mask(anchor.attribution, n, n_steps, quantile, masks)
                at = replace(batch, inputs=batch.shifted(mask.mul_(difference)), target=anchor.target)
            del anchor, mask  # the next pass needs the memory


def distillation_mask(
    attribution: Tensor, n: int, n_steps: int, quantile: float, masks: Masks = "both"
) -> Tensor:
    """Return ``M = n/N·M_WC + (1−n/N)·M_EPC``, or one of the terms: line 4 (eq. 11, 8)."""
    weight = n / n_steps
    if masks == "weak":
        return weak_contributor_mask(attribution, n, n_steps).mul_(weight)
    # In this order torch's threads wake once between the two selections, and once after them.
    extreme = extreme_positive_contributor_mask(attribution, quantile).mul_(1 - weight)
    if masks == "extreme":
        return extreme
    return extreme.add_(weak_contributor_mask(attribution, n, n_steps), alpha=weight)


def weak_contributor_mask(attribution: Tensor, n: int, n_steps: int) -> Tensor:
    """Return ``M_WC(n; N)``: 0 where the rank of ``|φ|`` is at most n/N of the features, else 1 (eq. 6–7)."""
    flat = attribution.flatten(1)
    return above_lowest(flat.abs(), n * flat.shape[1] // n_steps).view_as(attribution)


def extreme_positive_contributor_mask(attribution: Tensor, quantile: float) -> Tensor:
    """Return ``M_EPC(q)``: 1 where the rank of ``φ`` is at most ``q`` of the features, else 0 (eq. 9–10)."""
    flat = attribution.flatten(1)
    return among_lowest(flat, count_below(quantile, flat.shape[1])).view_as(attribution)


def aggregated(anchors: Iterator[Anchor], negative_scale: float) -> Tensor:
    """Return the mean of the rectified local attributions: lines 7–8 (eq. 12)."""
    total, n_anchors = rectified(next(anchors).attribution, negative_scale), 1
    for anchor in anchors:
        with timed("aggregation"):
            total.add_(rectified(anchor.attribution, negative_scale))
        n_anchors += 1
        del anchor  # or it would live through the next pass
    return total.div_(n_anchors)


def rectified(attribution: Tensor, negative_scale: float) -> Tensor:
    """Return ``max(φ, 0) + β·min(φ, 0)``: the ReLU of line 7, leaking β."""
    positive = attribution.clamp(min=0)
    if negative_scale:
        positive.add_(attribution.clamp(max=0), alpha=negative_scale)
    return positive


LocalAttribution: TypeAlias = Callable[[Model, Tensor, Any], Tensor]
"""``(model, x, target) -> φ``: attributions of anchors ``x``, of their shape."""

LOCAL_ATTRIBUTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "uniform_fullgrad": uniform_fullgrad,
    "gradient_x_input": lambda _value, gradient, difference: gradient_x_input(gradient, difference),
}


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
        """N+1 passes, one for each anchor."""
        return self.n_steps + 1

    def distill(
        self,
        inputs: Tensor,
        target: TargetLike = None,
        *,
        baselines: Tensor | float = 0.0,
        additional_forward_args: Any = None,
    ) -> Distillation:
        """Return the whole sequence, kept: the paper's Figure 4.

        Takes what ``attribute`` takes and raises what it raises. Memory: 2(N+1) tensors of the inputs' size.
        """
        batch = checked_batch(
            inputs, target, baselines=baselines, additional_forward_args=additional_forward_args
        )
        model = self.forward_func
        with expecting_the_same_again(model, batch), evaluating(model), outside_inference_mode():
            examine(model, batch, Work(self.n_passes, len(batch), gradients=True))
            anchors = list(self._sequence(batch))
            scored = [
                scores(model, each.inputs, each.target, batch.extra)[0] if each.score is None else each.score
                for each in anchors
            ]
        dtype = inputs.dtype
        return Distillation(
            anchors=torch.stack([each.inputs for each in anchors]),
            attributions=torch.stack([each.attribution for each in anchors]).to(dtype),
            scores=torch.stack(scored).to(dtype),
            attribution=aggregated(iter(anchors), self.negative_scale).to(dtype),
        )

    @property
    def _zero_means(self) -> str:
        return "" if self.negative_scale else f"{SPEAKS_AGAINST} (negative_scale=0)"

    @property
    def _thread_safe(self) -> bool:
        return not callable(self.local_attribution)  # which may keep what it sees

    def _attribute(self, batch: Batch) -> Tensor:
        return aggregated(self._sequence(batch), self.negative_scale)

    def _sequence(self, batch: Batch) -> Iterator[Anchor]:
        return distillation_sequence(self._local, batch, self.n_steps, self.epc_quantile, self.masks)

    def _local(self, at: Batch) -> Anchor:
        """Return the anchors with their ``φ``, and with their scores where these cost no pass."""
        model, inputs = self.forward_func, at.inputs
        if not callable(self.local_attribution):
            score, gradient, target = value_and_gradient(model, inputs, at.target, at.extra)
            rule = LOCAL_ATTRIBUTIONS[self.local_attribution]
            return Anchor(inputs, rule(score, gradient, at.difference), score, target)
        target = at.target
        if target is None:
            _, target = scores(model, inputs, None, at.extra)
        attribution = self.local_attribution(model, inputs, target)
        if attribution.shape != inputs.shape:
            raise ModelError(
                f"the local attribution returned shape {tuple(attribution.shape)} for anchors of shape "
                f"{tuple(inputs.shape)}; it must be theirs"
            )
        return Anchor(inputs, attribution.detach().to(accumulation_dtype(inputs.dtype)), None, target)
