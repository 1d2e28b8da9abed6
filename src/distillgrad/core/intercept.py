"""The model as it is during one call, and as it was after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_lock = threading.Lock()
_evaluated: dict[int, tuple[int, list[nn.Module]]] = {}
"""By ``id`` of the model: how many calls hold it in eval mode, and the modules that were training."""


@contextmanager
def evaluating(model: Callable[..., Any]) -> Iterator[None]:
    """Puts ``model`` into eval mode and gives every module its own ``training`` flag back.

    A row's explanation must not depend on the other rows of its batch, and batch norm's statistics must
    not move: so no module may train meanwhile. The flags come back after an exception too, and with
    several calls at once (threads) only when the last of them ends. A callable that is no module passes.
    """
    if not isinstance(model, nn.Module):
        yield
        return
    with _lock:
        holders, training = _evaluated.get(id(model), (0, []))
        if not holders:
            training = [module for module in model.modules() if module.training]
            for module in training:
                module.training = False
        _evaluated[id(model)] = (holders + 1, training)
    try:
        yield
    finally:
        with _lock:
            holders, training = _evaluated.pop(id(model))
            if holders > 1:
                _evaluated[id(model)] = (holders - 1, training)
            else:
                for module in training:
                    module.training = True
