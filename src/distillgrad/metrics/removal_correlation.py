"""Sensitivity-n: how well the sum of attributions predicts what removing those pixels costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, select
from distillgrad.core.ranking import pixel_attributions
from distillgrad.errors import ParameterError
from distillgrad.metrics.base import FRACTIONS, Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import Baseline, check_attributions, checked_images, scores_without


@dataclass(frozen=True)
class SensitivityN:
    """The correlation of attribution sums with the drops of the score, by fraction removed.

    Attributes:
        fractions: The share of the cells that is removed, ``(F,)``.
        correlations: Pearson's, over the masks of a fraction, ``(B, F)``; NaN where it is undefined,
            because the attribution's sums or the score's drops do not vary.
        grid: Cells per side of the masks.
    """

    fractions: Tensor
    correlations: Tensor
    grid: int

    @property
    def mean(self) -> Tensor:
        """The mean over the samples where it is defined, ``(F,)``."""
        return self.correlations.nanmean(0)

    @property
    def n_excluded(self) -> Tensor:
        """The number of samples that have no correlation, ``(F,)``."""
        return self.correlations.isnan().sum(0)


@overload
def sensitivity_n(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor,
    *,
    fractions: Sequence[float] = ...,
    n_masks: int = ...,
    grid: int | None = ...,
    baseline: Baseline = ...,
    generator: torch.Generator | None = ...,
    internal_batch_size: int | None = ...,
) -> SensitivityN: ...
@overload
def sensitivity_n(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Mapping[str, Tensor],
    *,
    fractions: Sequence[float] = ...,
    n_masks: int = ...,
    grid: int | None = ...,
    baseline: Baseline = ...,
    generator: torch.Generator | None = ...,
    internal_batch_size: int | None = ...,
) -> dict[str, SensitivityN]: ...
def sensitivity_n(
    model: Model,
    inputs: Tensor,
    target: TargetLike,
    attributions: Tensor | Mapping[str, Tensor],
    *,
    fractions: Sequence[float] = FRACTIONS,
    n_masks: int = 100,
    grid: int | None = None,
    baseline: Baseline = 0.0,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> SensitivityN | dict[str, SensitivityN]:
    """Return correlations for one attribution, or for each of several by name.

    A mask removes exactly ``round(q·grid²)`` of the image's cells; the correlation is between the drop of
    the target's score (its logit) and the sum of the attributions removed. 1 for the gradient times the
    input of a linear model.

    Args:
        model, inputs, target, baseline, internal_batch_size: As for
            :func:`~distillgrad.metrics.perturbation_curves.pixel_perturbation`.
        attributions: ``(B, C, H, W)`` or ``(B, 1, H, W)``.
        fractions: Shares q of the cells to remove; each must remove at least one and leave one.
        n_masks: Random masks per fraction, the same for every sample and attribution: with few, means over
            samples keep an error that an interval over samples does not show.
        grid: Cells per side; by default 14, or 8 for images under 112 pixels, as far as there are pixels.
        generator: Of the masks, on the CPU; by default one seeded with 0.
    Raises:
        InputError: attributions of another shape, or with NaN or infinity.
        ParameterError: a fraction, number of masks or grid out of range.
    Cost: B·(F·n_masks + 1) forward passes of one row, whatever the number of attributions.
    Source: Ancona et al. 2018; Jeon et al. 2022, §4.2, eq. 13.
    """
    batch, road = checked_images(inputs, target, baseline)
    named = attributions if isinstance(attributions, Mapping) else {"": attributions}
    check_attributions(named, batch)
    height, width = batch.inputs.shape[2:]
    shorter = min(height, width)
    if grid is None:
        grid = default_grid(shorter)
    elif not isinstance(grid, int) or not 2 <= grid <= shorter:
        raise ParameterError(
            f"grid must be a whole number from 2 to the image's {shorter} pixels, not {grid!r}"
        )
    removed = random_masks(fractions, n_masks, grid, generator).to(batch.inputs.device)
    n_fractions = len(removed)
    removed = removed.flatten(0, 1)
    rows, columns = (cells_of(side, grid).to(removed.device) for side in (height, width))
    # The last variant of an image is the whole one.
    variants_kept = torch.cat([~removed, torch.ones_like(removed[:1])])

    def kept(_: int, variants: slice) -> Tensor:
        return variants_kept[variants][:, None, rows][..., columns]

    with evaluating(model), outside_inference_mode():
        batch = with_target(model, batch)
        outputs = scores_without(
            model,
            batch,
            select,
            kept,
            len(variants_kept),
            road=road,
            internal_batch_size=internal_batch_size,
        ).double()
    drops = (outputs[:, -1:] - outputs[:, :-1]).view(len(batch), n_fractions, n_masks)
    # What rounding alone makes of outputs that are equal.
    noise = 8 * torch.finfo(batch.inputs.dtype).eps * outputs.abs().amax(1)[:, None]
    cell = (rows[:, None] * grid + columns).flatten()
    measured = {}
    for name, each in named.items():
        pixels = pixel_attributions(each.detach().to(removed.device).double()).flatten(1)
        cells = pixels.new_zeros(len(batch), grid * grid).index_add_(1, cell, pixels)
        sums = (cells @ removed.flatten(1).double().T).view_as(drops)
        correlations = _pearson(drops, sums, noise, 1e-12 * cells.abs().sum(1)[:, None])
        measured[name] = SensitivityN(
            torch.tensor(list(fractions), dtype=torch.float64, device=removed.device), correlations, grid
        )
    return measured if isinstance(attributions, Mapping) else measured[""]


def default_grid(side: int) -> int:
    """Return cells per side of the masks for images whose shorter side has so many pixels."""
    return min(14 if side >= 112 else 8, side)


def random_masks(
    fractions: Sequence[float], n_masks: int, grid: int, generator: torch.Generator | None = None
) -> Tensor:
    """Return the cells that each mask removes, bool ``(F, n_masks, grid, grid)``: ``round(q·grid²)``.

    Raises:
        ParameterError: no fraction, one that removes no cell or all, or fewer than 2 masks.
    """
    if isinstance(n_masks, bool) or not isinstance(n_masks, int) or n_masks < 2:
        raise ParameterError(f"n_masks must be a whole number of at least 2, not {n_masks!r}")
    n_cells = grid * grid
    counts = [round(fraction * n_cells) if math.isfinite(fraction) else 0 for fraction in fractions]
    if not counts:
        raise ParameterError("fractions are empty; give at least one, such as 0.5")
    for fraction, count in zip(fractions, counts, strict=True):
        if not 0 < count < n_cells:
            raise ParameterError(
                f"the fraction {fraction} removes {count} of {n_cells} cells; a correlation needs at least "
                "one removed and one left"
            )
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    order = torch.rand(len(counts), n_masks, n_cells, generator=generator, device="cpu").argsort(2).argsort(2)
    return (order < torch.tensor(counts, device="cpu")[:, None, None]).view(len(counts), n_masks, grid, grid)


def cells_of(side: int, grid: int) -> Tensor:
    """Return the cell of each of ``side`` pixels, as nearest-neighbour upsampling of a grid assigns it."""
    return torch.arange(side, device="cpu") * grid // side


def _pearson(first: Tensor, second: Tensor, first_noise: Tensor, second_noise: Tensor) -> Tensor:
    """Return correlations over the last axis; NaN where one does not vary beyond its noise ``(B, 1)``."""
    first = first - first.mean(2, keepdim=True)
    second = second - second.mean(2, keepdim=True)
    varies = (first.abs().amax(2) > first_noise) & (second.abs().amax(2) > second_noise)
    scale = (first.square().sum(2) * second.square().sum(2)).sqrt()
    return torch.where(varies, (first * second).sum(2) / scale, torch.nan).clamp(-1, 1)


def _measured(given: MetricInput, protocol: Protocol) -> Values:
    results = sensitivity_n(
        given.model,
        given.inputs,
        given.target,
        given.attributions,
        fractions=protocol.fractions,
        n_masks=protocol.n_masks,
        baseline=protocol.baseline,
        generator=torch.Generator().manual_seed(protocol.seed),
    )
    return Values({name: each.correlations for name, each in results.items()}, protocol.fractions)


SENSITIVITY_N = Metric(
    better="higher",
    bounds=(-1, 1),
    cost="901 forward passes for all methods",
    source="Ancona et al. 2018",
    measurement=_measured,
    axis=Axis("sensitivity-n ↑", "share of cells removed", "correlation"),
)
