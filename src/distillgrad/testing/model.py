"""The properties of a model that every method takes for granted, as a check to be run once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from distillgrad.core.batch import TargetLike, checked_batch
from distillgrad.core.examination.first_use import examine_at_any_cost, expecting_the_same_again
from distillgrad.core.forward import Model, scores


def check_model(
    model: Model, inputs: Tensor, target: TargetLike = None, *, additional_forward_args: Any = None
) -> None:
    """Check that a model can be explained: each row by itself, and the same each time.

    Asked twice it answers the same, and keeps nothing on which answers depend; a row's logits and its
    gradient are the same alone and beside another row. Methods try the same at a model's first use as soon
    as it takes no more than one pass in thirty of what they are asked for, and not again after this.

    Args:
        inputs: ``(N, …)``, of which the first row is taken.
        target: Only a callable is needed, for a model whose output holds no logits.
        additional_forward_args: Passed to the model after the inputs.

    Raises:
        ModelError: it is not so, or cannot be tried; names the module where it can be told.
        InputError: inputs that cannot be explained.
    Cost: some fifteen forward passes of a row.
    """
    row = checked_batch(inputs, target, additional_forward_args=additional_forward_args).rows(slice(1))
    with expecting_the_same_again(model, row):
        examine_at_any_cost(model, row)
        scores(model, row.inputs, row.target, row.extra)
