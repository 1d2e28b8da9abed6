"""Attributions of regions rather than pixels: XRAI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model
from distillgrad.core.optional import optional
from distillgrad.errors import InputError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import gradient_facts
from distillgrad.methods.integrated_gradients import IntegratedGradients

SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA = 0.8
SMALLEST_SEGMENT = 150
SEGMENTED_SIDE = 224  # the scales and sizes above are for pictures of this side
RADIUS = 5
LEAST_GAIN = 50  # pixels that a segment must add to be ranked


class XRAI(GradientMethod):
    """Regions of the image, ranked by the integrated gradients they hold per pixel.

    Segments of several sizes, a little enlarged, compete: the one whose pixels not yet taken have the
    highest mean attribution is taken next, and those pixels get that mean. Pixels that no segment brings
    get theirs at the end, so a map sums to what the pixels' attributions sum to.

    Unsigned: a pixel's attribution is the highest of its channels', so what speaks against is hidden, and
    a region's mean below 0 says only that it ranks low.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Steps of each of the two paths, at least 1.
    Raises:
        ParameterError: ``n_steps`` below 1.
        InputError: inputs that are not images ``(N, C, H, W)`` of 1 to 3 channels.
        MissingExtraError: scikit-image is not installed.
    Cost: 2·n_steps forward and backward passes, and one forward pass for the prediction; six
        segmentations of each row, on the CPU.
    Source: Kapishnikov et al. 2019. Departures: the published baselines, black and white, are here each
        channel's lowest and highest value in the row, since inputs are normalised; ``baselines`` is not
        used. Below 224 pixels a side the radius of the enlargement and the least gain shrink with it.
    """

    signed = False
    result = "pixels"
    cost = "2·n_steps gradient passes (100)"
    source = "Kapishnikov et al. 2019"
    multiplies_by_inputs = True

    def __init__(self, model: Model, n_steps: int = 50) -> None:
        super().__init__(model)
        self.n_steps = whole_number("n_steps", n_steps)

    @property
    def n_passes(self) -> int:
        """``n_steps`` passes along each of two paths, and one for the prediction where no target is given."""
        return 2 * self.n_steps + 1

    @property
    def _zero_means(self) -> str:
        return "the integrated gradients of every region come to zero"

    def _blank_facts(self, batch: Batch) -> Sequence[str]:
        return gradient_facts(self.forward_func, batch, by_baselines=False)

    def _attribute(self, batch: Batch) -> Tensor:
        shape = tuple(batch.inputs.shape)
        if len(shape) != 4 or shape[1] > 3:
            raise InputError(
                f"XRAI segments pictures: inputs must be (N, C, H, W) with 1 to 3 channels; got {shape}"
            )
        optional("skimage.segmentation", "regions", "scikit-image")  # missing: said before the gradients
        batch = with_target(self.forward_func, batch)
        black, white = (bound(batch.inputs, dim=(2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
        integrated = IntegratedGradients(self.forward_func, self.n_steps)._attribute
        attributions = integrated(replace(batch, baselines=black))
        attributions = (attributions + integrated(replace(batch, baselines=white))) / 2
        pixels = attributions.amax(1).cpu()
        pictures = batch.inputs.double().permute(0, 2, 3, 1).cpu()
        maps = [
            ranked_regions(pixel.double().numpy(), segments(picture.numpy())) if _finite(pixel) else pixel
            for pixel, picture in zip(pixels, pictures, strict=True)
        ]
        return torch.stack([torch.as_tensor(each, device="cpu") for each in maps])[:, None].to(attributions)


def segments(picture: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the enlarged segments of a picture ``(H, W, C)`` at all scales, as masks ``(K, H·W)``.

    The picture is scaled to [-1, 1] by its own range and to 224 × 224, which the published scales are for.
    """
    felzenszwalb = optional("skimage.segmentation", "regions", "scikit-image").felzenszwalb
    resize = optional("skimage.transform", "regions", "scikit-image").resize
    sides = picture.shape[:2]
    lowest, highest = picture.min(), picture.max()
    scaled = (picture - lowest) / ((highest - lowest) or 1) * 2 - 1
    square = (SEGMENTED_SIDE, SEGMENTED_SIDE)
    scaled = resize(scaled, square, order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    y, x = [((np.arange(side) + 0.5) * SEGMENTED_SIDE / side).astype(int) for side in sides]
    radius = min(RADIUS, round(RADIUS * min(sides) / SEGMENTED_SIDE))
    masks = []
    for scale in SCALES:
        labels = felzenszwalb(scaled, scale=scale, sigma=SIGMA, min_size=SMALLEST_SEGMENT, channel_axis=-1)
        masks.append(enlarged(labels[np.ix_(y, x)], radius))
    return np.concatenate(masks)


def enlarged(labels: NDArray[Any], radius: int) -> NDArray[np.bool_]:
    """Return each label's pixels and those within ``radius`` of them, as masks ``(labels, H·W)``.

    All segments at once: each offset of the disk shifts the whole picture of labels.
    """
    height, width = labels.shape
    masks = np.zeros((int(labels.max()) + 1, height, width), dtype=bool)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy * dy + dx * dx <= radius * radius:
                here = (slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0)))
                there = (slice(max(-dy, 0), height + min(-dy, 0)), slice(max(-dx, 0), width + min(-dx, 0)))
                masks[labels[there], y[here[0]], x[:, here[1]]] = True
    return masks.reshape(len(masks), -1)


def ranked_regions(pixels: NDArray[np.float64], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the map ``(H, W)`` that ranking masks ``(K, H·W)`` greedily makes of attributions ``(H, W)``.

    Sizes and sums of what each segment would add are kept up to date: a pixel is taken off once, so the
    loop costs K·H·W in all, not for each segment that is taken.
    """
    values = pixels.ravel()
    least = min(LEAST_GAIN, -(-LEAST_GAIN * values.size // SEGMENTED_SIDE**2))
    members = np.ascontiguousarray(masks.T)
    sizes, sums = masks.sum(1), np.array([values[mask].sum() for mask in masks])
    free = np.ones(values.size, dtype=bool)
    ranked = np.empty_like(values)
    while (sizes >= least).any():
        best = np.where(sizes >= least, sums / np.maximum(sizes, 1), -np.inf).argmax()
        taken = np.flatnonzero(masks[best] & free)
        ranked[taken] = values[taken].mean()
        free[taken] = False
        sizes = sizes - members[taken].sum(0)
        sums = sums - values[taken] @ members[taken]
    if free.any():
        ranked[free] = values[free].mean()
    return ranked.reshape(pixels.shape)


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
