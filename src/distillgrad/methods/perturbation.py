"""What becomes of the score without parts of the input: RISE and Occlusion; and the random control."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import captum.attr
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, accumulation_dtype, scores, softmax_probability
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods.base import Method, whole_number


class RISE(Method):
    """``Σ pᵢ Mᵢ / (n·p)``: the mean of random smooth masks, weighted by what the model says behind them.

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
        """One for each mask, and one for the prediction, where no target is given."""
        return self.n_masks + 1

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
            found, _ = scores(model, batch.shifted(mask * difference), weight, batch.extra)
            total.add_(found.to(total).view(-1, 1, 1, 1) * mask)
        return total.div_(self.n_masks * self.probability)

    def _masks(self, images: Tensor) -> Iterator[Tensor]:
        """The masks ``(H, W)``, in the images' dtype and on their device."""
        drawn = torch.Generator().manual_seed(self.seed)
        sides = images.shape[2:]
        grid = [min(self.cells, side) for side in sides]
        cell = [math.ceil(side / n) for side, n in zip(sides, grid, strict=True)]
        enlarged = [(n + 1) * size for n, size in zip(grid, cell, strict=True)]
        for _ in range(self.n_masks):
            kept = torch.rand(grid, generator=drawn, dtype=torch.float64) < self.probability
            y, x = (int(torch.randint(size, (), generator=drawn)) for size in cell)
            smooth = interpolate(kept.to(images)[None, None], size=enlarged, mode="bilinear")
            yield smooth[0, 0, y : y + sides[0], x : x + sides[1]]


class Occlusion(Method):
    """The drop of the score when a window slides over the input and puts the baseline in its place.

    A feature gets the mean drop of the windows that cover it: for a linear model and windows of one
    feature ``w ⊙ (x−b)``. A window covers all channels of ``(N, C, …)`` and a square, or cube, of the axes
    after them; of a table ``(N, d)`` it covers neighbouring columns.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        window: Its side; at most the input's is used. By default an eighth of each side, rounded up, which
            makes 15 × 15 windows of 224 × 224 pixels; in a table one column.
        stride: From one window to the next, at most ``window``; by default half of it.
    Raises:
        ParameterError: a parameter outside its range.
    Cost: a forward pass for each window, one for the clean input and one for the prediction.
    Source: Zeiler and Fergus 2014, Captum's ``Occlusion``, which divides in float32 whatever the inputs.
    """

    signed = True
    cost = "1 forward pass per window (225)"
    source = "Zeiler and Fergus 2014"

    def __init__(self, model: Model, window: int | None = None, stride: int | None = None) -> None:
        super().__init__(model)
        self.window = None if window is None else whole_number("window", window)
        self.stride = None if stride is None else whole_number("stride", stride)
        if window is not None and stride is not None and stride > window:
            raise ParameterError(f"stride {stride} is above window {window}: features would be missed")

    @property
    def n_passes(self) -> int:
        """For an image of 224 × 224: a smaller one may take fewer windows."""
        (_, window, _), (_, stride, _) = self.windows((3, 224, 224))
        return (math.ceil((224 - window) / stride) + 1) ** 2 + 2

    def windows(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The window's shape and its strides, for one sample of this shape."""
        channels, sides = (shape[:1], shape[1:]) if len(shape) > 1 else ((), shape)
        default = [math.ceil(side / 8) if channels else 1 for side in sides]
        window = [min(self.window or size, side) for size, side in zip(default, sides, strict=True)]
        stride = [self.stride or max(size // 2, 1) for size in window]
        for step, size, side in zip(stride, window, sides, strict=True):
            if step > size and size < side:
                raise ParameterError(f"stride {step} is above the default window {size}: give a window")
        return (*channels, *window), (*channels, *stride)

    def _attribute(self, batch: Batch) -> Tensor:
        window, stride = self.windows(tuple(batch.inputs.shape[1:]))
        model, wide = self.forward_func, accumulation_dtype(batch.inputs.dtype)
        batch = with_target(model, batch)

        def score(inputs: Tensor) -> Tensor:
            found, _ = scores(model, inputs, batch.target, batch.extra)
            return found.to(wide)  # or the drops would be added up in half precision

        attributions: Tensor = captum.attr.Occlusion(score).attribute(
            batch.inputs,
            sliding_window_shapes=window,
            strides=stride,
            baselines=batch.baselines,
        )
        return attributions


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
        """None."""
        return 0

    def _attribute(self, batch: Batch) -> Tensor:
        return torch.stack([self._noise(row.cpu()) for row in batch.inputs]).to(batch.inputs.device)

    def _noise(self, row: Tensor) -> Tensor:
        content = row.contiguous().view(torch.uint8).numpy().tobytes()
        key = hashlib.blake2b(f"{self.seed} ".encode() + content, digest_size=7).digest()
        drawn = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        return torch.randn(row.shape, generator=drawn, dtype=torch.float64)
