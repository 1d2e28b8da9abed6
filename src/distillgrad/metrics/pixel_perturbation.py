"""Pixel perturbation: what becomes of the prediction when pixels go, most or least relevant first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, overload

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, TargetLike, checked_batch, outside_inference_mode, with_target
from distillgrad.core.forward import Model, scores, softmax_probability
from distillgrad.core.intercept import evaluating
from distillgrad.core.ranking import pixel_attributions, removal_ranks
from distillgrad.errors import InputError, ParameterError, UnknownNameError

Order: TypeAlias = Literal["morf", "lerf"]


@dataclass(frozen=True)
class PixelPerturbation:
    """Curves of the explained class's probability as pixels are removed.

    Attributes:
        fractions: The share of the pixels that is removed, ``(K+1,)``, from 0 to 1.
        probabilities: Of the explained class, ``(B, K+1)``.
        auc: The area under each curve by the trapezoid rule, ``(B,)``: lower is better for MoRF, higher
            for LeRF.
    """

    fractions: Tensor
    probabilities: Tensor
    auc: Tensor


@overload
def pixel_perturbation(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor,
    *,
    order: Order = ...,
    n_steps: int = ...,
    baseline: Tensor | float = ...,
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
    baseline: Tensor | float = ...,
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
    baseline: Tensor | float = 0.0,
    internal_batch_size: int | None = None,
) -> PixelPerturbation | dict[str, PixelPerturbation]:
    """Curves for one attribution, or for each of several by name.

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
        baseline: What removed pixels become; broadcasts to ``inputs``.
        internal_batch_size: Rows at a time; by default B, and at least 32.
    Raises:
        InputError: attributions of another shape, or with NaN or infinity.
        ParameterError: ``n_steps`` out of range.
    Cost: per attribution one sort and B·(K−1) forward passes of one row; both ends of the curves are
        computed once for all: 2·B more.
    Source: Samek et al. 2016; Jeon et al. 2022, §4.1.
    """
    batch = checked_batch(inputs, target, baselines=baseline)
    if batch.inputs.ndim != 4:
        raise InputError(f"expected images (B, C, H, W); got shape {tuple(inputs.shape)}")
    if order not in ("morf", "lerf"):
        raise UnknownNameError("order", str(order), ("morf", "lerf"))
    n_pixels = batch.inputs[0, 0].numel()
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or not 1 <= n_steps <= n_pixels:
        raise ParameterError(f"n_steps must lie between 1 and the {n_pixels} pixels, not {n_steps!r}")
    if internal_batch_size is not None and internal_batch_size < 1:
        raise ParameterError(f"internal_batch_size must be at least 1, not {internal_batch_size}")
    named = attributions if isinstance(attributions, Mapping) else {"": attributions}
    for name, each in named.items():
        _check(name, each, batch)
    size = internal_batch_size or max(len(batch), 32)
    counts = torch.tensor([round(k * n_pixels / n_steps) for k in range(n_steps + 1)], device=inputs.device)
    with evaluating(model), outside_inference_mode():
        batch = with_target(model, batch)
        everything = torch.zeros(len(batch), n_pixels, dtype=torch.long, device=inputs.device)
        ends = _probabilities(model, batch, everything, counts[[0, -1]], size)
        curves = {}
        for name, each in named.items():
            pixels = pixel_attributions(each.detach().to(inputs.device)).flatten(1)
            ranks = removal_ranks(pixels, highest_first=order == "morf")
            inner = _probabilities(model, batch, ranks, counts[1:-1], size)
            whole = torch.cat([ends[:, :1], inner, ends[:, 1:]], 1)
            curves[name] = _curve(whole, counts.to(whole.dtype) / n_pixels)
    return curves if isinstance(attributions, Mapping) else curves[""]


def _check(name: str, attribution: Tensor, batch: Batch) -> None:
    called = f"the attribution {name!r}" if name else "the attribution"
    n, _, height, width = batch.inputs.shape
    if attribution.shape not in (batch.inputs.shape, (n, 1, height, width)):
        raise InputError(
            f"{called} has shape {tuple(attribution.shape)} for inputs of {tuple(batch.inputs.shape)}; "
            f"expected theirs or ({n}, 1, {height}, {width})"
        )
    if not bool(torch.isfinite(attribution).all()):
        raise InputError(f"{called} contains NaN or infinity: it ranks no pixels")


def _probabilities(model: Model, batch: Batch, ranks: Tensor, counts: Tensor, size: int) -> Tensor:
    """The explained class's probability ``(B, len(counts))`` without the first ``count`` pixels.

    Rows of all images and steps fill the batches: one image alone is as fast per row as many.
    """
    n_rows, n_counts = len(batch), len(counts)
    rows = torch.arange(n_rows, device=ranks.device).repeat_interleave(n_counts)
    steps = counts.repeat(n_rows)
    found: list[Tensor] = []
    for start in range(0, len(rows), size):
        chosen, removed = rows[start : start + size], steps[start : start + size]
        part = batch.rows(chosen)
        kept = (ranks[chosen] >= removed[:, None]).view(len(chosen), 1, *batch.inputs.shape[2:])
        inputs = part.shifted(part.difference * kept.to(part.difference.dtype))

        def probability(output: object, part: Batch = part) -> Tensor:
            return softmax_probability(output, part.target, len(part))

        found.append(scores(model, inputs, probability, part.extra)[0].to(part.difference.dtype))
    return torch.cat(found).view(n_rows, n_counts) if found else ranks.new_zeros(n_rows, 0).float()


def _curve(probabilities: Tensor, fractions: Tensor) -> PixelPerturbation:
    return PixelPerturbation(fractions, probabilities, torch.trapezoid(probabilities, fractions, dim=1))
