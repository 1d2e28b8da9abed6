"""The networks that ROAR trains again and again: the paper's for CIFAR-10, a small one for digits."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (32, 32, 64, 64, 128, 128)


class CifarNetwork(nn.Module):
    """A network for images ``(N, 3, 32, 32)``; 845,738 parameters for ten classes.

    Six 3×3 convolutions with ReLU, halved by max pooling after every second one, then three linear layers.
    No batch norm and no dropout: a row's logits depend on that row alone, in training too.

    Args:
        n_classes: Number of classes.
    Source: the "simple CNN (6 Conv + 3 Linear)" of Jeon et al. 2022, §4.3, which says no more about it:
        widths, pooling and initialisation (He et al. 2015) are ours.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for index, width in enumerate(WIDTHS):
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.ReLU()]
            if index % 2 == 1:
                layers.append(nn.MaxPool2d(2))
            previous = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(previous * 4 * 4, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, n_classes),
        )
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, n_classes)`` of normalised images ``(N, 3, 32, 32)``."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


class DigitsNetwork(nn.Module):
    """A network for images ``(N, 1, 8, 8)``; 13,706 parameters for ten classes.

    Two 3×3 convolutions with ReLU and max pooling, then two linear layers.

    Args:
        n_classes: Number of classes.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 2 * 2, 64), nn.ReLU(), nn.Linear(64, n_classes)
        )
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, n_classes)`` of normalised images ``(N, 1, 8, 8)``."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _initialise(network: nn.Module) -> None:
    """Fill in He's initialisation: without batch norm, torch's own halves the signal in every layer."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
