"""The paper's own numbers: its tables and its settings, typed once, here."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

CITATION = (
    "G. Jeon, H. Jeong, J. Choi, “Distilled Gradient Aggregation: Purify Features for Input Attribution in "
    "the Deep Neural Network”, NeurIPS 2022"
)

N_STEPS, EPC_QUANTILE = 30, 0.9
"""The result of a simple grid search (§4)."""

METHODS: Mapping[str, str] = {
    "gradient_x_input": "G*I",
    "guided_backprop": "GBP",
    "integrated_gradients": "IG",
    "fullgrad": "FG",
    "guided_ig": "GIG",
    "dga": "DGA",
}
"""Our names and the paper's, in the order of its tables' columns."""

NETWORKS: Mapping[str, str] = {
    "vgg16": "VGG-16",
    "resnet18": "ResNet-18",
    "inception_v3": "Inception-v3",
}
"""Torchvision's names and the paper's."""

TABLE_1: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "lerf": {
        "vgg16": (0.078, 0.113, 0.096, 0.415, 0.110, 0.434),
        "resnet18": (0.114, 0.145, 0.158, 0.448, 0.185, 0.533),
        "inception_v3": (0.171, 0.162, 0.243, 0.558, 0.255, 0.691),
    },
    "morf": {
        "vgg16": (0.045, 0.094, 0.036, 0.110, 0.029, 0.023),
        "resnet18": (0.050, 0.124, 0.038, 0.131, 0.029, 0.019),
        "inception_v3": (0.105, 0.145, 0.066, 0.175, 0.061, 0.041),
    },
}
"""Table 1, 50,000 ImageNet validation images: by metric and network, in the order of ``METHODS``."""

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
N_MASKS, GRID = 100, 14
TABLE_2: Mapping[str, tuple[float, ...]] = {
    "gradient_x_input": (-0.006, -0.009, -0.009, -0.013, -0.007, -0.014, -0.016, -0.022, -0.037),
    "guided_backprop": (0.022, 0.032, 0.025, 0.024, 0.022, 0.027, 0.024, 0.024, 0.020),
    "integrated_gradients": (0.013, 0.022, 0.020, 0.027, 0.032, 0.037, 0.039, 0.047, 0.067),
    "guided_ig": (0.006, 0.007, 0.004, 0.002, 0.003, 0.002, 0.002, 0.002, -0.001),
    "fullgrad": (-0.045, -0.017, -0.005, 0.001, 0.003, 0.003, 0.008, 0.008, 0.004),
    "dga": (0.095, 0.096, 0.101, 0.098, 0.095, 0.089, 0.083, 0.080, 0.079),
}
"""Table 2, ResNet-18: sensitivity-n by the share of the cells, ``FRACTIONS``."""

ROAR_EPOCHS, ROAR_TRIALS = 100, 10
"""The training of §4.3: CIFAR-10, six convolutions and three linear layers, Adam at 3e-4."""


def network_of(model: str) -> str | None:
    """Return torchvision's name of a model that ``load_model`` takes, if the paper measured it."""
    kind, _, rest = model.partition(":")
    name = rest.partition("@")[0]
    return name if kind == "torchvision" and name in NETWORKS else None


def table_1(metric: str, network: str | None) -> dict[str, float]:
    """Return, by method, Table 1's number for ``network``, or for another the mean of its three networks."""
    rows = TABLE_1[metric]
    columns = zip(*([rows[network]] if network else rows.values()), strict=True)
    return {name: mean(column) for name, column in zip(METHODS, columns, strict=True)}


def table_1_cell(metric: str, method: str, network: str | None) -> str:
    """Return Table 1's number in words; for a network that it does not have, those of its three."""
    if method not in METHODS:
        return ""
    place = tuple(METHODS).index(method)
    rows = TABLE_1[metric]
    chosen = [rows[network]] if network else list(rows.values())
    return " / ".join(f"{row[place]:.3f}" for row in chosen)
