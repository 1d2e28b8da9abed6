"""A copy of a model to put hooks on, so that none is ever put on the user's own."""

from __future__ import annotations

import copy
from pickle import PicklingError
from typing import Any

from torch import Tensor, nn

from distillgrad.core.forward import Model, must_be_callable
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


def copied(model: nn.Module, why: str, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a deep copy of a model, also of one that has kept tensors of an earlier pass.

    Args:
        model: It stays as it is.
        why: What would else happen to the model, for the error.
        memo: What is to be shared, by ``id``; tells afterwards which module of the copy is which.
    Raises:
        ModelError: the model cannot be copied, or has lazy layers.
    """
    must_be_callable(model)
    memo = {} if memo is None else memo
    for module in model.modules():
        for kept in vars(module).values():
            if isinstance(kept, Tensor) and not kept.is_leaf:  # such as a weight that a hook recomputes
                memo[id(kept)] = kept.detach().clone()
    try:
        duplicate: nn.Module = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError, PicklingError, copy.Error) as error:
        raise ModelError(f"the model cannot be copied, and {why}: {error}") from error
    return duplicate


def working_copy(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Return a frozen copy to put hooks on, of torch's own layers, none in place, its weights not copied.

    Frozen, so that a tensor requires a gradient exactly if it depends on the inputs. ``memo`` tells
    afterwards which module of the copy is which of the original, by ``id``.

    Raises:
        ModelError: the model cannot be copied.
    """
    must_be_callable(model)
    memo = {} if memo is None else memo
    for parameter in model.parameters():
        if type(parameter) is nn.Parameter:  # others, such as quantised ones, know best how they are copied
            memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        if type(buffer) is Tensor:
            memo[id(buffer)] = buffer.detach()
    network = copied(model, "hooks are not put on your own", memo).requires_grad_(False)
    for module in network.modules():
        # Libraries know layers by their class, so that an accelerated one gets torch's own back.
        module.__class__ = getattr(type(module), "torch_layer", type(module))
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010  # a plain attribute, which mypy takes for a tensor
    return network
