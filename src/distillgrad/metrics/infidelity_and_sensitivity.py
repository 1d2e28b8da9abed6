"""Infidelity and sensitivity of explanations: Captum's, with draws that no batch and no chunk changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.batch import (
    Batch,
    TargetLike,
    checked_batch,
    outside_inference_mode,
    with_target,
)
from distillgrad.core.chunks import in_chunks
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, accumulation_dtype, scores
from distillgrad.core.plan import Plan, checked_size
from distillgrad.errors import InputError, ParameterError, TargetError, UnknownNameError
from distillgrad.metrics.base import Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import rows_at_a_time
from distillgrad.metrics.similarity import Attribute, explained

Perturbation: TypeAlias = Literal["square", "gaussian"]
PERTURBATIONS = ("square", "gaussian")


def infidelity(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor,
    *,
    perturbation: Perturbation = "square",
    n_draws: int = 100,
    sigma: float = 0.003,
    baseline: Tensor | float = 0.0,
    normalize: bool = False,
    seed: int = 0,
    internal_batch_size: int | None = None,
) -> Tensor:
    """Return the mean squared error, ``(B,)``, with which an explanation foretells what perturbations do.

    ``mean over I of (⟨I, φ⟩ − (f(x) − f(x̃)))²``, f the logit. The draws of I are shared by the images, so a
    row's result does not depend on its batch; compare methods under one seed. Which perturbation fits
    depends on φ's unit:

    - ``"square"``, for attributions in logits (DGA, integrated gradients, anything times input): a square
      of 1 to half the shorter side, anywhere, goes to the baseline; I is 1 there and 0 elsewhere. The
      default, because removal to a baseline is what such a φ shares out: 0 for an additive model
      explained by its terms.
    - ``"gaussian"``, for attributions per unit of input (gradients): ``x̃ = x − I``, ``I ~ N(0, σ²)``;
      the baseline is not used. 0 for a linear model explained by its gradient.

    Args:
        model: From ``(N, C, H, W)`` to logits ``(N, classes)``, or as for the methods.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: A class, one per sample, ``None`` for the prediction, or a callable.
        attributions: Of features, the shape of ``inputs``.
        perturbation: ``"square"`` or ``"gaussian"``.
        n_draws: Perturbations of each image.
        sigma: Of ``"gaussian"``, in units of the inputs.
        baseline: What removed features become; broadcasts to ``inputs``.
        normalize: Scales each φ by the factor with the least error first, for maps without a unit.
        seed: Of the draws.
        internal_batch_size: Rows at a time; by default what suits the device.
    Raises:
        InputError: attributions of another shape, also such of pixels, or with NaN.
        ParameterError: ``n_draws`` or ``sigma`` out of range.
    Cost: B·(n_draws+1) forward passes of one row.
    Source: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", by Captum's
        ``captum.metrics.infidelity``; Captum's default is 10 draws, and the perturbation is left open.
    """
    from captum.metrics import infidelity as captum_infidelity

    if perturbation not in PERTURBATIONS:
        raise UnknownNameError("perturbation", str(perturbation), PERTURBATIONS)
    if not 0 < sigma < math.inf:
        raise ParameterError(f"sigma must be finite and above 0, not {sigma}")
    batch = _checked(inputs, target, n_draws, baseline)
    if not isinstance(attributions, Tensor) or attributions.shape != batch.inputs.shape:
        got = tuple(attributions.shape) if isinstance(attributions, Tensor) else type(attributions).__name__
        raise InputError(
            f"infidelity weighs every feature: attributions must have the inputs' shape "
            f"{tuple(inputs.shape)}, not {got}; share a map of pixels out among the channels: "
            "attributions.expand_as(inputs) / inputs.shape[1]"
        )
    if not bool(torch.isfinite(attributions).all()):
        raise InputError("the attributions contain NaN or infinity; mend or leave those samples out")
    wide = attributions.detach().to(inputs.device, accumulation_dtype(inputs.dtype)).contiguous()
    size = checked_size(internal_batch_size) or rows_at_a_time(batch.inputs)
    at_once = min(n_draws, max(1, size // len(batch)))

    def of_rows(chosen: slice) -> Tensor:
        part = batch.rows(chosen)
        draws = _squares(part, seed) if perturbation == "square" else _gaussians(part, seed, sigma)
        clean = _scores(model, part)

        def score(rows: Tensor) -> Tensor:
            if rows is part.inputs:  # Captum asks for it once for every chunk of draws
                return clean
            repeated = replace(_repeated(part, len(rows)), inputs=rows)
            all_at_once = Plan(len(rows), len(rows))
            return in_chunks(lambda some: _scores(model, repeated.rows(some)), all_at_once)

        def perturbed(rows: Tensor) -> tuple[Tensor, Tensor]:
            drawn = torch.stack(list(islice(draws, len(rows) // len(part))))
            drawn = drawn.to(wide).repeat(len(part), *(1,) * (rows.ndim - 1))
            if perturbation == "gaussian":
                return drawn, (rows.to(wide.dtype) - drawn).to(rows.dtype)
            repeated = _repeated(part, len(rows))
            return drawn, repeated.shifted(repeated.difference * (1 - drawn))

        values: Tensor = captum_infidelity(
            score,
            perturbed,
            part.inputs,
            wide[chosen],
            n_perturb_samples=n_draws,
            max_examples_per_batch=at_once * len(part),
            normalize=normalize,
        )
        return values

    with evaluating(model), outside_inference_mode():
        batch = with_target(model, batch)
        return in_chunks(of_rows, Plan(len(batch), size))


def max_sensitivity(
    attribute: Attribute,
    inputs: Tensor,
    target: TargetLike,
    *,
    radius: float = 0.02,
    n_draws: int = 10,
    seed: int = 0,
    internal_batch_size: int | None = None,
) -> Tensor:
    """Return the greatest relative change, ``(B,)``, of an explanation when its input moves a little.

    ``max over r of ‖φ(x + r) − φ(x)‖ / ‖φ(x)‖``, every entry of r uniform within ±radius; the denominator
    is 1 for a map of zeros. The draws of r are shared by the images, so a row's result does not depend on
    its batch. Unchanged by any factor of φ; 0 for an explanation that does not depend on the input.

    Args:
        attribute: Explains inputs for a target, such as ``dg.DGA(model).attribute``.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: A class, one per sample, or a callable; not ``None``: a prediction could change with r.
        radius: In units of the inputs.
        n_draws: Perturbations of each image.
        seed: Of the draws.
        internal_batch_size: Rows that ``attribute`` gets at a time; by default B.
    Raises:
        TargetError: no target.
        ParameterError: ``radius`` or ``n_draws`` out of range.
        ModelError: ``attribute`` gives no attributions of the inputs.
    Cost: B·(n_draws+1) explanations.
    Source: Yeh et al. 2019, by Captum's ``captum.metrics.sensitivity_max``, whose own draws come from the
        global generator and depend on the batch.
    """
    from captum.metrics import sensitivity_max

    if not 0 < radius < math.inf:
        raise ParameterError(f"radius must be finite and above 0, not {radius}")
    if target is None:
        raise TargetError("name the class to explain: the predicted one could change with the perturbation")
    batch = _checked(inputs, target, n_draws)
    size = checked_size(internal_batch_size) or len(batch)
    at_once = min(n_draws, max(1, size // len(batch)))

    def of_rows(chosen: slice) -> Tensor:
        part = batch.rows(chosen)
        draws = _uniforms(part, seed, radius)

        def explanation(rows: Tensor | tuple[Tensor]) -> tuple[Tensor]:  # Captum begins with a tuple
            given = rows[0] if isinstance(rows, tuple) else rows
            attributions = explained(attribute, given, _repeated(part, len(given)).target)
            return (attributions.to(accumulation_dtype(attributions.dtype)).contiguous(),)

        def perturbed(rows: Tensor) -> Tensor:
            drawn = torch.stack(list(islice(draws, len(rows) // len(part)))).to(part.difference)
            return (rows.to(drawn.dtype) + drawn.repeat(len(part), 1, 1, 1)).to(rows.dtype)

        values: Tensor = sensitivity_max(
            explanation,
            part.inputs,
            perturbed,
            n_perturb_samples=n_draws,
            max_examples_per_batch=at_once * len(part),
        )
        return values

    with outside_inference_mode():
        return in_chunks(of_rows, Plan(len(batch), size))


def _checked(inputs: Tensor, target: TargetLike, n_draws: int, baseline: Tensor | float = 0.0) -> Batch:
    batch = checked_batch(inputs, target, baselines=baseline)
    if batch.inputs.ndim != 4:
        raise InputError(f"expected images (B, C, H, W); got shape {tuple(inputs.shape)}")
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise ParameterError(f"n_draws must be a whole number of at least 1, not {n_draws!r}")
    return batch


def _scores(model: Model, batch: Batch) -> Tensor:
    score = scores(model, batch.inputs, batch.target)[0]
    return score.to(accumulation_dtype(batch.inputs.dtype))


def _repeated(batch: Batch, n_rows: int) -> Batch:
    """Return each row so often that there are ``n_rows``, a row's repetitions together, as Captum's."""
    rows = torch.arange(len(batch), device=batch.inputs.device)
    return batch.rows(rows.repeat_interleave(n_rows // len(batch)))


def _squares(batch: Batch, seed: int) -> Iterator[Tensor]:
    """Yield squares of ones among zeros, ``(C, H, W)``, without end."""
    generator = torch.Generator().manual_seed(seed)
    height, width = batch.inputs.shape[2:]
    while True:
        side = int(
            torch.randint(1, max(min(height, width) // 2, 1) + 1, (), generator=generator, device="cpu")
        )
        top, left = (
            int(torch.randint(length - side + 1, (), generator=generator, device="cpu"))
            for length in (height, width)
        )
        removed = torch.zeros(batch.inputs.shape[1:], device="cpu")
        removed[:, top : top + side, left : left + side] = 1
        yield removed


def _gaussians(batch: Batch, seed: int, sigma: float) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield sigma * torch.randn(
            batch.inputs.shape[1:], generator=generator, dtype=torch.float64, device="cpu"
        )


def _uniforms(batch: Batch, seed: int, radius: float) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        unit = torch.rand(batch.inputs.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
        yield radius * (2 * unit - 1)


def _infidelity(given: MetricInput, protocol: Protocol) -> Values:
    whole = {
        name: each.expand_as(given.inputs) / (1 if each.shape[1] > 1 else given.inputs.shape[1])
        for name, each in given.attributions.items()
    }
    return Values(
        {
            name: infidelity(
                given.model, given.inputs, given.target, each, seed=protocol.seed, normalize=True
            )
            for name, each in whole.items()
        }
    )


def _max_sensitivity(given: MetricInput, protocol: Protocol) -> Values:
    return Values(
        {
            name: max_sensitivity(explainer(given.model), given.inputs, given.target, seed=protocol.seed)
            for name, explainer in given.explainer.items()
        }
    )


INFIDELITY = Metric(
    better="lower", cost="101 forward passes", source="Yeh et al. 2019", measurement=_infidelity
)
MAX_SENSITIVITY = Metric(
    better="lower",
    cost="11 explanations",
    source="Yeh et al. 2019",
    measurement=_max_sensitivity,
    needs="method",
)
