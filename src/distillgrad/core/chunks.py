"""A plan of rows carried out: chunk by chunk or in threads, smaller where memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, outside_inference_mode, samples_not_finite
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, is_out_of_memory
from distillgrad.core.plan import Plan
from distillgrad.core.row_threads import in_row_threads
from distillgrad.errors import ModelError


def attribute_in_chunks(
    model: Model, attribute: Callable[[Batch], Tensor], batch: Batch, plan: Plan
) -> Tensor:
    """Return ``attribute`` of the batch's rows as planned, in eval mode, in the dtype of the inputs.

    Raises:
        ModelError: attributions that are not finite; names the samples.
    """
    with evaluating(model), outside_inference_mode():
        attributions = in_chunks(lambda chosen: attribute(batch.rows(chosen)).to(batch.inputs.dtype), plan)
    samples = samples_not_finite(attributions)
    if samples:
        narrow = torch.finfo(batch.inputs.dtype).bits < 32
        raise ModelError(
            f"the model's score or gradient is not finite for sample{samples}; "
            + ("half precision overflows easily: try float32" if narrow else "look for broken weights in it")
        )
    return attributions


def in_chunks(work: Callable[[slice], Tensor], plan: Plan) -> Tensor:
    """Return ``work`` of the plan's chunks, end to end.

    Out of memory halves the chunks and goes on, in one thread.
    """
    size = plan.rows_at_a_time
    if plan.n_threads > 1:
        try:
            return torch.cat(in_row_threads(work, plan.slices, plan.n_threads))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        size = _half(size, plan.n_rows)
    parts: list[Tensor] = []
    start = 0
    while start < plan.n_rows:
        stop = min(start + size, plan.n_rows)
        try:
            parts.append(work(slice(start, stop)))
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            halve = True
        else:
            halve = False
        # Outside the handler: the exception's traceback holds the tensors of the failed chunk.
        if halve:
            size = _half(size, plan.n_rows)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            start = stop
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _half(size: int, n_rows: int) -> int:
    return (min(size, n_rows) + 1) // 2
