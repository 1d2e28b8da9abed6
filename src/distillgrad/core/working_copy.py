"""A copy of a model to put hooks on, so that none is ever put on the user's own."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from distillgrad.core.forward import Model
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError


def plain_module(model: Model, method: str) -> nn.Module:
    """Return the model as an ``nn.Module`` made of Python, whose layers ``method`` can tell apart.

    Raises:
        ModelError: it is none, or part of it is compiled, scripted or run in other threads.
    """
    module = unwrapped(model)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{method} works on the layers of an nn.Module, not on a {type(model).__name__}, whose inside "
            "it cannot see; give the module, or take a method such as 'dga' or 'integrated_gradients'"
        )
    return module


def working_copy(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a frozen copy to put hooks on, of torch's own layers, none in place, its weights not copied.

    Frozen, so that a tensor requires a gradient exactly if it depends on the inputs. ``memo`` tells
    afterwards which module of the copy is which of the original, by ``id``.

    Raises:
        ModelError: the model cannot be copied.
    """
    memo = {} if memo is None else memo
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach()
    try:
        network: nn.Module = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"the model cannot be copied, and hooks are not put on your own: {error}") from error
    for module in network.modules():
        # Libraries know layers by their class, so that an accelerated one gets torch's own back.
        module.__class__ = getattr(type(module), "torch_layer", type(module))
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010  # a plain attribute, which mypy takes for a tensor
    return network
