"""Stability of a method: its maps in another precision, alone in their batch, and under the least jitter."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.working_copy import copied
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError, ParameterError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import checked_images
from distillgrad.metrics.similarity import Attribute, explained, spearman, ssim, top_overlap

CONDITIONS = ("float64", "bfloat16", "alone", "jitter")
ONE_LEVEL = 1 / 255 / 0.225
"""One of 256 levels of brightness, in inputs normalised by ImageNet's standard deviations."""


@dataclass(frozen=True)
class Stability:
    """A method's maps under each condition beside its maps of the inputs as they are.

    Attributes:
        conditions: ``"float64"`` and ``"bfloat16"``: model and inputs in that precision; ``"alone"``: each
            row in a batch of its own; ``"jitter"``: the inputs moved by at most one 8-bit level.
        spearman: Rank correlation, ``(B, 4)``.
        overlap: Common features among the top 10 %, ``(B, 4)``.
        ssim: Structural similarity, ``(B, 4)``.
    """

    conditions: tuple[str, ...]
    spearman: Tensor
    overlap: Tensor
    ssim: Tensor


def stability(
    model: nn.Module,
    attribute_of: Callable[[nn.Module], Attribute],
    inputs: Tensor,
    target: TargetLike,
    *,
    jitter: float = ONE_LEVEL,
    seed: int = 0,
) -> Stability:
    """Measure how much of a map is the model's, and how much the last bit's.

    1 everywhere for a linear model. A method that thresholds what it has computed before, as DGA does, may
    turn a difference in the last bit into other pixels; that its maps agree less does not make them less
    faithful.

    Args:
        model: The network; copies of it are converted, it stays as it is.
        attribute_of: Makes the explainer of a model: ``lambda model: dg.DGA(model).attribute``.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: A class, one per sample, or ``None``: the prediction on the inputs as they are.
        jitter: The largest change of a feature, in units of the inputs; drawn evenly, the same for all rows.
        seed: Of the jitter.
    Raises:
        ModelError: the model is no module or cannot be copied, or a method fails in a precision.
        ParameterError: ``jitter`` is negative or not finite.
    Cost: 5 explanations; memory for a copy of the model in float64.
    Source: this project; the effect is described in the documentation of DGA.
    """
    if not 0 <= jitter < math.inf:
        raise ParameterError(f"jitter must be finite and ≥ 0, not {jitter}")
    batch, _ = checked_images(inputs, target)
    with outside_inference_mode():
        batch = with_target(model, batch)
        x, chosen = batch.inputs, batch.target
        mine = attribute_of(model)
        reference = explained(mine, x, chosen)
        noise = torch.rand(
            x.shape[1:], generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu"
        )
        moved = x + ((2 * noise - 1) * jitter).to(x)
        rows = [batch.rows(slice(row, row + 1)) for row in range(len(x))]
        maps = [
            _in_precision(model, torch.float64, attribute_of, x, chosen),
            _in_precision(model, torch.bfloat16, attribute_of, x, chosen),
            torch.cat([explained(mine, row.inputs, row.target) for row in rows]),
            explained(mine, moved, chosen),
        ]
    pairs = [(reference.double(), each.double()) for each in maps]
    return Stability(
        CONDITIONS,
        torch.stack([spearman(*pair) for pair in pairs], 1),
        torch.stack([top_overlap(*pair) for pair in pairs], 1),
        torch.stack([ssim(*pair) for pair in pairs], 1),
    )


def _in_precision(
    model: nn.Module,
    dtype: torch.dtype,
    attribute_of: Callable[[nn.Module], Attribute],
    inputs: Tensor,
    target: object,
) -> Tensor:
    plain = unwrapped(model)
    if not isinstance(plain, nn.Module):
        raise ModelError(f"a {type(model).__name__} cannot be converted to {dtype}; give the nn.Module")
    duplicate = copied(plain, "your own is not converted")
    try:
        converted = duplicate.to(dtype)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"the model cannot be converted to {dtype}: {error}") from error
    return explained(attribute_of(converted), inputs.to(dtype), target)


def _measured(given: MetricInput, protocol: Protocol) -> dict[str, Values]:
    results = {
        name: stability(given.network, explainer, given.inputs, given.target, seed=protocol.seed)
        for name, explainer in given.explainer.items()
    }
    return {
        "stability_spearman": Values({name: each.spearman for name, each in results.items()}, CONDITIONS),
        "stability_overlap": Values({name: each.overlap for name, each in results.items()}, CONDITIONS),
        "stability_ssim": Values({name: each.ssim for name, each in results.items()}, CONDITIONS),
    }


STABILITY_SPEARMAN = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="5 explanations",
    source="distillgrad, 2026",
    measurement=_measured,
    needs="method",
    axis=Axis("stability ↑", "", "rank correlation"),
)
STABILITY_OVERLAP = Metric(
    better="higher",
    bounds=(0, 1),
    cost="none beyond stability_spearman",
    source="distillgrad, 2026",
    measurement=_measured,
    needs="method",
    axis=Axis("stability ↑", "", "common among the top 10 %"),
)
STABILITY_SSIM = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="none beyond stability_spearman",
    source="distillgrad, 2026",
    measurement=_measured,
    needs="method",
    axis=Axis("stability ↑", "", "structural similarity"),
)
