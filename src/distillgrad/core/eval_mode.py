"""The model in eval mode and frozen while it is explained, and afterwards as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from distillgrad.core.forward import must_be_callable

_lock = threading.Lock()
_held: dict[int, tuple[int, list[nn.Module], list[nn.Parameter]]] = {}
"""The models in use by ``id``: how many calls hold each, and what they changed (modules, weights)."""


@contextmanager
def evaluating(model: Callable[..., Any]) -> Iterator[None]:
    """Put ``model`` into eval mode, frozen, and give every module and weight its own flag back.

    A row's explanation must not depend on the other rows of its batch, and batch norm's statistics must
    not move: so no module may train meanwhile. Nor are gradients of weights wanted, for which a
    pass would keep what it need not: of a transformer, half as much again. The flags come back after an
    exception too, and with several calls at once (threads) only when the last of them ends. A callable that
    is no module passes.

    Raises:
        ModelError: ``model`` cannot be called.
    """
    must_be_callable(model)
    if not isinstance(model, nn.Module):
        yield
        return
    with _lock:
        holders, training, trained = _held.get(id(model), (0, [], []))
        if not holders:
            training = [module for module in model.modules() if module.training]
            trained = [each for each in model.parameters() if _can_be_frozen(each)]
            for module in training:
                module.training = False
            for parameter in trained:
                parameter.requires_grad_(False)
        _held[id(model)] = (holders + 1, training, trained)
    try:
        yield
    finally:
        with _lock:
            holders, training, trained = _held.pop(id(model))
            if holders > 1:
                _held[id(model)] = (holders - 1, training, trained)
            else:
                for module in training:
                    module.training = True
                for parameter in trained:
                    parameter.requires_grad_(True)


def _can_be_frozen(parameter: nn.Parameter) -> bool:
    """Return whether it has a gradient that can be switched off, and on again."""
    return parameter.requires_grad and parameter.is_leaf and not parameter.is_inference()
