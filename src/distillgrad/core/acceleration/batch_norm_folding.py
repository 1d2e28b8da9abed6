"""Batch norms that are part of the layer before them: found in the data flow, folded in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from distillgrad.core.acceleration.data_flow import DataFlow, plain

Pair: TypeAlias = tuple[str, str]
"""The names of a convolution or linear layer and of the batch norm that alone takes its output."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)


def foldable(flow: DataFlow) -> tuple[list[Pair], dict[str, list[str]]]:
    """Return what can be folded in a network in eval mode; and by reason, the batch norms that cannot."""
    norms = {each: name for name, each in flow.network.named_modules() if isinstance(each, NORMS)}
    if not norms:
        return [], {}
    if flow.untraceable:
        return [], {flow.untraceable: list(norms.values())}
    called, touched = flow.called(), flow.touched()
    n_calls = Counter(called.values())
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
        elif not plain(norm, *NORMS) or not plain(layer, *LINEAR):
            why = "it, or the layer before, has hooks or computes its parameters"
        else:
            pairs.append((str(before.target), str(node.target)))
            continue
        kept.setdefault(why, []).append(str(node.target))
    if norms:
        kept["not called, or inside a module of another kind"] = list(norms.values())
    return pairs, kept


def fold(network: nn.Module, pairs: Iterable[Pair]) -> None:
    """Make of each pair, in place, the one layer ``(γ/√(σ²+ε))(Wx + b − μ) + β`` and an identity.

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
