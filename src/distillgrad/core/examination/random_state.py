"""The places in the streams of random numbers that a model may draw from: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RandomState:
    """The state that the next random numbers of this process depend on.

    Attributes:
        host: Torch's generator on the CPU.
        device: Its generator on the GPU that a model computes on; empty for other devices.
        numpy: The state of NumPy's global generator.
        python: That of the module ``random``.
    """

    host: Tensor
    device: Tensor
    numpy: Any
    python: Any

    def same(self, other: RandomState) -> bool:
        """Return whether nothing was drawn between the two."""
        (_, keys, *place), (_, other_keys, *other_place) = self.numpy, other.numpy
        return (
            torch.equal(self.host, other.host)
            and torch.equal(self.device, other.device)
            and place == other_place
            and bool((keys == other_keys).all())
            and self.python == other.python
        )

    def restore(self, device: torch.device) -> None:
        """Let the next numbers be those that came next when this state was taken."""
        torch.set_rng_state(self.host)
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.device, device)
        np.random.set_state(self.numpy)  # noqa: NPY002  # models draw from the global one
        random.setstate(self.python)


def random_state(device: torch.device) -> RandomState:
    """Return the state of random numbers now. Cost: some copies of a few kilobytes."""
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0, device="cpu")
    numpy = np.random.get_state()  # noqa: NPY002  # models draw from the global one
    return RandomState(torch.get_rng_state(), on_device, numpy, random.getstate())
