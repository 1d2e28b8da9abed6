"""The classifier that comes with the package, the card that describes it, the recipe that made it."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("cifar10-cnn.safetensors")
CARD = Path(__file__).with_name("cifar10-cnn.md")

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
