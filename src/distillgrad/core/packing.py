"""Weights laid out once: which layers of a network keep theirs as the processor multiplies them."""

from __future__ import annotations

from torch import nn

from distillgrad.core import packed_convolution, packed_linear
from distillgrad.core.laid_out import LaidOut
from distillgrad.core.packed_convolution import PackedConv2d, SparedReLU
from distillgrad.core.packed_linear import PackedLinear


def pack(network: nn.Module, *, in_bfloat16: bool = False) -> int:
    """Lets the layers of ``network`` keep their weights laid out; how many do.

    In place; only plain, frozen, ungrouped convolutions and linear layers on a CPU, which become
    :class:`PackedConv2d` and :class:`PackedLinear`; the latter in float32 only where that multiplies faster.
    """
    for module in list(network.modules()):
        if packed_convolution.packable(module):
            PackedConv2d.made_of(module)
        elif packed_linear.packable(module) and (in_bfloat16 or packed_linear.faster_in_float32()):
            PackedLinear.made_of(module)
    return sum(isinstance(module, LaidOut) for module in network.modules())


def unpack(network: nn.Module) -> None:
    """Gives every layer and ReLU of ``network``, in place, torch's own class back."""
    own = {PackedConv2d: nn.Conv2d, PackedLinear: nn.Linear, SparedReLU: nn.ReLU}
    for module in network.modules():
        if type(module) in own:
            module.__class__ = own[type(module)]
