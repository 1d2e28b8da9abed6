"""Localisation of an explanation on the object, for data that say where it is: a mask or a box."""

from __future__ import annotations

import torch
from torch import Tensor

from distillgrad.core.forward import accumulation_dtype
from distillgrad.core.ranking import pixel_attributions, removal_ranks
from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.base import Metric, MetricInput, Protocol, Values


def pointing_game(attributions: Tensor, masks: Tensor, *, tolerance: int = 0) -> Tensor:
    """Return 1 where a map's highest pixel lies in the mask, else 0, ``(B,)``; the mean is the accuracy.

    Ties go by index: a constant map points to the first pixel.

    Args:
        attributions: ``(B, C, H, W)``, at each pixel summed over channels, signed.
        masks: Where the object is: bool, ``(B, H, W)`` or ``(B, 1, H, W)``.
        tolerance: From the pixel to the mask at most, in pixels, Euclidean; 15 as published.
    Returns: float32, or float64 for float64. For an empty mask: NaN.
    Raises:
        InputError: attributions or masks of a wrong type or shape; attributions with NaN or infinity.
        ParameterError: ``tolerance`` negative.
    Source: Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop", §4.2.
    """
    if not tolerance >= 0:
        raise ParameterError(f"tolerance is a distance in pixels, at least 0, not {tolerance}")
    pixels, inside = _pixels(attributions, masks)
    height, width = attributions.shape[2:]
    point = pixels.argmax(1, keepdim=True)  # the first of equal ones
    place = torch.arange(height * width, device=pixels.device)
    down = place // width - point // width
    right = place % width - point % width
    near = down**2 + right**2 <= tolerance**2
    return _defined((near & inside).any(1).to(pixels.dtype), inside)


def mass_inside(attributions: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's positive attribution that lies in the mask, ``(B,)``.

    1 if all of it does; for a constant positive map the share of the image that the mask covers.

    Args:
        attributions: ``(B, C, H, W)``, at each pixel summed over channels, signed.
        masks: Where the object is: bool, ``(B, H, W)`` or ``(B, 1, H, W)``.
    Returns: float32, or float64 for float64. Where nothing is positive, or for an empty mask: NaN.
    Raises: InputError: attributions or masks of a wrong type or shape; attributions with NaN or infinity.
    Source: Arras et al. 2022, "CLEVR-XAI", relevance mass accuracy, of positive attribution.
    """
    pixels, inside = _pixels(attributions, masks)
    positive = pixels.clamp(min=0)
    positive = positive / positive.amax(1, keepdim=True)  # no sum overflows
    return _defined((positive * inside).sum(1) / positive.sum(1), inside)


def rank_inside(attributions: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's K highest pixels that lie in the mask of K pixels, ``(B,)``.

    1 if every pixel in the mask is above every other; only the order of the pixels matters, ties go by
    index.

    Args:
        attributions: ``(B, C, H, W)``, at each pixel summed over channels, signed.
        masks: Where the object is: bool, ``(B, H, W)`` or ``(B, 1, H, W)``.
    Returns: float32, or float64 for float64. For an empty mask: NaN.
    Raises: InputError: attributions or masks of a wrong type or shape; attributions with NaN or infinity.
    Cost: one stable sort.
    Source: Arras et al. 2022, "CLEVR-XAI", relevance rank accuracy.
    """
    pixels, inside = _pixels(attributions, masks)
    size = inside.sum(1, keepdim=True)
    highest = removal_ranks(pixels, highest_first=True) < size
    return _defined((highest & inside).sum(1).to(pixels.dtype) / size[:, 0], inside)


def boxes_as_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return masks ``(B, H, W)`` of the pixels whose centres lie in the boxes.

    Args:
        boxes: ``(B, 4)`` in pixels: left, top, right, bottom; the last two are exclusive.
        height: Of the images.
        width: Of the images.
    Returns: bool, on the device of ``boxes``; what of a box is outside the image is cut off.
    Raises:
        InputError: boxes of another shape, or without extent, such as ones that give a width, not an end.
        ParameterError: ``height`` or ``width`` below 1.
    """
    if height < 1 or width < 1:
        raise ParameterError(f"images have at least one pixel, not height {height} and width {width}")
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise InputError(f"boxes must be one tensor (B, 4): left, top, right, bottom; got {got}")
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    wrong = ~((left < right) & (top < bottom))[:, 0]  # NaN is wrong too
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"box {row} is {boxes[row].tolist()}, which is no left < right and top < bottom; a box given as "
            "left, top, width, height needs its ends: right = left + width"
        )
    across = torch.arange(width, device=boxes.device) + 0.5
    along = torch.arange(height, device=boxes.device) + 0.5
    columns = (left <= across) & (across < right)
    rows = (top <= along) & (along < bottom)
    return rows[:, :, None] & columns[:, None, :]


def _pixels(attributions: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return attributions of pixels ``(B, H·W)`` and whether they are in the mask, checked."""
    wide = attributions.detach().to(accumulation_dtype(attributions.dtype))
    pixels = pixel_attributions(wide)
    if not pixels.numel():
        raise InputError(f"attributions are empty: shape {tuple(attributions.shape)}")
    if not bool(torch.isfinite(pixels).all()):
        raise InputError("attributions contain NaN or infinity: they point nowhere")
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        got = str(masks.dtype) if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks must be a tensor of bool, true where the object is; got {got}: masks > 0?")
    n, height, width = pixels.shape
    if masks.shape not in ((n, height, width), (n, 1, height, width)):
        raise InputError(
            f"masks have shape {tuple(masks.shape)} for attributions of {tuple(attributions.shape)}; "
            f"expected ({n}, {height}, {width}) or ({n}, 1, {height}, {width})"
        )
    return pixels.flatten(1), masks.flatten(1).to(pixels.device)


def _defined(values: Tensor, inside: Tensor) -> Tensor:
    """Return the values, NaN where there is nothing to find."""
    return values.where(inside.any(1), torch.nan)


def _measured(given: MetricInput, _: Protocol) -> dict[str, Values]:
    masks = given.masks
    if masks is None:
        raise InputError(
            "the data does not say where the object is, which localisation metrics need: give boxes or "
            "masks, or leave out 'pointing_game' and 'mass_inside'"
        )
    maps = given.attributions
    return {
        "pointing_game": Values({name: pointing_game(each, masks) for name, each in maps.items()}),
        "mass_inside": Values({name: mass_inside(each, masks) for name, each in maps.items()}),
    }


POINTING_GAME = Metric(
    better="higher",
    bounds=(0, 1),
    cost="none",
    source="Zhang et al. 2018",
    measurement=_measured,
    needs="masks",
)
MASS_INSIDE = Metric(
    better="higher",
    bounds=(0, 1),
    cost="none",
    source="Arras et al. 2022",
    measurement=_measured,
    needs="masks",
)
