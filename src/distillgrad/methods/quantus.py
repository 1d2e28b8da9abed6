"""Our methods as Quantus calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from distillgrad.methods import create_method


def quantus_explain(name: str, **parameters: Any) -> Callable[..., NDArray[Any]]:
    """Return an ``explain_func`` for Quantus: numpy in, numpy out.

    Args:
        name: As :func:`~distillgrad.methods.find_method` takes it.
        parameters: The method's own.
    Returns: ``(model, inputs, targets, **ignored) -> attributions``, with ``inputs`` ``(N, …)`` and
        ``targets`` ``(N,)`` as arrays or tensors; the model's device is used.
    Raises:
        UnknownNameError: no such method, at once.
        ParameterError: a parameter that it does not have, at once.
    """
    create_method(name, nn.Identity(), **parameters)

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> NDArray[Any]:
        like = torch.empty(0, device="cpu")
        like = next(model.parameters(), like) if isinstance(model, nn.Module) else like
        values = torch.as_tensor(inputs, device=like.device).to(like.dtype)
        wanted = torch.as_tensor(targets, device=like.device)
        attributions = create_method(name, model, **parameters).attribute(values, wanted)
        array: NDArray[Any] = attributions.cpu().numpy()
        return array

    return explain
