"""Layers that keep their frozen weights as oneDNN multiplies them, and do not lay them out in every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

Kept: TypeAlias = tuple[Tensor, tuple[int, int], Tensor]


class LaidOut(nn.Module):
    """What such layers share: when theirs is the way to compute, and the weights that they keep.

    torch's own layer computes where a torch-function mode watches, under ``torch.func`` and
    ``torch.compile``, with weights to train, and away from CPUs.

    Attributes:
        laid_out: By use and type, the weight, its place and version when it was laid out, and the result.
    """

    laid_out: dict[tuple[str, torch.dtype], Kept]
    weight: Tensor
    bias: Any

    def __getstate__(self) -> dict[str, Any]:
        """Without what is laid out, which can be neither copied nor stored."""
        return self.__dict__ | {"laid_out": {}}

    def type_for(self, input: Tensor) -> torch.dtype | None:
        """The type in which to compute with weights laid out; none where torch's own layer must."""
        watched = has_torch_function_unary(input) or torch._C._are_functorch_transforms_active()
        trains = self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)
        if watched or trains or not input.is_cpu:
            return None
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.weight.dtype
        fits = dtype in (torch.float32, torch.bfloat16) and (input.dtype == dtype or autocast)
        return dtype if fits else None

    def kept(self, use: str, dtype: torch.dtype, lay_out: Callable[[Tensor], Tensor]) -> Tensor:
        """The weights as ``lay_out`` lays them out; done when first asked for, and when they have changed."""
        weight = self.weight
        state = weight.data_ptr(), weight._version
        kept = self.laid_out.get((use, dtype))
        if kept is not None and kept[0] is weight and kept[1] == state:
            return kept[2]
        result = lay_out(weight.detach().to(dtype))
        self.laid_out[use, dtype] = weight, state, result
        return result


def has(*operations: str) -> bool:
    """Whether this torch has oneDNN, and these operations of it."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return all(
        hasattr(torch.ops.mkldnn, operation) for operation in operations
    )  # else another version of torch


def frozen_on_a_cpu(layer: nn.Conv2d | nn.Linear) -> bool:
    """Whether weights of this kind can be laid out."""
    weight = layer.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
