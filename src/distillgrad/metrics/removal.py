"""Images without some of their pixels: what stands in for them, and what the model then says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from distillgrad.core.batch import Batch, TargetLike, checked_batch
from distillgrad.core.chunks import in_chunks
from distillgrad.core.forward import Model, Target, accumulation_dtype, scores
from distillgrad.core.plan import checked_size, plan_rows
from distillgrad.errors import InputError, UnknownNameError
from distillgrad.metrics.imputation import noisy_linear_imputation

Imputation: TypeAlias = Literal["mean", "blur", "road"]
Baseline: TypeAlias = Tensor | float | Imputation
"""The stand-in for removed pixels: values, or of the same image its mean colour (``"mean"``), itself blurred
(``"blur"``) or what the pixels around would suggest (``"road"``)."""

IMPUTATIONS: tuple[Imputation, ...] = ("mean", "blur", "road")
BLUR_RADIUS, BLUR_SIGMA = 5, 5.0  # Petsiuk et al. 2018
FEATURES_AT_A_TIME = 8 * 3 * 224 * 224
"""The features at a time on a CPU, for each row thread: in larger batches a row takes up to a quarter longer.
A GPU is given 32 times as many."""
MOST_ROWS = 64


def checked_images(inputs: Tensor, target: TargetLike, baseline: Baseline = 0.0) -> tuple[Batch, bool]:
    """Return the images with what stands in for their pixels as baselines; and whether ROAD imputes.

    Raises:
        InputError, TargetError: as for the methods, or inputs that are not ``(B, C, H, W)``.
        UnknownNameError: a baseline by a name that does not exist.
    """
    values = 0.0 if isinstance(baseline, str) else baseline
    batch = checked_batch(inputs, target, baselines=values)
    if batch.inputs.ndim != 4:
        raise InputError(f"expected images (B, C, H, W); got shape {tuple(inputs.shape)}")
    if isinstance(baseline, str):
        if baseline not in IMPUTATIONS:
            raise UnknownNameError("baseline", baseline, IMPUTATIONS)
        if baseline == "mean":
            values = batch.inputs.mean((2, 3), keepdim=True)
        elif baseline == "blur":
            values = blurred(batch.inputs)
        batch = Batch(batch.inputs, values, batch.target, batch.extra)
    return batch, baseline == "road"


def check_attributions(attributions: Mapping[str, Tensor], batch: Batch, *, element: bool = False) -> None:
    """Check that each attribution ranks the batch's pixels, or its features if ``element``.

    Raises:
        InputError: none at all, another shape, NaN or infinity.
    """
    if not attributions:
        raise InputError("no attribution to measure; give a tensor, or a mapping of names to tensors")
    n, _, height, width = batch.inputs.shape
    pixels = (n, 1, height, width)
    for name, each in attributions.items():
        called = f"the attribution {name!r}" if name else "the attribution"
        if not isinstance(each, Tensor):
            raise InputError(f"{called} is a {type(each).__name__}, not a tensor")
        if each.shape != batch.inputs.shape and (element or each.shape != pixels):
            per_pixel = ": it says nothing about single features" if each.shape == pixels else ""
            expected = "theirs" if element else f"theirs or {pixels}"
            raise InputError(
                f"{called} has shape {tuple(each.shape)} for inputs of {tuple(batch.inputs.shape)}; "
                f"expected {expected}{per_pixel}"
            )
        if not bool(torch.isfinite(each).all()):
            raise InputError(f"{called} contains NaN or infinity: it ranks nothing")


def blurred(images: Tensor) -> Tensor:
    """Return images ``(N, C, H, W)`` under a Gaussian of σ = 5 pixels, cut at 5; the border is repeated.

    Source: the kernel of Petsiuk et al. 2018, §4.2.
    """
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
    weights = weights / weights.sum()
    planes = images.reshape(-1, 1, *images.shape[2:])
    planes = pad(planes, (BLUR_RADIUS,) * 4, mode="replicate")
    return conv2d(conv2d(planes, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1)).view_as(images)


def scores_without(
    model: Model,
    batch: Batch,
    measure: Callable[[object, Target, int], Tensor],
    kept: Callable[[int, slice], Tensor],
    n_variants: int,
    *,
    road: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor:
    """Return ``measure`` of ``n_variants`` of each image, which differ in what is kept: ``(B, n_variants)``.

    The variants of all images follow each other and fill the batches: one image alone costs no more per
    variant than many. Each is written once, by one pass over memory.

    Args:
        measure: From the model's output, the target and the number of rows to ``(rows,)``.
        kept: Of an image's number and a slice of its variants, what stays: bool, ``(n, 1 or C, H, W)``.
    Cost: B·n_variants forward passes of one row.
    """
    inputs = batch.inputs
    if not n_variants:
        return inputs.new_zeros(len(batch), 0, dtype=accumulation_dtype(inputs.dtype))
    baselines = torch.as_tensor(batch.baselines, dtype=inputs.dtype, device=inputs.device)
    baselines = baselines.expand(len(batch), *baselines.shape[1:] or (1, 1, 1))
    buffers: dict[tuple[int, int], Tensor] = {}  # by thread and number of rows

    def of_rows(chosen: slice) -> Tensor:
        n_rows = chosen.stop - chosen.start
        rows = buffers.setdefault((get_ident(), n_rows), inputs.new_empty(n_rows, *inputs.shape[1:]))
        images = torch.arange(chosen.start, chosen.stop, device=inputs.device) // n_variants
        for image in range(chosen.start // n_variants, math.ceil(chosen.stop / n_variants)):
            first = max(chosen.start, image * n_variants)
            last = min(chosen.stop, (image + 1) * n_variants)
            variants = slice(first - image * n_variants, last - image * n_variants)
            part = rows[first - chosen.start : last - chosen.start]
            if road:
                stays = kept(image, variants)
                whole = inputs[image].expand(len(stays), *inputs.shape[1:])
                part.copy_(noisy_linear_imputation(whole, stays))
            else:
                torch.where(kept(image, variants), inputs[image], baselines[image], out=part)
        target, extra = batch.arguments(images)

        def measured(output: object) -> Tensor:
            return measure(output, target, n_rows)

        values = scores(model, rows, measured, extra, disposable=True)[0]
        return values.to(accumulation_dtype(inputs.dtype), copy=True)  # it may lie in the rows' memory

    size, n_rows = checked_size(internal_batch_size), len(batch) * n_variants
    plan = plan_rows(model, batch, size or rows_at_a_time(inputs), n_rows=n_rows, per_thread=size is None)
    return in_chunks(of_rows, plan).view(len(batch), n_variants)


def rows_at_a_time(inputs: Tensor) -> int:
    """Return how many rows of this size fill the device without slowing it down."""
    fitting = max(1, min(MOST_ROWS, FEATURES_AT_A_TIME // inputs[0].numel()))
    return fitting if inputs.device.type == "cpu" else 32 * fitting
