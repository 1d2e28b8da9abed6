"""A model tried on one row: asked twice, beside another row, and for its gradient there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.equivalence import Response, difference, logits_apart, response, row_logits
from distillgrad.core.examination.findings import Findings
from distillgrad.core.examination.model_state import changed_by
from distillgrad.core.examination.random_state import random_state
from distillgrad.core.forward import Model
from distillgrad.errors import ModelError

GRADIENT = 3
"""A gradient takes as long as so many forward passes."""


def first_row(batch: Batch) -> Batch:
    """Return the batch's first row."""
    return batch.rows(slice(1))


def in_a_pair(row: Batch) -> Batch:
    """Return a row after another one, whose mean, extremes and norm are others.

    After, so that what goes on from row to row arrives at it, and that its place in the batch is another.
    """
    pair = row.rows(torch.tensor([0, 0], device=row.inputs.device))
    return replace(pair, inputs=torch.cat([2 * row.inputs, row.inputs]))


def try_answers(model: Model, batch: Batch, findings: Findings, *, beside: bool) -> None:
    """Find how far apart a row's logits are when asked again, and beside another row, if not known yet.

    Cost: two forward passes of a row, and of a pair.
    """
    row = first_row(batch)
    with as_far_as_it_can_be_tried(findings, row):
        if beside and "beside" not in findings.apart:
            # First: what is made once is made now.
            both = row_logits(model, in_a_pair(row))
            alone = finite_logits(model, row)
            findings.apart["beside"] = logits_apart(both[1:], alone)
            findings.spent += 3
        elif "again" not in findings.apart:
            alone = finite_logits(model, row)
            findings.spent += 1
        if "again" not in findings.apart:
            before, again = random_state(row.inputs.device), list[Tensor]()
            findings.writes = changed_by(lambda: again.append(row_logits(model, row)), model)
            findings.apart["again"] = logits_apart(again[0], alone)
            findings.draws = not before.same(random_state(row.inputs.device))
            findings.spent += 1


def try_gradient(model: Model, batch: Batch, findings: Findings) -> None:
    """Find how far a row's gradient beside another row is from its own, and the logits, too.

    Cost: a gradient of a row and of a pair.
    """
    row = first_row(batch)
    with as_far_as_it_can_be_tried(findings, row):
        alone, both = responses(model, row)
        _expect_finite(alone.logits)
        findings.apart.setdefault("beside", logits_apart(both.logits, alone.logits))
        findings.apart["gradient"] = difference(both, alone).gradient
        findings.spent += 3 * GRADIENT


def responses(model: Model, row: Batch) -> tuple[Response, Response]:
    """Return the response to a row alone, and what the response to a pair says of it."""
    alone = response(model, row)
    both = response(model, in_a_pair(row), alone.chosen.expand(2))
    return alone, Response(both.logits[1:], both.chosen[1:], both.gradient[1:])


def finite_logits(model: Model, row: Batch) -> Tensor:
    """Return the logits of a row.

    Raises:
        ModelError: they are NaN or infinite, and so no nearer to themselves than to others.
    """
    logits = row_logits(model, row)
    _expect_finite(logits)
    return logits


def _expect_finite(logits: Tensor) -> None:
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("its logits are not finite")


@contextmanager
def as_far_as_it_can_be_tried(findings: Findings, row: Batch) -> Iterator[None]:
    """Note that a model cannot be tried where a pass fails: it is made for other rows, or memory ends.

    If it is the model that fails, the passes that were asked for will meet that, and say so. What is drawn
    inside is put back.
    """
    numbers = random_state(row.inputs.device)
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a model's own code, on rows that nobody asked it to take
        findings.untriable = f"{type(error).__name__}: {error}"
    finally:
        numbers.restore(row.inputs.device)
