"""Images with a class each, to train on and to test with."""

from __future__ import annotations

import torch
from torch import Tensor

from distillgrad.errors import InputError, TargetError


def check_labelled(images: Tensor, labels: Tensor) -> None:
    """Check that these are finite images ``(N, C, H, W)`` with a label each.

    Raises:
        InputError: they are not.
    """
    if images.ndim != 4 or not images.is_floating_point() or not images.numel():
        raise InputError(
            f"expected images (N, C, H, W) of floats; got shape {tuple(images.shape)}, {images.dtype}"
        )
    if not bool(torch.isfinite(images).all()):
        raise InputError("images contain NaN or infinity; mend them or leave them out")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"expected one class number for each of {len(images)} images; got labels of shape "
            f"{tuple(labels.shape)}, {labels.dtype}"
        )


def check_classes(labels: Tensor, n_classes: int) -> Tensor:
    """Return the labels as int64, if the network has a logit for each.

    Raises:
        TargetError: it has not.
    """
    labels = labels.to(torch.int64)
    outside = labels[(labels < 0) | (labels >= n_classes)]
    if len(outside):
        raise TargetError(
            f"label {int(outside[0])} is outside the network's {n_classes} classes, numbered from 0"
        )
    return labels
