"""RISE: the model's probability under random masks, credited to what they keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, scores, softmax_probability
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods.base import Method, whole_number


class RISE(Method):
    """``Σ pᵢ Mᵢ / (n·p)``: the mean of random smooth masks, weighted by the model's probability under them.

    A mask is a grid of cells, each kept with probability p, enlarged bilinearly and cropped at a random
    shift; ``pᵢ`` is the explained class's softmax probability at ``b + Mᵢ ⊙ (x−b)``. A callable target and
    a model with a single output have no probability: their score is taken as it is. Every row sees the
    same masks, drawn one after the other from their own generator on the CPU, so that a map depends
    neither on the batch nor on the device, and memory not on ``n_masks``.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_masks: n, at least 1.
        cells: Cells along each side, at least 1; at most as many as pixels are used.
        probability: p in (0, 1]: how likely a cell is kept.
        seed: Of the masks.
    Raises:
        ParameterError: a parameter outside its range.
        InputError: inputs that are not images ``(N, C, H, W)``.
    Cost: n forward passes, and one for the prediction; the memory of one.
    Source: Petsiuk et al. 2018, eq. 6. Departures: the class is chosen once, at the clean input; what is
        taken away becomes the baseline (zero by default, as published); the outermost half cell of the
        enlarged grid, of which at most a part is seen, repeats the border.
    """

    signed = False
    result = "pixels"
    cost = "n_masks forward passes (1000)"
    source = "Petsiuk et al. 2018"

    def __init__(
        self,
        model: Model,
        n_masks: int = 1000,
        cells: int = 7,
        probability: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.n_masks = whole_number("n_masks", n_masks)
        self.cells = whole_number("cells", cells)
        if not 0 < probability <= 1:
            raise ParameterError(f"probability must lie in (0, 1], not {probability}")
        self.probability = probability
        self.seed = whole_number("seed", seed, least=0)

    @property
    def n_passes(self) -> int:
        """One pass for each mask, and one for the prediction, where no target is given."""
        return self.n_masks + 1

    @property
    def _zero_means(self) -> str:
        return "the class's probability, or the score in its place, is zero or cancels under all masks"

    def _attribute(self, batch: Batch) -> Tensor:
        if batch.inputs.ndim != 4:
            raise InputError(
                f"RISE masks pixels: inputs must be images, (N, C, H, W); got {tuple(batch.inputs.shape)}"
            )
        model, n_rows = self.forward_func, len(batch)
        batch = with_target(model, batch)

        def weight(output: Any) -> Tensor:
            return softmax_probability(output, batch.target, n_rows)

        difference = batch.difference
        total = torch.zeros_like(difference[:, :1])
        for mask in self._masks(difference):
            probability, _ = scores(model, batch.shifted(mask * difference), weight, batch.extra)
            total.add_(probability.to(total).view(-1, 1, 1, 1) * mask)
        return total.div_(self.n_masks * self.probability)

    def _masks(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the masks ``(H, W)``, in the images' dtype and on their device."""
        drawn = torch.Generator().manual_seed(self.seed)
        sides = images.shape[2:]
        grid = [min(self.cells, side) for side in sides]
        cell = [math.ceil(side / n) for side, n in zip(sides, grid, strict=True)]
        enlarged = [(n + 1) * size for n, size in zip(grid, cell, strict=True)]
        for _ in range(self.n_masks):
            kept = torch.rand(grid, generator=drawn, dtype=torch.float64, device="cpu") < self.probability
            y, x = (int(torch.randint(size, (), generator=drawn, device="cpu")) for size in cell)
            smooth = interpolate(kept.to(images)[None, None], size=enlarged, mode="bilinear")
            yield smooth[0, 0, y : y + sides[0], x : x + sides[1]]
