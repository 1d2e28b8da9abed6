"""The module in which two passes that should agree first do not: for the words of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model
from distillgrad.core.logits import logits_of
from distillgrad.core.working_copy import working_copy

Watched: TypeAlias = list[tuple[str, Tensor]]
"""The output of each module, or the gradient that arrived there, in the order in which they end."""


def where_answers_part(model: Model, one: Batch, other: Batch, tolerance: float) -> str:
    """Return the first module whose output for the last row differs, as ``" in 3 (BatchNorm2d)"``.

    Empty where none is found: in a function's own code, or in a model that cannot be copied.
    Cost: a pass of each batch, whose activations are kept.
    """

    def parting(network: nn.Module) -> str:
        first, second = _watched(network, one)[0], _watched(network, other)[0]
        for (name, values), (_, others) in zip(first, second, strict=True):
            if _apart(values, others, len(one), len(other)) > tolerance:
                return name
        return ""

    return _named(model, parting)


def where_gradients_part(model: Model, one: Batch, other: Batch, chosen: Tensor, tolerance: float) -> str:
    """Return the last module behind which the last row's gradient of its logit ``chosen`` differs."""

    def parting(network: nn.Module) -> str:
        first = _watched(network, one, chosen)[1]
        second = _watched(network, other, chosen)[1]
        after = ""
        for (name, values), (_, others) in zip(reversed(first), reversed(second), strict=True):
            if _apart(values, others, len(one), len(other)) > tolerance:
                return after
            after = name
        return after

    return _named(model, parting)


def _named(model: Model, parting: Callable[[nn.Module], str]) -> str:
    if not isinstance(model, nn.Module):
        return ""
    try:
        network = working_copy(model)
        name = parting(network)
    except Exception:  # noqa: BLE001  # the refusal stands without a name, whatever a copy or a hook meets
        return ""
    return f" in {name} ({type(network.get_submodule(name)).__name__})" if name else ""


def _watched(network: nn.Module, batch: Batch, chosen: Tensor | None = None) -> tuple[Watched, Watched]:
    """Return what the modules return, and the gradients of ``chosen``'s logit that arrive there."""
    outputs: Watched = []
    leaves: list[tuple[str, Tensor]] = []

    def watching(name: str) -> Callable[..., None]:
        def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
            for each in _tensors(output):
                outputs.append((name, each.detach().clone()))
                leaves.append((name, each))

        return watch

    handles = [
        module.register_forward_hook(watching(name)) for name, module in network.named_modules() if name
    ]
    try:
        with torch.set_grad_enabled(chosen is not None):
            leaf = batch.inputs.detach().clone().requires_grad_(chosen is not None)
            output = network(leaf.clone(), *batch.extra)
            if chosen is None:
                return outputs, []
            logits = logits_of(output).reshape(len(batch), -1)
            score = logits.gather(1, chosen.expand(len(batch))[:, None]).sum()
            found = torch.autograd.grad(score, [each for _, each in leaves], allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    arriving = [
        (name, torch.zeros_like(value) if each is None else each)
        for (name, value), each in zip(leaves, found, strict=True)
    ]
    return outputs, arriving


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)


def _apart(one: Tensor, other: Tensor, n_one: int, n_other: int) -> float:
    """Return the relative distance of the last rows' values, 0 where values do not go by rows."""
    if not one.ndim or len(one) % n_one or len(other) * n_one != len(one) * n_other:
        return 0.0
    each = len(one) // n_one
    a, b = one[-each:].double(), other[-each:].double()
    if a.shape != b.shape:
        return 0.0
    return float(((a - b).norm() / a.norm().clamp(1e-30)).nan_to_num(torch.inf))
