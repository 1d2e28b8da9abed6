"""Pixel perturbation: what becomes of the prediction when pixels go, most or least relevant first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias, overload

import torch
from torch import Tensor

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, softmax_probability
from distillgrad.core.ranking import pixel_attributions, removal_ranks
from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import Baseline, check_attributions, checked_images, scores_without

Order: TypeAlias = Literal["morf", "lerf"]


@dataclass(frozen=True)
class PixelPerturbation:
    """The curves of the explained class's probability as pixels are removed.

    Attributes:
        fractions: The share of the pixels that is removed, ``(K+1,)``, from 0 to 1.
        probabilities: Of the explained class, ``(B, K+1)``.
        auc: The area under each curve by the trapezoid rule, ``(B,)``: lower is better for MoRF, higher
            for LeRF.
    """

    fractions: Tensor
    probabilities: Tensor
    auc: Tensor


@dataclass(frozen=True)
class MorfAndLerf:
    """The two curves of an attribution."""

    morf: PixelPerturbation
    lerf: PixelPerturbation

    @property
    def area_between(self) -> Tensor:
        """The area under LeRF minus that under MoRF, ``(B,)``: higher is better, 0 at random."""
        return self.lerf.auc - self.morf.auc


@overload
def pixel_perturbation(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor,
    *,
    order: Order = ...,
    n_steps: int = ...,
    baseline: Baseline = ...,
    element: bool = ...,
    internal_batch_size: int | None = ...,
) -> PixelPerturbation: ...
@overload
def pixel_perturbation(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Mapping[str, Tensor],
    *,
    order: Order = ...,
    n_steps: int = ...,
    baseline: Baseline = ...,
    element: bool = ...,
    internal_batch_size: int | None = ...,
) -> dict[str, PixelPerturbation]: ...
def pixel_perturbation(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor | Mapping[str, Tensor],
    *,
    order: Order = "morf",
    n_steps: int = 100,
    baseline: Baseline = 0.0,
    element: bool = False,
    internal_batch_size: int | None = None,
) -> PixelPerturbation | dict[str, PixelPerturbation]:
    """Return curves for one attribution, or for each of several by name.

    Pixels are ranked by their attribution summed over channels, signed, ties by index; at step k the first
    ``round(k·H·W/K)`` of them are replaced by the baseline, in all channels.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, classes)``, or as for the methods.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: The explained class: a number, one per sample, or ``None`` for the prediction. For a
            callable, its value takes the probability's place.
        attributions: ``(B, C, H, W)`` or ``(B, 1, H, W)``.
        order: ``"morf"``, most relevant first, or ``"lerf"``, least relevant first.
        n_steps: K, from 1 to H·W.
        baseline: What removed pixels become: values that broadcast to ``inputs``, ``"mean"``, ``"blur"``
            or ``"road"``, the image's own colour, blur or noisy linear imputation.
        element: Rank and remove single features, channel by channel, instead of pixels.
        internal_batch_size: Rows at a time; by default what suits the device, for 224×224 on a CPU 8 for each
            core that has rows of its own (:mod:`~distillgrad.core.examination.row_independence`).
    Raises:
        InputError: attributions of another shape, or with NaN or infinity.
        ParameterError: ``n_steps`` out of range.
    Cost: per attribution one sort and B·(K−1) forward passes of one row; both ends of the curves are
        computed once for all: 2·B more.
    Source: Samek et al. 2016; Jeon et al. 2022, §4.1; ``"road"``: Rong et al. 2022.
    """
    if order not in ("morf", "lerf"):
        raise UnknownNameError("order", str(order), ("morf", "lerf"))
    named = attributions if isinstance(attributions, Mapping) else {"": attributions}
    curves = _curves(model, inputs, target, named, (order,), n_steps, baseline, element, internal_batch_size)[
        order
    ]
    return curves if isinstance(attributions, Mapping) else curves[""]


@overload
def morf_and_lerf(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor,
    *,
    n_steps: int = ...,
    baseline: Baseline = ...,
    element: bool = ...,
    internal_batch_size: int | None = ...,
) -> MorfAndLerf: ...
@overload
def morf_and_lerf(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Mapping[str, Tensor],
    *,
    n_steps: int = ...,
    baseline: Baseline = ...,
    element: bool = ...,
    internal_batch_size: int | None = ...,
) -> dict[str, MorfAndLerf]: ...
def morf_and_lerf(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor | Mapping[str, Tensor],
    *,
    n_steps: int = 100,
    baseline: Baseline = 0.0,
    element: bool = False,
    internal_batch_size: int | None = None,
) -> MorfAndLerf | dict[str, MorfAndLerf]:
    """Return :func:`pixel_perturbation` in both orders, which share both ends of their curves.

    Args and Raises: as there.
    Cost: per attribution two sorts and 2·B·(K−1) forward passes of one row; 2·B more for all.
    """
    named = attributions if isinstance(attributions, Mapping) else {"": attributions}
    curves = _curves(
        model, inputs, target, named, ("morf", "lerf"), n_steps, baseline, element, internal_batch_size
    )
    both = {name: MorfAndLerf(curves["morf"][name], curves["lerf"][name]) for name in named}
    return both if isinstance(attributions, Mapping) else both[""]


def _curves(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Mapping[str, Tensor],
    orders: tuple[Order, ...],
    n_steps: int,
    baseline: Baseline,
    element: bool,
    internal_batch_size: int | None,
) -> dict[Order, dict[str, PixelPerturbation]]:
    batch, road = checked_images(inputs, target, baseline)
    shape = torch.Size((batch.inputs.shape[1] if element else 1, *batch.inputs.shape[2:]))
    n_ranked, device = shape.numel(), batch.inputs.device
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or not 1 <= n_steps <= n_ranked:
        things = "features" if element else "pixels"
        raise ParameterError(f"n_steps must lie between 1 and the {n_ranked} {things}, not {n_steps!r}")
    check_attributions(attributions, batch, element=element)
    n_rankings = len(attributions) * len(orders)
    ranks = torch.empty(n_rankings, len(batch), n_ranked, dtype=torch.int32, device=device)
    for place, (each, order) in enumerate(product(attributions.values(), orders)):
        values = each.detach().to(device)
        values = values if element else pixel_attributions(values)
        ranks[place] = removal_ranks(values.flatten(1), highest_first=order == "morf")

    counts = torch.tensor([round(k * n_ranked / n_steps) for k in range(n_steps + 1)], device=device)
    n_inner = n_steps - 1
    # An image's variants: whole, without anything, then step by step along each ranking.
    ranking = torch.cat(
        [counts.new_zeros(2), torch.arange(n_rankings, device=device).repeat_interleave(n_inner)]
    )
    removed = torch.cat([counts[[0, -1]], counts[1:-1].repeat(n_rankings)])

    def kept(image: int, variants: slice) -> Tensor:
        stays = ranks[ranking[variants], image] >= removed[variants, None]
        return stays.view(-1, *shape)

    with evaluating(model), outside_inference_mode():
        batch = with_target(model, batch)
        outputs = scores_without(
            model,
            batch,
            softmax_probability,
            kept,
            len(removed),
            road=road,
            internal_batch_size=internal_batch_size,
        )
    inner = outputs[:, 2:].view(len(batch), len(attributions), len(orders), n_inner)
    fractions = counts.to(outputs.dtype) / n_ranked
    return {
        order: {
            name: _curve(torch.cat([outputs[:, :1], inner[:, index, place], outputs[:, 1:2]], 1), fractions)
            for index, name in enumerate(attributions)
        }
        for place, order in enumerate(orders)
    }


def _curve(probabilities: Tensor, fractions: Tensor) -> PixelPerturbation:
    return PixelPerturbation(fractions, probabilities, torch.trapezoid(probabilities, fractions, dim=1))


def _measured(given: MetricInput, protocol: Protocol) -> dict[str, Values]:
    both = morf_and_lerf(
        given.model,
        given.inputs,
        given.target,
        given.attributions,
        n_steps=protocol.n_steps,
        baseline=protocol.baseline,
        element=protocol.element,
    )
    removed = tuple(next(iter(both.values())).morf.fractions.tolist())
    return {
        "lerf": Values({name: each.lerf.auc for name, each in both.items()}),
        "morf": Values({name: each.morf.auc for name, each in both.items()}),
        "area_between": Values({name: each.area_between for name, each in both.items()}),
        "lerf_curve": Values({name: each.lerf.probabilities for name, each in both.items()}, removed),
        "morf_curve": Values({name: each.morf.probabilities for name, each in both.items()}, removed),
    }


_CURVES = {
    "lerf_curve": Axis("LeRF: least relevant removed first ↑", "share of pixels removed", "probability"),
    "morf_curve": Axis("MoRF: most relevant removed first ↓", "share of pixels removed", "probability"),
}
LERF = Metric(
    better="higher",
    bounds=(0, 1),
    cost="20 forward passes",
    source="Jeon et al. 2022, §4.1",
    measurement=_measured,
    curves=_CURVES,
)
MORF = Metric(
    better="lower",
    bounds=(0, 1),
    cost="20 forward passes",
    source="Samek et al. 2016",
    measurement=_measured,
    curves=_CURVES,
)
AREA_BETWEEN = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="none beyond lerf and morf",
    source="Samek et al. 2016",
    measurement=_measured,
    curves=_CURVES,
)
