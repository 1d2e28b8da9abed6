"""The paper's ROAR network: six convolutions, three linear layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = (32, 32, 64, 64, 128, 128)


class Cifar10CNN(nn.Module):
    """The classifier of images ``(N, 3, 32, 32)`` that the package ships.

    Six 3×3 convolutions with batch norm and ReLU, halved by max pooling after every second one, then
    three linear layers: piecewise linear in eval mode, 846 thousand parameters.

    Args:
        n_classes: Number of classes.
    Source: the "simple CNN (6 Conv + 3 Linear)" of Jeon et al. 2022, §4.3; widths and batch norm are ours.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for index, channels in enumerate(CHANNELS):
            layers += [
                nn.Conv2d(previous, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            if index % 2 == 1:
                layers.append(nn.MaxPool2d(2))
            previous = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(previous * 4 * 4, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, n_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, n_classes)`` of normalised images ``(N, 3, 32, 32)``."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return normalised floats ``(N, 3, H, W)`` of uint8 images ``(N, H, W, 3)``; channels-last in memory."""
    channels_last = images.permute(0, 3, 1, 2).float().div_(255)
    return channels_last.sub_(torch.tensor(mean, device="cpu").view(3, 1, 1)).div_(
        torch.tensor(std, device="cpu").view(3, 1, 1)
    )
