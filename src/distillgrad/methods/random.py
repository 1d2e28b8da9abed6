"""Random: the control that never looks at the model."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model
from distillgrad.methods.base import Method, whole_number


class Random(Method):
    """Standard normal noise that never looks at the model: what every method must beat.

    A row's values depend on the seed and on the row's content and dtype alone: equal rows get equal noise,
    in whatever batch and on whatever device they are. Neither model nor target is used.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`; never called.
        seed: Another seed, another control.
    Raises:
        ParameterError: a seed that is not a whole number from 0.
    Cost: no pass of the model.
    Source: the random control of Jeon et al. 2022, §4, here repeatable.
    """

    signed = True
    cost = "none"
    source = "control"

    def __init__(self, model: Model, seed: int = 0) -> None:
        super().__init__(model)
        self.seed = whole_number("seed", seed, least=0)

    @property
    def n_passes(self) -> int:
        """No pass at all."""
        return 0

    def _attribute(self, batch: Batch) -> Tensor:
        return torch.stack([self._noise(row.cpu()) for row in batch.inputs]).to(batch.inputs.device)

    def _noise(self, row: Tensor) -> Tensor:
        content = row.contiguous().view(torch.uint8).numpy().tobytes()
        key = hashlib.blake2b(f"{self.seed} ".encode() + content, digest_size=7).digest()
        drawn = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        return torch.randn(row.shape, generator=drawn, dtype=torch.float64, device="cpu")
