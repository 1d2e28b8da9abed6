"""One forward pass observed: each operation on what depends on the image, and the gradient by its output.

What autograd records is observed, beneath every way in which Python may call an operation: as a function,
a method, a module, in place, as an ``aten`` operator of an exported program, within a composite such as
multi-head attention, in a block that is checkpointed. What is registered lies on the graph of this one pass
and goes with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from distillgrad.core.batch import Batch
from distillgrad.core.forward import differentiable_score, gradient_of
from distillgrad.core.operations import KNOWN, MOVES, operation_name
from distillgrad.core.trace import expect_sound
from distillgrad.core.wrappers import unwrapped

Gradients: TypeAlias = tuple[Tensor | None, ...]
Examination: TypeAlias = "Callable[[Operation], Hook | str | None]"
Hook: TypeAlias = Callable[[Tensor, Tensor, Node], Tensor | None]
"""Takes the gradient by an operation's output, in its shape, and returns another one, or ``None``.

The second argument is the same gradient, or that of the whole tensor where a view of it is written in place;
the third the operation's node.
"""


@dataclass(frozen=True)
class Operation:
    """An operation of torch that is about to run on values that depend on the image.

    Attributes:
        name: Its name in :mod:`~distillgrad.core.operations`.
        function: The operator.
        arguments: By the names of the operator's schema, defaults included.
        in_place: Whether it writes into its first argument.
    """

    name: str
    function: Any
    arguments: dict[str, Any]
    in_place: bool
    observation: Observation

    def depends(self, value: Any) -> bool:
        """Return whether a tensor is computed from the image, differentiably or not, such as a mask."""
        return isinstance(value, Tensor) and self.observation.depends(value)

    def varies(self, value: Any) -> bool:
        """Return whether a tensor passes a gradient on to the image."""
        return isinstance(value, Tensor) and value.requires_grad and self.observation.depends(value)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments, those in lists included."""
        return list(_tensors(self.arguments.values()))

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the operator takes them: by position, and by keyword those that must be."""
        only = {each.name for each in self.function._schema.arguments if each.kwarg_only}
        named = {name: value for name, value in self.arguments.items() if name in only}
        return tuple(value for name, value in self.arguments.items() if name not in only), named


class Observation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations of a forward pass, each handed to ``examine`` before it runs.

    ``examine`` returns a hook for the gradient by the operation's output, ``None`` if there is nothing to do,
    or in words what is wrong with the operation if it lies between the image and the score.
    """

    def __init__(self, model: Callable[..., Any], image: Tensor, examine: Examination) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._examine = examine
        self._dependent = WeakTensorKeyDictionary()
        self._dependent[image] = True
        self._pending: tuple[Operation, Hook | str | None, str, Any] | None = None
        self._problems: list[tuple[Node, str, str]] = []
        self._seen: set[Node] = set()
        self._own: dict[Node, str] = {}

    def depends(self, tensor: Tensor) -> bool:
        return tensor in self._dependent or (tensor._is_view() and tensor._base in self._dependent)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.settle()
        kwargs = kwargs or {}
        if not any(map(self.depends, _tensors((*args, *kwargs.values())))):
            return func(*args, **kwargs)
        operation = Operation(
            operation_name(func), func, _by_name(func, args, kwargs), func._schema.is_mutable, self
        )
        found = self._examine(operation) if operation.name in KNOWN else f"{operation.name}()"
        # Without gradients: within a function of the model's own, which is named by its node.
        where = self._place() if isinstance(found, str) or not torch.is_grad_enabled() else ""
        result = func(*args, **kwargs)
        for each in _tensors((result,)):
            self._dependent[each] = True
            if operation.in_place and each._is_view():
                self._dependent[each._base] = True
        self._pending = operation, found, where, result
        return result

    def settle(self) -> None:
        """Register the hook of the last operation, now that its output is part of the graph."""
        if self._pending is None:
            return
        (operation, found, where, result), self._pending = self._pending, None
        output = next(_tensors((result,)), None)
        if output is None or not output.requires_grad:
            return
        within = output._base if operation.in_place and output._is_view() else None
        node = output.grad_fn if within is None else within.grad_fn
        if node is None:
            return
        if isinstance(node, BackwardCFunction):
            self._own.setdefault(node, where)
            return
        self._seen.add(node)
        if isinstance(found, str):
            self._problems.append((node, found, where))
        elif found is not None and within is None:
            node.register_prehook(_on_first(lambda gradient: found(gradient, gradient, node)))
        elif found is not None and within is not None:
            node.register_prehook(_on_first(_on_part(found, places_in(within, output), output.shape, node)))

    def expect_known(self, method: str, mend: str, score: Tensor, image: Tensor) -> None:
        """Check that ``method`` knows each operation between the image and the score.

        Raises:
            ModelError: it does not; names the operations and the modules that call them.
        """
        path = nodes_between(image, score)
        problems: dict[str, list[str]] = {}
        for node, what, where in self._problems:
            if node in path:
                problems.setdefault(what, []).append(where)
        for node in path - self._seen:
            name = operation_of(node)
            if isinstance(node, BackwardCFunction) or name not in MOVES | {"accumulate_grad", "slices"}:
                kind = f"autograd function {node.name().removesuffix('Backward')}"
                problems.setdefault(kind, []).append(self._own.get(node, ""))
        expect_sound(method, problems, mend)

    def _place(self) -> str:
        """Return the name of the innermost module that is being called, from the calls of Python."""
        if not isinstance(self._model, nn.Module):
            return ""
        names: dict[int, str] = {id(module): name for name, module in self._model.named_modules()}
        frame = inspect.currentframe()
        while frame is not None:
            name = names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return ""


