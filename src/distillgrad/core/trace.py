"""The calls that one forward pass makes with the inputs, and the modules they are made in.

Libraries that exchange the gradient of modules they know leave every other operation its plain gradient,
without a word. So a pass is watched before, and a model for which that would be wrong is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.forward import NO_GRADIENT, Target, failures_named, select
from distillgrad.core.operations import ADDITIVE, LINEAR, operation_name
from distillgrad.errors import ModelError

PLACES = 5
"""An error names so many places of a kind, and how many more there are."""


@dataclass(frozen=True)
class Call:
    """A function of tensors that depend on the inputs, called within ``module``, whose path is ``name``."""

    function: str
    n_dependent: int
    module: nn.Module
    name: str
    node: Any  # of the autograd graph: tells whether the score depends on it


class Trace(TorchFunctionMode):
    """The calls that one forward pass of a working copy makes with the inputs, and their modules."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.names = {module: name for name, module in network.named_modules()}
        self.calls: list[Call] = []
        self.n_calls: Counter[nn.Module] = Counter()
        self._within: list[nn.Module] = [network]

    def score(self, batch: Batch, target: Target) -> Tensor:
        """Return the copy's score, watched."""
        handles = []
        for module in self.names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave))
        with torch.enable_grad():
            inputs = batch.inputs.detach().requires_grad_().clone()
            entry = inputs.grad_fn
            with failures_named(batch.inputs), self:
                output = self.network(inputs, *batch.extra)
            score = differentiable(select(output, target, len(batch)))
        for handle in handles:
            handle.remove()
        reached = _reached(score.grad_fn)
        if entry not in reached:
            raise ModelError(NO_GRADIENT)
        self.calls = [call for call in self.calls if call.node is None or call.node in reached]
        for node in reached:
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                name = type(node).__name__.removesuffix("Backward")
                self.calls.append(Call(f"autograd function {name}", 1, self.network, "", node))
        return score.detach()

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        self._within.append(module)
        self.n_calls[module] += 1

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._within.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        dependent = list(_dependent((*args, *kwargs.values())))
        # 1/x reaches div as a second operand, which it is not linear in.
        divisor = args[1] if len(args) > 1 else None
        name = operation_name(func)
        result = func(*args, **kwargs)
        results = list(_dependent((result,)))
        if dependent and results:
            if name == "batch_norm" and kwargs.get("training"):
                name = "batch_norm over the batch"
            if name in ("div", "true_divide") and isinstance(divisor, Tensor) and divisor.requires_grad:
                name = "division"
            module = self._within[-1]
            call = Call(name, len(dependent), module, self.names[module], results[0].grad_fn)
            self.calls.append(call)
        return result


def _reached(node: Any) -> set[Any]:
    """Return the autograd graph that ``node`` is computed by: an unused auxiliary head is not in it."""
    reached, rest = set(), [node]
    while rest:
        node = rest.pop()
        if node is not None and node not in reached:
            reached.add(node)
            rest.extend(each for each, _ in node.next_functions)
    return reached


def _dependent(values: Iterable[Any]) -> Iterator[Tensor]:
    """Return the tensors among ``values`` that require a gradient."""
    for value in values:
        if isinstance(value, Tensor):
            if value.requires_grad:
                yield value
        elif isinstance(value, tuple | list):
            yield from _dependent(value)


def kind_of(call: Call) -> str:
    """Return what is wrong with a call: ``"GELU"`` for a layer's, or ``"gelu() as a function in Block"``."""
    kind = type(call.module).__name__
    if type(call.module).__module__.startswith("torch.nn.modules") and not list(call.module.children()):
        return kind
    many = call.n_dependent > 1 and call.function in LINEAR | ADDITIVE
    how = f"of {call.n_dependent} activations" if many else "as a function"
    return f"{call.function}() {how} in {kind}"


def reused(trace: Trace, kinds: tuple[type[nn.Module], ...]) -> dict[str, list[str]]:
    """Return by kind the modules of these kinds that were called more than once."""
    places: dict[str, list[str]] = {}
    for module, n in trace.n_calls.items():
        if n > 1 and type(module) in kinds:
            places.setdefault(f"reused {type(module).__name__}", []).append(f"{trace.names[module]} ({n}×)")
    return places


RULES = (
    "Give each nonlinearity, pooling and addition a module of its own that the method knows (softmax: "
    "explain the logits), or take a method that needs no rules, such as 'dga', 'integrated_gradients' or "
    "'gradient_x_input'"
)
"""The mend where a library that works by modules has no rule."""


def expect_sound(method: str, problems: dict[str, list[str]], mend: str = RULES) -> None:
    """Check that there is nothing that ``method`` has no rule for.

    Raises:
        ModelError: it was; names every kind, and the first places of each.
    """
    if problems:
        where = "; ".join(f"{kind}: {_places(names)}" for kind, names in problems.items())
        raise ModelError(f"{method} has no rule for this model's {where}. {mend}")


def _places(names: list[str]) -> str:
    once = [name or "the model itself" for name in dict.fromkeys(names)]
    rest = len(once) - PLACES
    return ", ".join(once[:PLACES]) + (f" and {rest} more" if rest > 0 else "")


def expect_equal(method: str, actual: Tensor, expected: Tensor) -> None:
    """Check that the copy computes what the model does, or its explanation is another function's."""
    # zennit leaves a merged batch norm its 1/√(1 + ε).
    tolerance = max(1e-3, torch.finfo(actual.dtype).eps ** 0.5)
    scale = float(expected.abs().max()) + tolerance
    if not torch.allclose(actual, expected, rtol=tolerance, atol=tolerance * scale):
        raise ModelError(
            f"{method} works on a copy of the model, and it gives another score: the model goes on with a "
            "tensor that an in-place module has overwritten, defines its layers in another order than it "
            "calls them, or draws random numbers"
        )


def differentiable(score: Tensor) -> Tensor:
    """Return the score, if it depends on the inputs of a working copy.

    Raises:
        ModelError: it does not.
    """
    if not score.requires_grad:
        raise ModelError(NO_GRADIENT)
    return score
