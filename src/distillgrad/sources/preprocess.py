"""Preprocessing: a photograph becomes the tensor that a classifier was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distillgrad.errors import InputError

FOUR_BANDS = "RGBX"
"""The mode of an image of four bands of data: unlike RGBA, resizing it leaves every band by itself."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def expect_bands(image: Image.Image, n_channels: int, model: str) -> None:
    """Check that an image of four bands of data meets a model of four channels.

    Raises:
        InputError: it does not; says what to do.
    """
    if image.mode == FOUR_BANDS and n_channels != 4:
        raise InputError(
            f"it has 4 bands of data, {model} takes {n_channels}: write those that the model takes to a file "
            "of their own, or, where the fourth is opacity, let the file say so (TIFF's ExtraSamples)"
        )


@dataclass(frozen=True)
class ResizeAndCrop:
    """A preprocessing: shorter side to ``resize``, centre crop of ``crop``, scale to [0, 1], normalise.

    Calling it with an RGB image returns ``(3, crop, crop)`` float32, the same numbers as torchvision's
    ``ImageClassification`` preset. With four means and deviations it takes images of four bands (RGBX).
    """

    resize: int
    crop: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, image: Image.Image) -> Tensor:
        expect_bands(image, len(self.mean), "this preprocessing")
        width, height = image.size
        shorter = min(width, height)
        size = (self.resize * width // shorter, self.resize * height // shorter)
        left, top = (round((side - self.crop) / 2) for side in size)
        cropped = image.resize(size, Image.Resampling.BILINEAR).crop(
            (left, top, left + self.crop, top + self.crop)
        )
        values = torch.from_numpy(np.array(cropped)).permute(2, 0, 1).float().div_(255)
        mean, std = (torch.tensor(each, device="cpu").view(-1, 1, 1) for each in (self.mean, self.std))
        return values.sub_(mean).div_(std).contiguous()
