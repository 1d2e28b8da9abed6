"""The order in which an explanation removes pixels, stored small, and the images that removal leaves."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from distillgrad.core.batch import outside_inference_mode
from distillgrad.core.ranking import pixel_attributions, removal_ranks
from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.imputation import noisy_linear_imputation
from distillgrad.metrics.removal import Baseline, checked_images

RANKED_AT_A_TIME = 2**22
"""Pixels: sorting takes some twenty bytes for each."""


def ranks_to_store(attributions: Tensor) -> Tensor:
    """Return what ROAR needs of attributions: each pixel's place in the order of removal, ``(N, H, W)``.

    The most relevant pixel has rank 0; channels are summed, signed, and ties go by index. Nothing is lost:
    ranks are uint8 for up to 256 pixels, uint16 for up to 65,536, else int32. An image takes H·W bytes, or
    2·H·W, or 4·H·W: one of digits 64, one of CIFAR-10 2,048, so that 60,000 of these take 123 MB.

    Args:
        attributions: ``(N, C, H, W)`` or ``(N, 1, H, W)``.
    Raises:
        InputError: another shape, NaN or infinity.
    Cost: one stable sort per image.
    """
    values = pixel_attributions(attributions.detach())
    if not values.numel():
        raise InputError(f"attributions are empty: shape {tuple(attributions.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise InputError("attributions contain NaN or infinity: they rank nothing")
    rows = max(1, RANKED_AT_A_TIME // values[0].numel())
    dtype = _smallest(values[0].numel())
    ranks = [
        removal_ranks(each, highest_first=True).to(dtype) for each in torch.split(values.flatten(1), rows)
    ]
    return torch.cat(ranks).view(values.shape)


def random_ranks(n_images: int, height: int, width: int, *, seed: int) -> Tensor:
    """Return ranks that know nothing, ``(N, H, W)``, one order for each image: ROAR's control."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(height * width, generator=generator, device="cpu") for _ in range(n_images)]
    return torch.stack(orders).view(-1, height, width).to(_smallest(height * width))


def without_top(
    images: Tensor, ranks: Tensor, fraction: float, *, replacement: Baseline = "mean", keep: bool = False
) -> Tensor:
    """Return the images without the ``round(fraction·H·W)`` pixels of lowest rank, in all channels.

    With ``keep`` these stay and all others go, so that either variant has what the other lacks.

    Args:
        images: ``(N, C, H, W)``; not modified.
        ranks: Of :func:`ranks_to_store`, ``(N, H, W)``.
        fraction: From 0 up to, but not including, 1.
        replacement: What removed pixels become: ``"mean"``, the mean colour of the intact image; ``"blur"``,
            ``"road"`` or values, as for :func:`pixel_perturbation`.
    Raises:
        InputError: ranks of another shape, or that do not rank every pixel.
        ParameterError: a fraction outside [0, 1).
    Source: Hooker et al. 2019; Jeon et al. 2022, §4.3.
    """
    batch, road = checked_images(images, None, replacement)
    check_ranks(ranks, batch.inputs, "the ranks")
    count = n_removed(fraction, ranks[0].numel())
    with outside_inference_mode():
        # Of few operations that torch has for uint16, conversion is one.
        among_top = (ranks.to(batch.inputs.device, torch.int32) < count)[:, None]
        kept = among_top if keep else ~among_top
        if road:
            return noisy_linear_imputation(batch.inputs, kept)
        baselines = torch.as_tensor(batch.baselines, dtype=images.dtype, device=images.device)
        return torch.where(kept, batch.inputs, baselines)


def check_ranks(ranks: Tensor, images: Tensor, called: str) -> None:
    """Check that ``ranks`` put the pixels of each image in an order.

    Raises:
        InputError: they do not; the message calls them ``called``.
    """
    expected = (len(images), *images.shape[2:])
    if not isinstance(ranks, Tensor) or ranks.is_floating_point() or ranks.dtype == torch.bool:
        got = ranks.dtype if isinstance(ranks, Tensor) else type(ranks).__name__
        raise InputError(f"{called} are {got}, not whole numbers; make them of attributions: ranks_to_store")
    if tuple(ranks.shape) != expected:
        raise InputError(
            f"{called} have shape {tuple(ranks.shape)} for images of {tuple(images.shape)}; "
            f"expected {expected}"
        )
    n_pixels = ranks[0].numel()
    for rows in torch.split(ranks.flatten(1), max(1, RANKED_AT_A_TIME // n_pixels)):
        places = rows.to(torch.int64)
        taken = torch.zeros_like(places, dtype=torch.bool)
        if bool(((places < 0) | (places >= n_pixels)).any()) or not bool(
            taken.scatter_(1, places, True).all()
        ):
            raise InputError(f"{called} must hold each number from 0 to {n_pixels - 1} once per image")


def n_removed(fraction: float, n_pixels: int) -> int:
    """Return ``round(fraction·n_pixels)`` of the decimal number that was written.

    Raises:
        ParameterError: a fraction outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ParameterError(f"fractions of pixels must be at least 0 and below 1, not {fraction!r}")
    return round(Fraction(repr(float(fraction))) * n_pixels)


def _smallest(n_pixels: int) -> torch.dtype:
    return torch.uint8 if n_pixels <= 2**8 else torch.uint16 if n_pixels <= 2**16 else torch.int32
