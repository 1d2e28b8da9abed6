"""Wrappers that run a model where its operations cannot be seen: taken off, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import nn

from distillgrad.errors import ModelError


@overload
def unwrapped(model: nn.Module) -> nn.Module: ...
@overload
def unwrapped(model: Callable[..., Any]) -> Callable[..., Any]: ...
def unwrapped(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return the model as Python code that runs in the calling thread: what a function mode can see.

    Raises:
        ModelError: part of it is compiled, scripted or run in other threads; names the module.
    """
    model = wrapped(model)
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        hidden = (
            isinstance(module, nn.DataParallel | torch.jit.ScriptModule)
            or type(module).__name__ == "OptimizedModule"
            or module._compiled_call_impl is not None
        )
        if hidden:
            raise ModelError(
                f"{name or 'the model'} ({type(module).__name__}) runs compiled, scripted or in other "
                "threads, where its operations cannot be seen; give the plain module instead"
            )
    return model


def wrapped(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return what ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` wrap, or the model."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":  # importing its class would take seconds
            model = model._orig_mod  # type: ignore[attr-defined]
        elif hasattr(model, "_torchdynamo_orig_callable"):
            model = model._torchdynamo_orig_callable
        else:
            return model


def unwrapped_or_none(model: nn.Module) -> nn.Module | None:
    """Return the plain module, ``None`` where part of it is compiled or scripted: there is no look inside."""
    try:
        return unwrapped(model)
    except ModelError:
        return None
