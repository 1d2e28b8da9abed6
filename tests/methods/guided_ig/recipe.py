"""How reference.npz was made: Guided IG of the authors' package, for four images of a small network.

In an environment of its own, since the package needs an older numpy::

    pip install torch==2.13.0 "numpy<2" saliency==0.2.1
    python recipe.py

Weights and images come from numpy's RandomState, whose streams do not change between versions.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

REFERENCE = Path(__file__).with_name("reference.npz")
SETTINGS = {
    "default": {"n_steps": 60, "fraction": 0.25, "max_dist": 0.02},
    "wide": {"n_steps": 25, "fraction": 0.1, "max_dist": 0.3},
    "unbounded": {"n_steps": 25, "fraction": 0.5, "max_dist": 1.0},
}


def network():
    """A float64 ReLU network for (N, 3, 12, 12), five classes."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 25, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    ).double()
    random = np.random.RandomState(20211)  # the stream that never changes
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.from_numpy(random.standard_normal(tuple(parameter.shape)) / fan_in**0.5))
    return model


def images():
    """Four images, (4, 3, 12, 12), float64; a patch of the last equals the baseline."""
    random = np.random.RandomState(20212)
    x = torch.from_numpy(random.standard_normal((4, 3, 12, 12)))
    x[3, :, 2:6, 2:6] = 0
    return x


TARGETS = (0, 1, 2, 4)


def published(settings):
    """The ``saliency`` package's attributions, (4, 3, 12, 12)."""
    from saliency.core import INPUT_OUTPUT_GRADIENTS, GuidedIG

    model = network()

    def gradients(x, call_model_args, expected_keys):
        x = torch.from_numpy(x).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[:, call_model_args].sum(), x)
        return {INPUT_OUTPUT_GRADIENTS: gradient.numpy()}

    return np.stack(
        [
            GuidedIG().GetMask(
                image.numpy(),
                gradients,
                target,
                x_baseline=np.zeros(image.shape),
                x_steps=settings["n_steps"],
                fraction=settings["fraction"],
                max_dist=settings["max_dist"],
            )
            for image, target in zip(images(), TARGETS, strict=True)
        ]
    )


if __name__ == "__main__":
    np.savez_compressed(REFERENCE, **{name: published(each) for name, each in SETTINGS.items()})
