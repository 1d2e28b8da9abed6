"""The plan by which rows are worked through, made before any is: rows at a time, threads that share them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distillgrad.core.batch import Batch
from distillgrad.core.examination.row_independence import may_part
from distillgrad.core.forward import Model
from distillgrad.core.row_threads import is_row_thread
from distillgrad.errors import ParameterError

MANY_ROWS = 32
"""The rows, times passes, from which on those that show whether rows may part are soon made up for."""
LEAST_FEATURES = 2**15
"""The fewest input features at a time of a pass that Python, one thread at a time, does not dominate."""
UNEVEN = 1.1
"""The busiest core may have so many times its share; the others wait for it."""


@dataclass(frozen=True)
class Plan:
    """The chunks in which rows are worked through.

    Attributes:
        n_rows: All rows.
        rows_at_a_time: At most so many of them are in memory at once.
        n_threads: The row threads that share these; 1: the calling thread does all.
    """

    n_rows: int
    rows_at_a_time: int
    n_threads: int = 1

    @property
    def rows_each(self) -> int:
        """The rows that a thread takes at a time."""
        if self.n_rows <= self.rows_at_a_time:
            return -(-self.n_rows // self.n_threads)
        return self.rows_at_a_time // self.n_threads

    @property
    def slices(self) -> list[slice]:
        """The chunks, in the order of the rows."""
        starts = range(0, self.n_rows, self.rows_each)
        return [slice(start, min(start + self.rows_each, self.n_rows)) for start in starts]


def plan_rows(
    model: Model,
    batch: Batch,
    size: int,
    *,
    n_rows: int | None = None,
    n_passes: int = 1,
    per_thread: bool = False,
) -> Plan:
    """Return how the batch's rows (or ``n_rows`` of their kind) go through ``model``.

    One thread takes them all where sharing does not pay, or where it would be noticed: see
    :func:`~distillgrad.core.examination.row_independence.may_part`.

    Args:
        size: The rows at a time.
        n_passes: How often each row goes through the model.
        per_thread: Whether ``size`` is each thread's instead of all threads' together.
    Cost: for a model's first batch that could be shared, three forward passes of one or two rows.
    """
    n_rows = len(batch) if n_rows is None else n_rows
    together = size * torch.get_num_threads() if per_thread else size
    n_threads = (
        even_threads(n_rows, together, batch.inputs[0].numel()) if n_rows * n_passes >= MANY_ROWS else 1
    )
    if n_threads > 1 and not may_part(model, batch):
        n_threads = 1
    return Plan(n_rows, size * n_threads if per_thread else size, n_threads)


def even_threads(n_rows: int, size: int, n_features: int) -> int:
    """Return how many threads share ``n_rows`` rows of ``n_features``, ``size`` at a time; 1: none pays."""
    if is_row_thread():
        return 1
    available = torch.get_num_threads()
    for n_threads in range(min(available, size, n_rows), 1, -1):
        rows = Plan(n_rows, size, n_threads).rows_each
        turns = -(-n_rows // (rows * n_threads))
        even = turns * rows * n_threads <= UNEVEN * n_rows
        if available % n_threads == 0 and even and rows * n_features >= LEAST_FEATURES:
            return n_threads
    return 1


def checked_size(internal_batch_size: int | None) -> int | None:
    """Return the number of rows at a time; ``None`` where a caller leaves it to us.

    Raises:
        ParameterError: below 1.
    """
    if internal_batch_size is None:
        return None
    if not isinstance(internal_batch_size, int) or internal_batch_size < 1:
        raise ParameterError(
            f"internal_batch_size must be a whole number of at least 1, not {internal_batch_size!r}"
        )
    return internal_batch_size
