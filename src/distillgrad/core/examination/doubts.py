"""Doubts about a model that a first try has raised: looked into, and refused with a name, or dispelled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.equivalence import difference, logits_apart, response, rounding, row_logits
from distillgrad.core.examination.first_difference import where_answers_part, where_gradients_part
from distillgrad.core.examination.model_state import changed_by
from distillgrad.core.examination.random_state import random_state
from distillgrad.core.examination.tries import in_a_pair, responses
from distillgrad.core.forward import Model
from distillgrad.errors import ModelError

CHANCES = 40
"""A model that draws random numbers is asked so often: it may leave a layer out in one pass of ten."""
ROUNDED = 2
"""The number of rows, the first but for rounding, that tell how far rounding alone takes an answer."""
BEYOND = 10
"""A difference that is so many times what rounding does is no rounding."""


def gradients_alike(eps: float) -> float:
    """Return how far apart two equal gradients may be in numbers of this precision, relatively.

    0.01 in float32, half in bfloat16. Of 28 networks in float32 all but one stayed below 2e-6; it came to
    0.012, where rounding the input otherwise turned its gradient as far: a ReLU at its kink.
    """
    return float(min(30 * eps**0.5, 0.5))


def expect_same_again(model: Model, row: Batch, kept: str = "") -> None:
    """Check that the model answers the same when asked again.

    Args:
        kept: What earlier calls have left in the model, if known.

    Raises:
        ModelError: it does not; names what it keeps, or where it draws random numbers.
    Cost: four forward passes of a row, forty if it draws random numbers.
    """
    device = row.inputs.device
    numbers = random_state(device)
    try:
        limit = coarsest_precision(model, row) ** 0.5
        first = row_logits(model, row)
        drawn = not numbers.same(random_state(device))
        row_logits(model, _another(row))  # what is kept is now no longer the row's own
        apart = max(logits_apart(row_logits(model, row), first) for _ in range(CHANCES if drawn else 1))
        if apart > limit:
            raise _of_another_answer(model, row, limit, apart, kept)
    finally:
        numbers.restore(device)


def _of_another_answer(model: Model, row: Batch, limit: float, apart: float, kept: str) -> ModelError:
    """Return the reason why the model's logits were so far ``apart``."""
    device = row.inputs.device
    numbers = random_state(device)
    first = row_logits(model, row)
    row_logits(model, _another(row))
    numbers.restore(device)
    random = logits_apart(row_logits(model, row), first) <= limit
    kept = kept or changed_by(lambda: row_logits(model, row), model)
    if kept and not random:
        return ModelError(
            f"the model keeps {kept} from call to call, and its answer to the same input changes with it; "
            "give a function that resets it before each call, such as lambda x: (net.reset(), net(x))[1]"
        )
    where = where_answers_part(model, row, row, limit)
    asked = f"asked twice, its logits differ by {apart:.1g} of the largest"
    if random:
        return ModelError(
            f"the model draws random numbers{where}: {asked}. Switch it off (dropout with training=True?), "
            "or seed each call by a function: lambda x: (torch.manual_seed(0), net(x))[1]"
        )
    return ModelError(
        f"the model answers otherwise{where}: {asked}. It has random numbers of its own, or changes itself; "
        "make it deterministic"
    )


def expect_own_answer(model: Model, row: Batch) -> None:
    """Check that a row's logits are its own, and not those of the rows that it comes with.

    Raises:
        ModelError: they are not; names the module.
    """
    eps = coarsest_precision(model, row)

    def apart(rows: Batch) -> float:
        return logits_apart(row_logits(model, in_a_pair(rows))[1:], row_logits(model, rows))

    first = row_logits(model, row)
    by_rounding = [logits_apart(row_logits(model, each), first) for each in _rounded(row, eps)]
    found = min(apart(each) for each in (row, *_rounded(row, eps)))
    limit = max(eps**0.5, BEYOND * max(by_rounding))
    if found > limit:
        where = where_answers_part(model, row, in_a_pair(row), eps**0.5)
        raise ModelError(
            f"a row's logits depend on the other rows of its batch{where}: beside another row they differ by "
            f"{found:.1g} of the largest. Explain each row alone, by internal_batch_size=1, or let the model "
            "take each row by itself (running statistics; the batch as first dimension)"
        )


def expect_own_gradient(model: Model, row: Batch) -> None:
    """Check that a row's gradient is the same beside another row.

    Raises:
        ModelError: it is not, though its logits are; names the module.
    """
    eps = coarsest_precision(model, row)

    def apart(rows: Batch) -> float:
        alone, both = responses(model, rows)
        return difference(both, alone).gradient

    first = response(model, row)
    by_rounding = [
        difference(response(model, each, first.chosen), first).gradient for each in _rounded(row, eps)
    ]
    found = min(apart(each) for each in (row, *_rounded(row, eps)))
    limit = max(gradients_alike(eps), BEYOND * max(by_rounding))
    if found > limit:
        where = where_gradients_part(model, row, in_a_pair(row), first.chosen, gradients_alike(eps))
        raise ModelError(
            f"the gradient of a row alone is not its gradient in a batch, by {found:.1g} of its length"
            f"{where}, though the logits agree: one of them is wrong. Mend the backward pass there (a "
            "function of your own?), or try another version of torch, another device, or float64"
        )


def _another(row: Batch) -> Batch:
    return in_a_pair(row).rows(slice(1))


def _rounded(row: Batch, eps: float) -> list[Batch]:
    """Return rows that differ from the first by their rounding, seeded."""
    draws = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(ROUNDED):
        noise = torch.randn(row.inputs.shape, generator=draws, dtype=torch.float64).to(row.inputs.device)
        rows.append(replace(row, inputs=(row.inputs.double() * (1 + eps * noise)).to(row.inputs.dtype)))
    return rows


class _Coarsest(TorchFunctionMode):
    """The coarsest type of floats that a pass computes."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.eps = max(self.eps, torch.finfo(result.dtype).eps)
        return result


def coarsest_precision(model: Model, row: Batch) -> float:
    """Return the relative precision of the coarsest operation of a pass: autocast may be within the model.

    Cost: a forward pass.
    """
    with _Coarsest(rounding(row.inputs)) as coarsest:
        row_logits(model, row)
    return float(coarsest.eps)
