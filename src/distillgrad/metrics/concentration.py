"""Concentration of an explanation: on few pixels, which is easy to read, or spread over all."""

from __future__ import annotations

import torch
from torch import Tensor

from distillgrad.core.forward import accumulation_dtype
from distillgrad.core.ranking import pixel_attributions
from distillgrad.errors import InputError
from distillgrad.metrics.base import Metric, MetricInput, Protocol, Values


def complexity(attributions: Tensor) -> Tensor:
    """Return the entropy of each map's magnitudes as a distribution over the pixels, in nats, ``(B,)``.

    ``−Σ pⱼ·log pⱼ`` with ``pⱼ = |φⱼ| / Σ|φ|``: 0 for a map of one pixel, ``log d`` for one of d equal
    pixels; the scale and the sign of a map do not matter.

    Args:
        attributions: ``(B, C, H, W)``, at each pixel summed over channels, signed.
    Returns: float32, or float64 for float64. A map of zeros is no distribution: NaN.
    Raises: InputError: attributions of no images, or with NaN or infinity.
    Source: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", def. 3.
    """
    magnitudes = _magnitudes(attributions)
    shares = magnitudes / magnitudes.sum(1, keepdim=True)
    return -torch.xlogy(shares, shares).sum(1)


def sparseness(attributions: Tensor) -> Tensor:
    """Return the Gini index of each map's magnitudes, ``(B,)``.

    ``Σₖ (2k − d − 1)·|φ|₍ₖ₎ / (d·Σ|φ|)`` over the d magnitudes in ascending order: 0 for equal pixels,
    ``1 − 1/d`` for a map of one pixel; the scale and the sign of a map do not matter.

    Args:
        attributions: ``(B, C, H, W)``, at each pixel summed over channels, signed.
    Returns: float32, or float64 for float64. For a map of zeros, whose shares are undefined: NaN.
    Raises: InputError: attributions of no images, or with NaN or infinity.
    Cost: one sort.
    Source: Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training".
    """
    magnitudes = _magnitudes(attributions).sort(1).values
    n_pixels = magnitudes.shape[1]
    places = torch.arange(1, n_pixels + 1, dtype=magnitudes.dtype, device=magnitudes.device)
    weights = (2 * places - n_pixels - 1) / n_pixels
    return (weights * magnitudes).sum(1) / magnitudes.sum(1)


def _magnitudes(attributions: Tensor) -> Tensor:
    """Return ``(B, H·W)``, of which the largest of each row is 1, so that no sum overflows; NaN for zeros."""
    wide = attributions.detach().to(accumulation_dtype(attributions.dtype))
    if not wide.numel():
        raise InputError(f"attributions are empty: shape {tuple(attributions.shape)}")
    pixels = pixel_attributions(wide).flatten(1).abs()
    if not bool(torch.isfinite(pixels).all()):
        raise InputError("attributions contain NaN or infinity: they have no distribution over the pixels")
    return pixels / pixels.amax(1, keepdim=True)


def _complexity(given: MetricInput, _: Protocol) -> Values:
    return Values({name: complexity(each) for name, each in given.attributions.items()})


def _sparseness(given: MetricInput, _: Protocol) -> Values:
    return Values({name: sparseness(each) for name, each in given.attributions.items()})


COMPLEXITY = Metric(better="lower", cost="none", source="Bhatt et al. 2020", measurement=_complexity)
SPARSENESS = Metric(
    better="higher", bounds=(0, 1), cost="none", source="Chalasani et al. 2020", measurement=_sparseness
)
