"""Mosaics of four images, whose object's place is known: one alone is of the target class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mosaics(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mosaics of four images, of which one alone is of the target class, and that one's place.

    Each image comes with the next three of other classes, halved in size; they take its place in turn.

    Args:
        inputs: ``(B, C, H, W)``.
        target: Their classes, ``(B,)``.
    Returns: For each image that meets three others the mosaic, ``(M, C, H, W)``, its class ``(M,)``, and
        where it lies, bool ``(M, H, W)``.
    Source: Böhle et al. 2021, "Convolutional Dynamic Alignment Networks for Interpretable
        Classifications", §5.2; there the images keep their size.
    """
    small = functional.interpolate(inputs, scale_factor=0.5, mode="area")
    height, width = small.shape[-2:]
    made = inputs.new_zeros(len(inputs), *inputs.shape[1:])
    inside = torch.zeros(len(inputs), *inputs.shape[-2:], dtype=torch.bool, device=inputs.device)
    classes: list[int] = []
    rows: list[int] = []
    for row, own in enumerate(target.tolist()):
        following = [(row + 1 + step) % len(inputs) for step in range(len(inputs) - 1)]
        others = [other for other in following if int(target[other]) != own][:3]
        if len(others) < 3:
            continue
        place = len(rows) % 4
        for corner, chosen in enumerate([*others[:place], row, *others[place:]]):
            down, across = height * (corner // 2), width * (corner % 2)
            made[row, :, down : down + height, across : across + width] = small[chosen]
            inside[row, down : down + height, across : across + width] = corner == place
        rows.append(row)
        classes.append(own)
    return made[rows], target.new_tensor(classes), inside[rows]
