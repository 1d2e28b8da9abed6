"""The examination of a model at its first use: what every map takes for granted, tried on one row.

Asked twice, the model answers the same; neither a row's answer nor its gradient depends on the rows beside
it. Each is tried once for a model, a type of numbers and a kind of device: as soon as the passes that were
asked for are thirty times those that it takes, or at once where there is a reason to doubt it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from distillgrad.core.batch import Batch, outside_inference_mode
from distillgrad.core.equivalence import rounding
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.examination.doubts import (
    expect_own_answer,
    expect_own_gradient,
    expect_same_again,
    gradients_alike,
)
from distillgrad.core.examination.findings import Findings, Question, findings_of
from distillgrad.core.examination.model_state import first_change, state_of
from distillgrad.core.examination.random_state import random_state
from distillgrad.core.examination.tries import (
    GRADIENT,
    as_far_as_it_can_be_tried,
    finite_logits,
    first_row,
    try_answers,
    try_gradient,
)
from distillgrad.core.forward import Model, uncounted
from distillgrad.errors import ModelError

SMALL = 2**18
"""The input features up to which a second row is no burden on memory for one who explains row by row."""


@dataclass(frozen=True)
class Work:
    """The work that is asked of a model.

    Attributes:
        n_passes: How often each row goes through it.
        rows_at_a_time: So many rows go together.
        gradients: Whether a pass goes back to the inputs, too.
    """

    n_passes: int
    rows_at_a_time: int
    gradients: bool

    def amount(self, n_rows: int) -> int:
        """Return the forward passes of a row that take as long."""
        return n_rows * self.n_passes * (GRADIENT if self.gradients else 1)


def examine(model: Model, batch: Batch, work: Work) -> None:
    """Try what the work can afford, and check that nothing that was found makes its result wrong.

    Raises:
        ModelError: the model answers otherwise when asked twice; a row's answer depends on the other rows,
            and several go together; its gradient does, though its answer does not. Names the module, where
            it can be told.
    Cost: at most one in thirty of all passes that were asked for until then; nothing once all is tried.
    """
    model = uncounted(model)
    findings = findings_of(model, batch.inputs)
    if findings is None or not work.n_passes:
        return
    findings.asked += work.amount(len(batch))
    together = min(work.rows_at_a_time, len(batch)) > 1
    with evaluating(model), outside_inference_mode():
        _try_what_pays(model, batch, findings, gradients=work.gradients, together=together)
        judge(model, batch, findings, gradients=work.gradients, together=together)


def examine_at_any_cost(model: Model, batch: Batch) -> None:
    """Try everything, and check it as for several rows at a time.

    Raises:
        ModelError: as :func:`examine`; or the model cannot be tried, and why.
    Cost: three gradients and four forward passes of a row, the first time.
    """
    model = uncounted(model)
    findings = findings_of(model, batch.inputs) or Findings()
    with evaluating(model), outside_inference_mode():
        try_answers(model, batch, findings, beside=True)
        try_gradient(model, batch, findings)
        if findings.untriable:
            raise ModelError(f"the model cannot be tried with one row, and with two: {findings.untriable}")
        judge(model, batch, findings, gradients=True, together=True)


def _try_what_pays(
    model: Model, batch: Batch, findings: Findings, *, gradients: bool, together: bool
) -> None:
    if findings.untriable:
        return
    known = findings.apart
    if "again" not in known and findings.affords(2):
        try_answers(model, batch, findings, beside=False)
    if "beside" not in known and (findings.affords(3) or (together and findings.mixing)):
        try_answers(model, batch, findings, beside=True)
    bearable = together or batch.inputs[0].numel() <= SMALL
    if gradients and "gradient" not in known and bearable and findings.affords(3 * GRADIENT):
        try_gradient(model, batch, findings)


def judge(model: Model, batch: Batch, findings: Findings, *, gradients: bool, together: bool) -> None:
    """Check that what was found of a model stands in the way of no map; looks again where it might.

    Raises:
        ModelError: it does; see :func:`examine`.
    """
    row, excused = first_row(batch), findings.excused
    eps = rounding(batch.inputs)

    def doubtful(question: Question, limit: float) -> bool:
        return question not in excused and findings.apart.get(question, 0.0) > limit

    if doubtful("again", eps**0.5) or (findings.draws and "again" not in excused):
        expect_same_again(model, row)
        excused.add("again")
    mixed = doubtful("beside", eps**0.5)
    if mixed and together:
        expect_same_again(model, row)
        expect_own_answer(model, row)
        excused.add("beside")
    if gradients and not mixed and doubtful("gradient", gradients_alike(eps)):
        expect_own_gradient(model, row)
        excused.add("gradient")


@contextmanager
def expecting_the_same_again(model: Model, batch: Batch) -> Iterator[None]:
    """Check that what is computed inside leaves nothing on which the model's next answer depends.

    A spiking or recurrent network that keeps its state from call to call would begin each pass where the one
    before ended, and one that draws random numbers would answer at random. Counters and what is made once,
    such as a grid of positions, do no harm. Only plain modules are looked into.

    Raises:
        ModelError: it does; names what changes, or draws.
    Cost: the first time two looks at the modules, and where something has changed some passes of a row.
    """
    model = uncounted(model)
    findings = findings_of(model, batch.inputs)
    if findings is None or findings.keeps_nothing:
        yield
        return
    device = batch.inputs.device
    before, numbers = state_of(model), random_state(device)
    yield
    if first_change(before, state_of(model)) or not numbers.same(random_state(device)):
        row, kept = first_row(batch), first_change(before, state_of(model))
        with evaluating(model), outside_inference_mode():
            with as_far_as_it_can_be_tried(findings, row):
                finite_logits(model, row)
            if not findings.untriable:
                expect_same_again(model, row, kept)
    findings.keeps_nothing = True
