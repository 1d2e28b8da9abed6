"""The question whether rows of a batch may go through a model apart, in several threads, unnoticed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import has_torch_function_unary

from distillgrad.core.batch import Batch, outside_inference_mode
from distillgrad.core.equivalence import rounding
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.examination.findings import findings_of
from distillgrad.core.examination.tries import try_answers
from distillgrad.core.forward import Model
from distillgrad.core.profiling import is_profiling


def may_part(model: Model, batch: Batch) -> bool:
    """Return whether several threads may share the batch's rows, each calling ``model`` on its own.

    No: on a GPU; for callables as models or targets, which may keep what they see; with further arguments;
    under hooks, function modes, autocast, ``torch.func``, or whatever else looks at what the calling thread
    computes; and for a model whose answer to a row depends on more than the row, or that writes on itself.

    Cost: for a model's first batch, three forward passes of one or two rows.
    """
    inputs = batch.inputs
    if not inputs.is_cpu or callable(batch.target) or batch.extra or not isinstance(model, nn.Module):
        return False
    return not _watched(model, inputs) and _independent(model, batch)


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
    findings = findings_of(model, batch.inputs)
    if findings is None:
        return False
    if not {"again", "beside"} <= findings.apart.keys() and not findings.untriable:
        with evaluating(model), outside_inference_mode():
            try_answers(model, batch, findings, beside=True)
    if findings.untriable or findings.writes:
        return False
    return bool(max(findings.apart["again"], findings.apart["beside"]) <= rounding(batch.inputs) ** 0.5)
