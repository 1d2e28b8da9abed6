"""Gradients of batch and instance norm that torch returns wrong on a CPU, put right where they are taken.

Of one row torch 2.13 and 2.14 read the gradient that arrives as if it had the strides of the input, whatever
it has: of one row both layouts call themselves contiguous. And of any number of rows in channels_last they
read weights and statistics that are slices, or expanded, as if their values lay side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import Node

Gradients: TypeAlias = tuple[Tensor | None, ...]

VECTORS = ("_saved_weight", "_saved_running_mean", "_saved_running_var")
"""The vectors that a norm works with by channel, as the node of its backward pass keeps them."""


def mend_norm_gradients(score: Tensor) -> None:
    """Let every norm that ``score`` was computed with return the gradient that finite differences confirm.

    Norms are found in the graph of the backward pass, so that it does not matter how a model calls them. What
    is registered there goes with the graph. Cost: a walk through the graph; nothing away from CPUs.
    """
    if score.grad_fn is None or not score.is_cpu:
        return
    for node in _nodes(score.grad_fn):
        # Torch computes instance norm by these, too; a function of the model's own may have such a name.
        if "BatchNorm" in node.name() and hasattr(node, "_saved_input"):
            _mend(node)


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node of the backward pass once."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        for each, _ in node.next_functions:
            if each is not None and each not in seen:
                seen.add(each)
                waiting.append(each)


def _mend(node: Any) -> None:
    """Let the gradient arrive at a norm in memory that it reads as it is."""
    inputs: Tensor = node._saved_input
    vectors = [each for each in (getattr(node, name, None) for name in VECTORS) if each is not None]
    if not all(each.is_contiguous() for each in vectors):
        node.register_prehook(partial(_in_memory, layout=torch.contiguous_format))
    elif len(inputs) == 1:
        node.register_prehook(partial(_in_memory, layout=_layout(inputs) or torch.contiguous_format))


def _in_memory(gradients: Gradients, layout: torch.memory_format) -> Gradients:
    """Return the gradients contiguous, to the last stride; or as they are if they have the ``layout``."""
    return tuple(
        each
        if each is None or _layout(each) in (torch.contiguous_format, layout)
        else each.clone(memory_format=torch.contiguous_format)
        for each in gradients
    )


def _layout(values: Tensor) -> torch.memory_format | None:
    """Return the layout whose strides these are exactly, those of dimensions of one value, too."""
    n = values.ndim
    orders = {torch.contiguous_format: (*range(n),), torch.channels_last: (0, *range(2, n), 1)}
    for layout, order in orders.items():
        expected = 1
        for dimension in reversed(order):
            if values.stride(dimension) != expected:
                break
            expected *= values.shape[dimension]
        else:
            return layout
    return None
