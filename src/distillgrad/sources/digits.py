"""Handwritten digits, 1,797 real scans of 8×8 pixels that scikit-learn ships: data that is always there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from distillgrad.core.optional import optional
from distillgrad.errors import ParameterError
from distillgrad.sources.parquet import LabelledImages

MEAN, STD = 0.305, 0.376
"""Mean and standard deviation of all pixels, scaled to [0, 1]."""
LEVELS = 16


def normalised_digits(digits: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return the images as a network's inputs, ``(N, 1, 8, 8)`` float32, and their labels ``(N,)``."""
    images = torch.from_numpy(digits.images).permute(0, 3, 1, 2).float().div_(255)
    return images.sub_(MEAN).div_(STD).contiguous(), torch.from_numpy(digits.labels)


def read_digits(*, test_share: float = 0.2, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """Return the digits to train on and to test on, split class by class.

    Images are ``(N, 8, 8, 1)`` uint8, their 17 levels of grey stretched to 0–255; both parts keep the
    order of the whole. Each class gives ``round(test_share·n)`` of its n images to the test: by default
    1,438 train and 359 test. Who wrote a digit is not known, so writers occur in both parts.

    Args:
        test_share: Above 0, below 1; at least one image of each class stays in either part.
        seed: Of the choice.
    Raises:
        ParameterError: a share that leaves a class of either part empty.
        MissingExtraError: scikit-learn is not installed.
    Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits" (its test part).
    """
    if not 0 < test_share < 1:
        raise ParameterError(f"test_share must lie between 0 and 1, not {test_share!r}")
    digits = optional("sklearn.datasets", "regions", "scikit-learn").load_digits()
    images = np.rint(digits.images[..., None] * (255 / LEVELS)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    classes = tuple(map(str, digits.target_names))
    random = np.random.default_rng(seed)
    tested = np.zeros(len(labels), dtype=np.bool_)
    for label in range(len(classes)):
        members = np.flatnonzero(labels == label)
        n_tested = round(test_share * len(members))
        if not 0 < n_tested < len(members):
            raise ParameterError(
                f"test_share {test_share} puts {n_tested} of {len(members)} images of class {label} into the "
                "test; give a share that leaves some for either part"
            )
        tested[random.permutation(members)[:n_tested]] = True
    return (
        LabelledImages(images[~tested], labels[~tested], classes),
        LabelledImages(images[tested], labels[tested], classes),
    )
