"""Weights laid out once: which layers of a network keep theirs as the processor multiplies them."""

from __future__ import annotations

from torch import nn

from distillgrad.core.acceleration import prepacked_convolution, prepacked_linear
from distillgrad.core.acceleration.prepacked_convolution import PrepackedConv2d
from distillgrad.core.acceleration.prepacked_layer import PrepackedLayer, multiplies_bfloat16
from distillgrad.core.acceleration.prepacked_linear import PrepackedLinear


def prepack(network: nn.Module, *, in_bfloat16: bool = False) -> int:
    """Let the layers of ``network`` keep their weights laid out; return how many do.

    In place; only plain, frozen, ungrouped convolutions and linear layers on a CPU, which become
    :class:`PrepackedConv2d` and :class:`PrepackedLinear`; the latter in float32 only where that multiplies
    faster.
    """

    def faster_in_linear() -> bool:
        return multiplies_bfloat16() if in_bfloat16 else prepacked_linear.faster_in_float32()

    for module in list(network.modules()):
        if prepacked_convolution.prepackable(module):
            PrepackedConv2d.made_of(module)
        elif prepacked_linear.prepackable(module) and faster_in_linear():
            PrepackedLinear.made_of(module)
    return sum(isinstance(module, PrepackedLayer) for module in network.modules())
