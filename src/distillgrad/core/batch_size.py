"""The number of rows at a time at which a row costs least, found once per model and device."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch

from distillgrad.core.batch import Batch, outside_inference_mode
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, is_out_of_memory, scores, value_and_gradient
from distillgrad.core.profiling import elapsed
from distillgrad.core.wrappers import unwrapped

RowsAtATime: TypeAlias = int | Literal["auto"] | None

MOST_ROWS = 512
WORSE = 1.1
"""Larger batches are not tried any more once a row costs so many times what it cost at best."""
ALIKE = 1.03
"""Among sizes whose rows cost at most so many times the least, the smallest takes least memory."""


@dataclass(frozen=True)
class _BestSize:
    """The best size, the largest that was tried, and whether larger ones are known to be no better."""

    size: int
    tried: int
    final: bool


_known: weakref.WeakKeyDictionary[Any, dict[Any, _BestSize]] = weakref.WeakKeyDictionary()
"""The sizes found, by model, then by device, dtype, shape and kind of pass."""


def best_batch_size(model: Model, batch: Batch, *, gradients: bool) -> int:
    """Return the size, up to the batch's own, at which a pass costs least per row.

    Powers of two are timed until a row gets dearer or memory ends. The best is remembered for the
    model, the device and the shape of a row; a larger batch is measured beyond what was tried.

    Args:
        gradients: Whether a pass goes back to the inputs, too.
    Cost: the first time some six passes per size; then none.
    """
    most = min(len(batch), MOST_ROWS)
    key = (batch.inputs.device, batch.inputs.dtype, batch.inputs.shape[1:], gradients)
    try:
        known = _known.setdefault(unwrapped(model), {})
    except TypeError:  # a callable that cannot be referred to weakly, such as a built-in one
        known = {}
    best = known.get(key)
    if best is None or (not best.final and 2 * best.tried <= most):
        with evaluating(model), outside_inference_mode():
            best = known[key] = _measured(_pass_of(model, batch, gradients), most)
    return min(best.size, most)


def _pass_of(model: Model, batch: Batch, gradients: bool) -> Callable[[int], None]:
    def once(size: int) -> None:
        rows = batch.rows(slice(size))
        if gradients:
            value_and_gradient(model, rows.inputs, rows.target, rows.extra)
        else:
            scores(model, rows.inputs, rows.target, rows.extra)
        if rows.inputs.is_cuda:
            torch.cuda.synchronize()

    return once


def _measured(once: Callable[[int], None], most: int) -> _BestSize:
    seconds: dict[int, float] = {}
    size, final = 1, False
    while size <= most:
        try:
            once(size)  # what libraries set up for a new shape is not to be timed
            seconds[size] = min(elapsed(partial(once, size)) for _ in range(2)) / size
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            final = True
        else:
            final = seconds[size] > WORSE * min(seconds.values())
        if final:
            break
        size *= 2
    least = min(seconds.values())
    best = next(each for each, cost in seconds.items() if cost <= ALIKE * least)
    return _BestSize(best, max(seconds), final)
