"""Layers that keep their frozen weights as oneDNN multiplies them, and do not lay them out in every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

from distillgrad.core.plain_layers import has_plain_weights

Use: TypeAlias = tuple[str, torch.dtype, torch.Size | None]
"""The way of computing that weights are laid out for, their type, and the inputs' shape if that matters."""
State: TypeAlias = tuple[Tensor, int, int]
"""Weights, their place in memory, and their version."""


class PrepackedLayer(nn.Module):
    """A layer that keeps its weights as oneDNN lays them out, for whenever oneDNN is the way to compute.

    torch's own layer computes where a torch-function mode watches, under ``torch.func`` and
    ``torch.compile``, with weights to train, and away from CPUs.

    Attributes:
        torch_layer: The class of torch's own.
        prepacked: The weights as they are laid out for each use.
        prepacked_from: What they were then.
    """

    torch_layer: ClassVar[type[nn.Module]]
    prepacked: dict[Use, Tensor]
    prepacked_from: State | None
    weight: Tensor
    bias: Any

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without what is laid out, which can be neither copied nor stored."""
        return self.__dict__ | {"prepacked": {}, "prepacked_from": None}

    def type_for(self, input: Tensor) -> torch.dtype | None:
        """Return the type in which to compute with weights laid out; none where torch's own layer must."""
        watched = has_torch_function_unary(input) or torch._C._are_functorch_transforms_active()
        trains = self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)
        if watched or trains or not input.is_cpu:
            return None
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.weight.dtype
        known = dtype == torch.float32 or (dtype == torch.bfloat16 and multiplies_bfloat16())
        return dtype if known and (input.dtype == dtype or autocast) else None

    def weights_for(
        self, use: str, dtype: torch.dtype, shape: torch.Size | None, prepack: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the weights as ``prepack`` lays them out, done at first use and when they have changed.

        How oneDNN lays out a convolution depends on the shape of its inputs: what it does for three rows may
        take twenty times as long with one. The few layouts that differ are kept.
        """
        kept = self._up_to_date()
        weights = kept.get((use, dtype, shape))
        if weights is not None:
            return weights
        result = prepack(self.weight.detach().to(dtype))
        for (its_use, its_dtype, _), other in list(kept.items()):
            if (its_use, its_dtype) == (use, dtype) and _alike(result, other):
                result = other
        kept[use, dtype, shape] = result
        return result

    def _up_to_date(self) -> dict[Use, Tensor]:
        """Return what is laid out; nothing, if the weights have changed since."""
        weight = self.weight
        place, version = weight.data_ptr(), weight._version
        source = self.prepacked_from
        if source is None or source[0] is not weight or source[1:] != (place, version):
            self.prepacked, self.prepacked_from = {}, (weight, place, version)
        return self.prepacked


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether oneDNN lays both out in the same way."""
    describe = torch.ops.mkldnn._get_mkldnn_serialized_md
    return torch.equal(describe(one), describe(other))


def has(*operations: str) -> bool:
    """Return whether this torch has oneDNN, and these operations of it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return all(hasattr(torch.ops.mkldnn, each) for each in operations)  # else another version of torch


def multiplies_bfloat16() -> bool:
    """Return whether oneDNN lays out bfloat16 on this processor, which takes AVX-512 or its like."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def frozen_on_a_cpu(layer: nn.Conv2d | nn.Linear) -> bool:
    """Return whether weights of this kind can be laid out, and are not computed anew in every call."""
    weight = layer.weight
    known = weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
    computed = bool(layer._forward_pre_hooks) or "forward" in vars(layer)
    return known and has_plain_weights(layer) and not computed
