"""Robustness of an explanation, and of how faithful it is, to noise on the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, accumulation_dtype
from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.perturbation_curves import morf_and_lerf
from distillgrad.metrics.removal import Baseline, checked_images
from distillgrad.metrics.similarity import Attribute, explained, spearman, ssim


@dataclass(frozen=True)
class NoiseRobustness:
    """The explanations of noisy inputs beside those of the inputs themselves.

    Attributes:
        sigmas: The noise's standard deviations, ``(S,)``, in units of the inputs.
        spearman: Rank correlation with the explanation of the clean input, ``(B, S)``.
        ssim: Structural similarity with it, ``(B, S)``.
        morf: The area under the MoRF curve of each explanation on its own input, the clean one first,
            ``(B, S+1)``; ``None`` if it was not asked for.
        lerf: The same under the LeRF curve.
    """

    sigmas: Tensor
    spearman: Tensor
    ssim: Tensor
    morf: Tensor | None
    lerf: Tensor | None


def noise_robustness(
    model: Model,
    attribute: Attribute,
    inputs: Tensor,
    target: TargetLike,
    *,
    sigmas: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
    noise: Tensor | None = None,
    seed: int = 0,
    perturbation: bool = True,
    n_steps: int = 20,
    baseline: Baseline = 0.0,
    internal_batch_size: int | None = None,
) -> NoiseRobustness:
    """Compare explanations of ``x + σ·z`` with that of ``x``, for each σ: likeness and faithfulness.

    One ``z`` for all σ, so that only the strength changes, and for all images, so that a row's result
    does not depend on its batch: standard normal, drawn for the shape of one image from ``seed``, the same
    on every device. Noisy inputs are not clipped. The class stays that of the clean input.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, classes)``, or as for the methods.
        attribute: Explains inputs for a target, such as ``dg.DGA(model).attribute``.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: A class, one per sample, or ``None`` for the prediction on the clean inputs.
        sigmas: Standard deviations, at least one, each finite and ≥ 0.
        noise: Takes the place of ``z``; broadcasts to ``inputs``, so each image may have its own.
        seed: Of the noise.
        perturbation: Whether ``morf`` and ``lerf`` are wanted; they take most of the time.
        n_steps: Of their curves; ``baseline`` and ``internal_batch_size`` too are those of
            :func:`~distillgrad.metrics.perturbation_curves.pixel_perturbation`.
        baseline: What removed pixels become; an image's own blur or mean is that of the noisy one.
        internal_batch_size: Rows at a time of the curves; ``attribute`` gets all rows at once.
    Raises:
        InputError: inputs that are no images, noise that does not fit them, attributions with NaN.
        UnknownNameError: a baseline by a name that does not exist.
        ParameterError: a standard deviation that is negative or not finite, or none.
        ModelError: ``attribute`` gives no attributions of the inputs.
    Cost: S+1 explanations and, for the curves, 2·(S+1)·B·n_steps forward passes of one row.
    Source: Jeon et al. 2022, §3.1 and Figure 2.
    """
    strengths = _strengths(sigmas)
    batch, _ = checked_images(inputs, target, baseline)
    direction = _direction(batch.inputs, noise, seed)
    ranks: list[Tensor] = []
    structures: list[Tensor] = []
    areas: list[tuple[Tensor, Tensor]] = []
    with evaluating(model), outside_inference_mode():
        batch = with_target(model, batch)

        def at(sigma: float) -> Tensor:
            """Return the explanation at one strength; notes its areas."""
            noisy = (batch.inputs.to(direction) + sigma * direction).to(batch.inputs.dtype)
            attributions = explained(attribute, noisy, batch.target)
            if perturbation:
                curves = morf_and_lerf(
                    model,
                    noisy,
                    batch.target,
                    attributions,
                    n_steps=n_steps,
                    baseline=baseline,
                    internal_batch_size=internal_batch_size,
                )
                areas.append((curves.morf.auc, curves.lerf.auc))
            return attributions

        clean = at(0.0)
        for sigma in strengths:
            attributions = at(sigma)
            ranks.append(spearman(clean, attributions))
            structures.append(ssim(clean, attributions))
    by_rank = torch.stack(ranks, 1)
    morf, lerf = (torch.stack(each, 1) for each in zip(*areas, strict=True)) if areas else (None, None)
    return NoiseRobustness(by_rank.new_tensor(strengths), by_rank, torch.stack(structures, 1), morf, lerf)


def _strengths(sigmas: Sequence[float]) -> list[float]:
    strengths = [float(sigma) for sigma in sigmas]
    if not strengths or not all(0 <= sigma < math.inf for sigma in strengths):
        raise ParameterError(f"sigmas must be finite and ≥ 0, at least one; got {strengths}")
    return strengths


def _direction(inputs: Tensor, noise: Tensor | None, seed: int) -> Tensor:
    """Return the noise of unit strength, in float32, or float64 for float64."""
    dtype = accumulation_dtype(inputs.dtype)
    if noise is None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
        return drawn.to(dtype).to(inputs.device)
    try:
        direction = noise.detach().to(inputs.device, dtype).expand(inputs.shape)
    except RuntimeError as error:
        raise InputError(
            f"noise of shape {tuple(noise.shape)} does not broadcast to the inputs' {tuple(inputs.shape)}"
        ) from error
    if not bool(torch.isfinite(direction).all()):
        raise InputError("the noise contains NaN or infinity; give finite numbers, or none to have it drawn")
    return direction


def _measured(given: MetricInput, protocol: Protocol) -> dict[str, Values]:
    results = {
        name: noise_robustness(
            given.model,
            explainer(given.model),
            given.inputs,
            given.target,
            sigmas=protocol.sigmas,
            seed=protocol.seed,
            perturbation=False,
        )
        for name, explainer in given.explainer.items()
    }
    return {
        "noise_spearman": Values({name: each.spearman for name, each in results.items()}, protocol.sigmas),
        "noise_ssim": Values({name: each.ssim for name, each in results.items()}, protocol.sigmas),
    }


NOISE_SPEARMAN = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="5 explanations",
    source="Jeon et al. 2022, Figure 2",
    measurement=_measured,
    needs="method",
    axis=Axis("likeness under noise ↑", "σ", "rank correlation"),
)
NOISE_SSIM = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="none beyond noise_spearman",
    source="Jeon et al. 2022, Figure 2",
    measurement=_measured,
    needs="method",
    axis=Axis("likeness under noise ↑", "σ", "structural similarity"),
)
