"""Whether the rows of a batch may go through a model apart, in several threads, without anybody noticing."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import has_torch_function_unary

from distillgrad.core.batch import Batch
from distillgrad.core.equivalence import logits_apart, rounding, row_logits
from distillgrad.core.forward import Model
from distillgrad.core.profiling import is_profiling
from distillgrad.core.row_threads import streams_for
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError

_known: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], bool]] = weakref.WeakKeyDictionary()
"""By model, which modules it consisted of, and whether rows may part in it."""

MANY_ROWS = 32
"""From so many rows on, times passes, those that show whether rows may part are soon made up for."""


def n_streams(model: Model, batch: Batch, size: int, *, n_rows: int | None = None, n_passes: int = 1) -> int:
    """How many streams may share the batch's rows (or ``n_rows`` of their kind), ``size`` of them at a time.

    Each row takes ``n_passes``. One, so none, where that does not pay; on a GPU; for callables as models or
    targets, of which nobody knows what they keep; with further arguments; under hooks, function modes,
    autocast, ``torch.func``, or whatever else looks at what the calling thread computes; and for a model
    whose answer to a row depends on more than the row, or that writes on itself.

    Cost: for a model's first batch that could be shared, three forward passes of one or two rows.
    """
    inputs = batch.inputs
    n_rows = len(batch) if n_rows is None else n_rows
    streams = streams_for(n_rows, size, inputs[0].numel()) if n_rows * n_passes >= MANY_ROWS else 1
    if streams == 1 or not inputs.is_cpu or callable(batch.target) or batch.extra:
        return 1
    if not isinstance(model, nn.Module) or _watched(model, inputs) or not _independent(model, batch):
        return 1
    return streams


def _watched(model: nn.Module, inputs: Tensor) -> bool:
    return (
        torch.compiler.is_compiling()
        or is_profiling()
        or has_torch_function_unary(inputs)
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or torch.is_autocast_enabled("cpu")
        or torch.is_anomaly_enabled()
        or bool(modules._global_forward_hooks or modules._global_forward_pre_hooks)
        or bool(modules._global_backward_hooks or modules._global_backward_pre_hooks)
        or any(map(_has_hooks, model.modules()))
    )


def _has_hooks(module: nn.Module) -> bool:
    forward = module._forward_hooks or module._forward_pre_hooks
    return bool(forward or module._backward_hooks or module._backward_pre_hooks)


def _independent(model: nn.Module, batch: Batch) -> bool:
    parts = tuple(map(id, model.modules()))
    if model not in _known or _known[model][0] != parts:
        _known[model] = parts, _found_independent(model, batch)
    return _known[model][1]


def _found_independent(model: nn.Module, batch: Batch) -> bool:
    try:
        if unwrapped(model) is not model:
            return False
        alone = batch.rows(slice(1))
        # Another row beside it whose mean, extremes and norm are others; what is made once is made now.
        beside = replace(alone, inputs=torch.cat([alone.inputs, 2 * alone.inputs]))
        both, first = row_logits(model, beside), row_logits(model, alone)
        again: list[Tensor] = []
        changed = changed_by(lambda: again.append(row_logits(model, alone)), model)
    except ModelError:  # which all rows will meet again, together
        return False
    differs = max(logits_apart(found, first) for found in (both[:1], *again))
    return not changed and differs <= rounding(batch.inputs) ** 0.5


def changed_by(call: Callable[[], object], model: nn.Module) -> str:
    """The first thing in ``model`` that ``call`` changes, such as ``"layer4.hidden"``; empty if nothing."""
    before = dict(_state(model))
    call()
    after = dict(_state(model))
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or not _same(before[name], after[name]):
            return name
    return ""


def _state(model: nn.Module) -> Iterator[tuple[str, tuple[list[Any], list[int]]]]:
    """By name, each attribute of each module, with what it holds if it is a collection, and the versions.

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


def _same(one: tuple[list[Any], list[int]], other: tuple[list[Any], list[int]]) -> bool:
    (held, versions), (held_then, versions_then) = one, other
    same = len(held) == len(held_then) and all(a is b for a, b in zip(held, held_then, strict=True))
    return same and versions == versions_then
