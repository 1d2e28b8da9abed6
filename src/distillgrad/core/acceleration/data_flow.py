"""The flow of data through a network, which modules it calls with what, judged by its graph."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass

from torch import fx, nn

from distillgrad.core.plain_layers import has_plain_weights
from distillgrad.core.working_copy import working_copy

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class DataFlow:
    """The calls that ``network(inputs, *extra)`` makes, in eval mode, by ``torch.fx``.

    Necessary, not sufficient: fx believes what ``forward`` asks of its stand-ins for tensors
    (``isinstance``), so a network that is changed by it has to be compared with the one before.

    Attributes:
        graph: Its nodes bear the names of the network's modules; empty if it cannot be traced.
        untraceable: Why it cannot; empty if it can.
    """

    network: nn.Module
    graph: fx.Graph
    untraceable: str = ""

    def called(self) -> dict[fx.Node, nn.Module]:
        """Return by node the module that it calls, as it now is; in order."""
        nodes = (node for node in self.graph.nodes if node.op == "call_module")
        return {node: self.network.get_submodule(str(node.target)) for node in nodes}

    def touched(self) -> set[nn.Module]:
        """Return the modules whose parameters or attributes are used otherwise than by calling them."""
        read = {str(node.target).rpartition(".")[0] for node in self.graph.nodes if node.op == "get_attr"}
        return {self.network.get_submodule(name) for name in read if name}


def data_flow(network: nn.Module, n_extra: int = 0) -> DataFlow:
    """Return the data flow of a network that is called with so many further arguments.

    A forward pass that depends on the inputs' values or shapes cannot be traced.
    """
    parameters = inspect.signature(network.forward).parameters.values()
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    # What a call leaves out has its default, whose branch is traced.
    defaults = {each.name: each.default for each in named[1 + n_extra :]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # On a copy: forward() may keep a stand-in as an attribute.
            return DataFlow(network, fx.Tracer().trace(working_copy(network), defaults or None))
    except Exception as error:  # noqa: BLE001  # forward() runs on stand-ins for tensors: anything may happen
        reason = (str(error).splitlines() or [""])[0]
        why = f"the data flow cannot be traced ({type(error).__name__}: {reason})"
        return DataFlow(network, fx.Graph(), why)


def plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return whether the module does what its class says: no subclass (parametrised), and not hooked.

    With weights of its own: neither recomputed by others, nor of a tensor class such as quantised ones.
    """
    hooked = any(getattr(module, hooks) for hooks in HOOKS) or "forward" in vars(module)
    return type(module) in kinds and not hooked and has_plain_weights(module)