def observed_gradient(
    method: str,
    mend: str,
    model: Callable[..., Any],
    batch: Batch,
    examine: Examination,
    functions: TorchFunctionMode | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the score ``(N,)`` and its gradient by the inputs, of a pass whose operations are examined.

    ``mend`` says, as a sentence, what to do about operations that ``method`` does not know; ``functions``
    may call others instead, for the forward pass.

    Raises:
        ModelError: the model runs where its operations cannot be seen, or ``method`` does not know one of
            them; as for :func:`~distillgrad.core.forward.value_and_gradient`.
    Cost: one forward and one backward pass.
    """
    model = unwrapped(model)
    leaf = batch.inputs.detach().requires_grad_()
    observation = Observation(model, leaf, examine)
    # In a function mode accelerated layers are torch's own.
    with functions or BaseTorchFunctionMode(), observation:
        score, _ = differentiable_score(model, leaf, batch.target, batch.extra)
        observation.settle()
    observation.expect_known(method, mend, score, leaf)
    return score.detach(), gradient_of(score, leaf)


def nodes_between(image: Tensor, score: Tensor) -> set[Node]:
    """Return the nodes of the backward pass through which the score's gradient reaches the image."""
    takers: dict[Node, list[Node]] = {}
    root = get_gradient_edge(score).node
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        for each, _ in node.next_functions:
            if each is not None:
                takers.setdefault(each, []).append(node)
                if each not in seen:
                    seen.add(each)
                    waiting.append(each)
    path, waiting = set(), [get_gradient_edge(image).node]
    while waiting:
        node = waiting.pop()
        if node not in path:
            path.add(node)
            waiting.extend(takers.get(node, ()))
    return path


def operation_of(node: Node) -> str:
    """Return the operation's name, ``"unsafe_view"`` for ``UnsafeViewBackward0``."""
    name = node.name().rpartition("::")[2].partition("Backward")[0]
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")


def _on_first(hook: Callable[[Tensor], Tensor | None]) -> Callable[[Gradients], Gradients | None]:
    """Return the hook of a node that applies ``hook`` to the gradient by its first output."""

    def prehook(gradients: Gradients) -> Gradients | None:
        first = gradients[0]
        changed = None if first is None else hook(first)
        return None if changed is None else (changed, *gradients[1:])

    return prehook


def _on_part(hook: Hook, places: Tensor, shape: torch.Size, node: Node) -> Callable[[Tensor], Tensor | None]:
    """Return the hook of a tensor's gradient that applies ``hook`` to that of the view written in place."""

    def part(gradient: Tensor) -> Tensor | None:
        flat = gradient.flatten()
        changed = hook(flat[places].view(shape), gradient, node)
        return None if changed is None else flat.index_copy(0, places, changed.flatten()).view_as(gradient)

    return part


def places_in(base: Tensor, view: Tensor) -> Tensor:
    """Return where the values of a view lie in its base, as places in the flattened base."""
    numbers = torch.arange(base.numel(), device=base.device).view(base.shape)
    places = torch.empty_strided(base.shape, base.stride(), dtype=numbers.dtype, device=base.device)
    places.copy_(numbers)
    offset = view.storage_offset() - base.storage_offset()
    return places.as_strided(view.shape, view.stride(), offset).flatten()


def _by_name(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operator by the names of its schema."""
    return {
        each.name: args[place] if place < len(args) else kwargs.get(each.name, each.default_value)
        for place, each in enumerate(function._schema.arguments)
    }


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
