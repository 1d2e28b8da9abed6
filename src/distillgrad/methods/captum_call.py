"""The call of a method of Captum with our targets and errors, on a model that its inputs survive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, failures_named, select
from distillgrad.core.logits import logits_of, within_classes


@contextmanager
def on_the_cpu_by_default(model: Model) -> Iterator[Model]:
    """Make tensors without a device lie on the CPU within the block, as Captum expects.

    Yields the model to call there, which itself runs with the user's default device.
    """
    users = torch.get_default_device()
    if users.type == "cpu":
        yield model
        return

    def as_before(*arguments: Any, **named: Any) -> Any:
        with users:
            return model(*arguments, **named)

    with torch.device("cpu"):
        yield as_before


def captum_forward(model: Model, batch: Batch) -> tuple[Callable[..., Tensor], Tensor | None]:
    """Return the model as Captum's ``forward_func``, and the target to hand to Captum.

    The function unwraps the output and gives the model a copy of its inputs, which may be leaves and which
    an in-place model would write into. A callable target is applied within; with classes the function
    returns logits, so that Captum repeats them as it repeats the inputs. Costs a forward pass where the
    target is the prediction.
    """
    target = with_target(model, batch).target

    def logits(inputs: Tensor, *extra: Any) -> Tensor:
        with failures_named(inputs):
            output = logits_of(model(inputs.clone(), *extra))
        if isinstance(target, Tensor):
            within_classes(target, output)
        return output if output.ndim > 1 else output[:, None]  # Captum takes class 0 of (N, 1) only

    def score(inputs: Tensor, *extra: Any) -> Tensor:
        with failures_named(inputs):
            output = model(inputs.clone(), *extra)
        return select(output, target, len(inputs))

    if not isinstance(target, Tensor):
        return score, None
    return logits, target
