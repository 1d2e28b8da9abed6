"""A classifier as a user meets it: with its preprocessing, class names and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distillgrad.errors import TargetError, UnknownNameError
from distillgrad.sources.preprocess import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class LoadedModel:
    """A classifier with all that is needed to show it a photograph.

    Attributes:
        model: In eval mode, on the CPU: images ``(N, C, H, W)`` to logits.
        preprocess: From an RGB image to the model's input, ``(C, H, W)``; a model of four channels
            gets images of four bands, of mode RGBX, too.
        classes: Their names, in the order of the logits.
        input_size: ``(C, H, W)``.
        mean, std: The normalisation by channel, to undo it for display.
        name: What it was loaded as.
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    classes: tuple[str, ...]
    input_size: tuple[int, int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    name: str = ""

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return next((each.device for each in self.model.parameters()), torch.device("cpu"))

    def class_index(self, wanted: str) -> int:
        """Return the number of the class that is named, or numbered, ``wanted``.

        Raises:
            UnknownNameError: no such class; names the nearest.
            TargetError: a number outside the classes, or a name that several classes share.
        """
        if wanted.lstrip("-").isdecimal():
            index = int(wanted)
            if not 0 <= index < len(self.classes):
                raise TargetError(
                    f"target {index} is outside the {len(self.classes)} classes of {self.name}, "
                    "numbered from 0"
                )
            return index
        matching = [index for index, name in enumerate(self.classes) if name.lower() == wanted.lower()]
        if len(matching) > 1:
            raise TargetError(f"several classes are named {wanted!r}; give a number of {matching}")
        if not matching:
            raise UnknownNameError("class", wanted, self.classes)
        return matching[0]

    def displayable(self, inputs: Tensor) -> Tensor:
        """Return inputs ``(…, C, H, W)`` with the normalisation undone, clipped to [0, 1].

        Of four channels the first three are returned, which a screen has colours for.
        """
        mean, std = (inputs.new_tensor(each).view(-1, 1, 1) for each in (self.mean, self.std))
        return (inputs * std + mean).clamp(0, 1)[..., :3, :, :]
