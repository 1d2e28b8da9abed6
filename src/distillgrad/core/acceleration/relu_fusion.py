"""ReLUs computed by the convolution before them, while its output is still in the processor's cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import fx, nn
from torch.overrides import BaseTorchFunctionMode

from distillgrad.core.acceleration.batch_norm_folding import Pair
from distillgrad.core.acceleration.data_flow import DataFlow, plain
from distillgrad.core.acceleration.prepacked_convolution import FusedReLU, PrepackedConv2d, prepackable
from distillgrad.core.batch import Batch
from distillgrad.core.equivalence import EXACT, logits_apart, row_logits


def fuse_relus_if_exact(network: nn.Module, flow: DataFlow, probe: Batch) -> tuple[int, str]:
    """Let convolutions compute the ReLUs after them if that is exact; return how many, or why none.

    Cost: two forward passes of the probe, where there is something to change.
    """
    pairs = fusable_relus(flow)
    if not pairs:
        return 0, ""
    before = row_logits(network, probe)
    fuse_relus(network, pairs)
    with BaseTorchFunctionMode():  # in which convolutions are torch's own: nothing is rounded otherwise
        apart = logits_apart(row_logits(network, probe), before)
    if apart <= EXACT:
        return len(pairs), ""
    fuse_relus(network, pairs, False)
    return 0, f"ReLUs within convolutions: logits differ by {apart:.1g} of the largest"


def fusable_relus(flow: DataFlow) -> list[Pair]:
    """Return the convolutions whose output only a ReLU takes, each with it; to be laid out on a CPU."""
    called = flow.called()
    n_calls = Counter(called.values())
    pairs = []
    for node, activation in called.items():
        before = _before(node)
        while before is not None and plain(called.get(before, flow.network), nn.Identity):
            before = _before(before)
        if before is None or not plain(activation, nn.ReLU):
            continue
        layer = called.get(before, flow.network)
        if prepackable(layer) and plain(layer, nn.Conv2d) and n_calls[layer] == 1:
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _before(node: fx.Node) -> fx.Node | None:
    """Return the node that this one takes, if it takes nothing else and nothing else takes that."""
    taken = node.args[0] if len(node.args) == 1 and not node.kwargs else None
    return taken if isinstance(taken, fx.Node) and len(taken.users) == 1 else None


def fuse_relus(network: nn.Module, pairs: Iterable[Pair], does: bool = True) -> None:
    """Let the convolution of each pair compute the ReLU, too, in place; or no longer."""
    for layer_name, activation_name in pairs:
        layer: Any = network.get_submodule(layer_name)
        PrepackedConv2d.made_of(layer).fuses_relu = does
        network.get_submodule(activation_name).__class__ = FusedReLU
