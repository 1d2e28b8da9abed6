"""Occlusion: the drop of the score when a window hides part of the input, by Captum."""

from __future__ import annotations

import math

import captum.attr
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, accumulation_dtype, scores
from distillgrad.errors import ParameterError
from distillgrad.methods.base import Method, whole_number


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
        """The passes of an image of 224 × 224: a smaller one may take fewer windows."""
        (_, window, _), (_, stride, _) = self.windows((3, 224, 224))
        return (math.ceil((224 - window) / stride) + 1) ** 2 + 2

    def windows(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the window's shape and its strides, for one sample of this shape."""
        channels, sides = (shape[:1], shape[1:]) if len(shape) > 1 else ((), shape)
        default = [math.ceil(side / 8) if channels else 1 for side in sides]
        window = [min(self.window or size, side) for size, side in zip(default, sides, strict=True)]
        stride = [self.stride or max(size // 2, 1) for size in window]
        for step, size, side in zip(stride, window, sides, strict=True):
            if step > size and size < side:
                raise ParameterError(f"stride {step} is above the default window {size}: give a window")
        return (*channels, *window), (*channels, *stride)

    @property
    def _zero_means(self) -> str:
        return "hiding a window changes the score nowhere"

    def _attribute(self, batch: Batch) -> Tensor:
        window, stride = self.windows(tuple(batch.inputs.shape[1:]))
        model, wide = self.forward_func, accumulation_dtype(batch.inputs.dtype)
        batch = with_target(model, batch)

        def score(inputs: Tensor) -> Tensor:
            values, _ = scores(model, inputs, batch.target, batch.extra)
            return values.to(wide)  # or the drops would be added up in half precision

        attributions: Tensor = captum.attr.Occlusion(score).attribute(
            batch.inputs,
            sliding_window_shapes=window,
            strides=stride,
            baselines=batch.baselines,
        )
        return attributions
