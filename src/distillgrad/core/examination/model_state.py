"""The state of a model: what its modules hold, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import Tensor, nn

from distillgrad.core.forward import Model

Held: TypeAlias = tuple[list[Any], list[int]]
"""The objects that an attribute holds, and the versions of the tensors among them."""


def changed_by(call: Callable[[], object], model: Model) -> str:
    """Return the first thing in ``model`` that ``call`` changes, as ``"layer4.hidden"``; empty if nothing."""
    before = state_of(model)
    call()
    return first_change(before, state_of(model))


def first_change(before: dict[str, Held], after: dict[str, Held]) -> str:
    """Return the name of the first attribute that differs between two states; empty if none does."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not _same(before[name], after[name]):
            return name
    return ""


def state_of(model: Model) -> dict[str, Held]:
    """Return by name each attribute of each module; nothing of a function, which cannot be looked into."""
    return dict(_attributes(model)) if isinstance(model, nn.Module) else {}


def _attributes(model: nn.Module) -> Iterator[tuple[str, Held]]:
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
