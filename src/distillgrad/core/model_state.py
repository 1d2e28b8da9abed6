"""The state of a model: what its modules hold, and models refused whose answers depend on earlier calls."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

from distillgrad.core.batch import Batch, outside_inference_mode
from distillgrad.core.equivalence import logits_apart, rounding, row_logits
from distillgrad.core.forward import Model
from distillgrad.core.intercept import evaluating
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError

Held: TypeAlias = tuple[list[Any], list[int]]
"""The objects that an attribute holds, and the versions of the tensors among them."""

_stateless: weakref.WeakKeyDictionary[nn.Module, tuple[int, ...]] = weakref.WeakKeyDictionary()
"""The modules of each model that was found to keep nothing."""


@contextmanager
def expecting_no_state(model: Model, batch: Batch) -> Iterator[None]:
    """Check that what is computed inside leaves nothing in the model on which its next answer depends.

    A spiking or recurrent network that keeps its state from call to call would begin each pass where the one
    before ended, so that a map depended on all that was asked earlier. Counters and what is made once, such
    as a grid of positions, do no harm. Only plain modules are looked into.

    Raises:
        ModelError: it does; names what changes.
    Cost: the first time two looks at the modules, and where something has changed two passes of a row.
    """
    if not isinstance(model, nn.Module) or unwrapped_or_none(model) is not model:
        yield
        return
    parts = tuple(map(id, model.modules()))
    if _stateless.get(model) == parts:
        yield
        return
    before = dict(_state(model))
    yield
    changed = first_change(before, dict(_state(model)))
    if changed and _answers_change(model, batch):
        raise ModelError(
            f"the model keeps {changed} from call to call, and its answer to the same input changes with it; "
            "give a function that resets it before each call, such as lambda x: (net.reset(), net(x))[1]"
        )
    _stateless[model] = parts


def unwrapped_or_none(model: nn.Module) -> nn.Module | None:
    """Return the plain module, ``None`` where part of it is compiled or scripted: there is no look inside."""
    try:
        return unwrapped(model)
    except ModelError:
        return None


def _answers_change(model: nn.Module, batch: Batch) -> bool:
    row = batch.rows(slice(1))
    with evaluating(model), outside_inference_mode():
        first, second = row_logits(model, row), row_logits(model, row)
    return bool(logits_apart(second, first) > rounding(row.inputs) ** 0.5)


def changed_by(call: Callable[[], object], model: nn.Module) -> str:
    """Return the first thing in ``model`` that ``call`` changes, as ``"layer4.hidden"``; empty if nothing."""
    before = dict(_state(model))
    call()
    return first_change(before, dict(_state(model)))


def first_change(before: dict[str, Held], after: dict[str, Held]) -> str:
    """Return the name of the first attribute that differs between two states; empty if none does."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not _same(before[name], after[name]):
            return name
    return ""


def _state(model: nn.Module) -> Iterator[tuple[str, Held]]:
    """Yield by name each attribute of each module, with what it holds if it is a collection, and versions.

    The objects themselves: as long as they are held, no new one can have their identity.
    """
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            held = [value]
            if isinstance(value, dict):
                held += value.values()
            elif isinstance(value, list | set):
                held += value
            versions = [
                each._version for each in held if isinstance(each, Tensor) and not each.is_inference()
            ]
            yield f"{prefix}.{name}".removeprefix("."), (held, versions)


def _same(one: Held, other: Held) -> bool:
    (held, versions), (held_then, versions_then) = one, other
    same = len(held) == len(held_then) and all(a is b for a, b in zip(held, held_then, strict=True))
    return same and versions == versions_then
