"""Batch norms that are part of the layer before them: found in the data flow, folded in float64."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from distillgrad.core.working_copy import working_copy

Pair: TypeAlias = tuple[str, str]
"""The names of a convolution or linear layer and of the batch norm that alone takes its output."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def foldable(network: nn.Module, n_extra: int = 0) -> tuple[list[Pair], dict[str, list[str]]]:
    """What can be folded in ``network(inputs, *extra)``; and by reason, the batch norms that cannot.

    Judged by the graph of ``torch.fx``, so by what is called with what and not by names or order, for a
    network in eval mode. Necessary, not sufficient: fx believes what ``forward`` asks of its stand-ins
    (``isinstance``), so the folded network has to be compared with the one before.
    """
    norms = {each: name for name, each in network.named_modules() if isinstance(each, NORMS)}
    if not norms:
        return [], {}
    try:
        graph = _graph(network, n_extra)
    except Exception as error:  # noqa: BLE001  # forward() runs on stand-ins for tensors: anything may happen
        reason = (str(error).splitlines() or [""])[0]
        why = f"the data flow cannot be traced ({type(error).__name__}: {reason})"
        return [], {why: list(norms.values())}
    called = {
        node: network.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"
    }
    n_calls = Counter(called.values())
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    touched = {network.get_submodule(name) for name in read if name}
    pairs: list[Pair] = []
    kept: dict[str, list[str]] = {}
    for node, norm in called.items():
        if not isinstance(norm, NORMS):
            continue
        norms.pop(norm, None)
        before = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        layer = called.get(before) if isinstance(before, fx.Node) else None
        if not isinstance(before, fx.Node) or not isinstance(layer, LINEAR):
            why = "no convolution or linear layer right before"
        elif len(before.users) > 1:
            why = "what comes before is used elsewhere too"
        elif n_calls[norm] > 1 or n_calls[layer] > 1:
            why = "it, or the layer before, is called more than once"
        elif {norm, layer} & touched:
            why = "its parameters, or those of the layer before, are used elsewhere too"
        elif _changed(norm) or _changed(layer):
            why = "it, or the layer before, has hooks or computes its parameters"
        else:
            pairs.append((str(before.target), str(node.target)))
            continue
        kept.setdefault(why, []).append(str(node.target))
    if norms:
        kept["not called, or inside a module of another kind"] = list(norms.values())
    return pairs, kept


def _graph(network: nn.Module, n_extra: int) -> fx.Graph:
    """The data flow: refused by fx if it depends on the inputs' values or shapes."""
    parameters = inspect.signature(network.forward).parameters.values()
    plain = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    # What a call leaves out has its default, whose branch is traced.
    defaults = {each.name: each.default for each in plain[1 + n_extra :]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # On a copy: forward() may keep a stand-in as an attribute.
        return fx.Tracer().trace(working_copy(network), defaults or None)


def _changed(module: nn.Module) -> bool:
    """Whether the module may do something else than its class says: parametrised (a subclass) or hooked."""
    return type(module) not in (*NORMS, *LINEAR) or any(getattr(module, hooks) for hooks in HOOKS)


def fold(network: nn.Module, pairs: Iterable[Pair]) -> None:
    """Makes of each pair, in place, the one layer ``(γ/√(σ²+ε))(Wx + b − μ) + β`` and an identity.

    Computed in float64 and rounded once, for convolutions of every kind: transposed, grouped.
    Source: Jacob et al. 2018, "Quantization and training of neural networks", §3.2.
    """
    for layer_name, norm_name in pairs:
        layer: Any = network.get_submodule(layer_name)
        norm: Any = network.get_submodule(norm_name)
        mean = norm.running_mean.double()
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight.double()
        shift = torch.zeros_like(mean) if norm.bias is None else norm.bias.double()
        bias = -mean if layer.bias is None else layer.bias.double() - mean
        weight = layer.weight.double()
        if isinstance(layer, TRANSPOSED):  # (in, out / groups, …): each group has its own outputs
            by_group = weight.reshape(layer.groups, -1, *weight.shape[1:])
            factor = scale.view(layer.groups, 1, -1, *(1,) * (weight.ndim - 2))
            weight = (by_group * factor).flatten(0, 1)
        else:
            weight = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
        dtype = layer.weight.dtype
        layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        layer.bias = nn.Parameter((bias * scale + shift).to(dtype), requires_grad=False)
        for name, module in list(network.named_modules(remove_duplicate=False)):
            if module is norm:
                parent, _, attribute = name.rpartition(".")
                setattr(network.get_submodule(parent), attribute, nn.Identity())
