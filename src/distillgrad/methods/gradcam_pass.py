"""One forward pass in which each tensor is followed: where the image's places lie in it, and what made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Target, failures_named, select
from distillgrad.core.logits import predictions
from distillgrad.core.trace import differentiable
from distillgrad.methods.axes_of_calls import Call, name_of
from distillgrad.methods.axes_of_layers import axes_after
from distillgrad.methods.image_axes import (
    Axes,
    channels,
    holds_rows,
    image_axes,
    layout_of,
    size_of,
    tells_place,
)

Edge: TypeAlias = tuple[Node, int]
"""A tensor in the graph of the backward pass: the node that made it, and which of its results it is."""
IN_PLACE = frozenset("__iadd__ __isub__ __imul__ __itruediv__ __ipow__ __setitem__".split())  # noqa: SIM905
ATTRIBUTES = frozenset("requires_grad shape grad_fn dtype device size dim untyped_storage is_leaf".split())  # noqa: SIM905


@dataclass
class Made:
    """A tensor that a call made, which depends on the images.

    Attributes:
        lost: The name of the function, if it put a grid where it cannot be followed.
        values: The tensor, if it holds feature maps; a copy once something is about to overwrite it.
    """

    axes: Axes
    function: str
    within: str
    lost: str = ""
    values: Tensor | None = None
    version: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(map(size_of, self.axes))


class WatchedPass(TorchFunctionMode):
    """One forward pass of a working copy, each tensor with its axes, and the modules that it comes from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.made: dict[Edge, Made] = {}
        self.leaving: dict[Edge, list[str]] = {}
        self.entering: dict[Edge, list[str]] = {}
        self.outputs: dict[str, list[Any]] = {}
        self._by_node: dict[Node, list[Made]] = {}
        self._by_storage: dict[int, list[Made]] = {}
        self._within: list[str] = [""]
        self._names = {module: name for name, module in network.named_modules()}

    def score(self, batch: Batch) -> Tensor:
        """Return the copy's score ``(N,)`` of the target, or of the predicted classes, with its graph."""
        handles = [
            handle
            for module in self._names
            for handle in (
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave),
            )
        ]
        with torch.enable_grad():
            images = batch.inputs.detach().requires_grad_().clone()
            self.entry = edge_of(images)
            self.made[self.entry] = Made(image_axes(images.shape), "", "")
            with failures_named(batch.inputs), self:
                output = self.network(images, *batch.extra)
            target: Target = predictions(output, len(images)) if batch.target is None else batch.target
            score = differentiable(select(output, target, len(images)))
        for handle in handles:
            handle.remove()
        return score

    def of_node(self, node: Node) -> Iterator[Made]:
        """Yield what was made at a node of the graph."""
        yield from self._by_node.get(node, ())

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._within.append(self._names[module])
        for each in dependent((args, kwargs)):
            self.entering.setdefault(edge_of(each), []).append(self._within[-1])

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        name = self._within.pop()
        edges = []
        for each in dependent(output):
            self._known(each)
            edges.append(edge_of(each))
        self.outputs.setdefault(name, []).append(edges)
        if len(edges) == 1:  # of several the name does not tell which
            self.leaving.setdefault(edges[0], []).append(name)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name in ATTRIBUTES:
            return func(*args, **kwargs)
        # Before the call: one in place gives the tensor another place in the graph.
        known = {id(each): self._known(each) for each in dependent((args, kwargs))}
        if known and _may_overwrite(func, args, kwargs):
            self._save(args[0] if args else kwargs["input"])
        result = func(*args, **kwargs)
        results = list(dependent(result))
        if known and results:
            call = Call(func, args, kwargs, results, lambda values: known.get(id(values)))
            placed = any(tells_place(dimension) for axes in known.values() for dimension in axes)
            for each, axes in zip(results, axes_after(call), strict=True):
                self._make(each, axes, name, placed)
        return result

    def _known(self, values: Tensor) -> Axes:
        """Return the axes of a tensor that depends on the images."""
        edge = edge_of(values)
        if edge not in self.made:
            # Made where torch functions are not seen, such as a function with a backward pass of its own.
            axes, name = self._inherited(edge[0], values.shape), edge[0].name().removesuffix("Backward")
            self._make(values, axes, name, placed=True)
        return self.made[edge].axes

    def _inherited(self, node: Node, shape: torch.Size) -> Axes | None:
        """Return the axes of the nearest tensor of this shape that the node was computed from."""
        seen, waiting = {node}, [node]
        for each in waiting:
            for following, n in each.next_functions:
                known = self.made.get((following, n)) if following is not None else None
                if known and known.shape == tuple(shape):
                    return known.axes
                if following is not None and known is None and following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return None

    def _make(self, values: Tensor, axes: Axes | None, function: str, placed: bool) -> None:
        edge = edge_of(values)
        if edge in self.made:
            return  # it was returned as it came
        unread = axes is None or (any(map(tells_place, axes)) and not any(map(holds_rows, axes)))
        lost = function if unread and placed else ""
        made = Made(axes or tuple(channels(size) for size in values.shape), function, self._within[-1], lost)
        self.made[edge] = made
        self._by_node.setdefault(edge[0], []).append(made)
        if layout_of(made.axes):
            made.values, made.version = values.detach(), values._version
            self._by_storage.setdefault(values.untyped_storage().data_ptr(), []).append(made)

    def _save(self, values: Any) -> None:
        """Copy what maps lie where an operation in place is about to write."""
        if isinstance(values, Tensor) and values.requires_grad:
            for made in self._by_storage.pop(values.untyped_storage().data_ptr(), []):
                if made.values is not None:
                    made.values = made.values.clone()
                    made.version = made.values._version


def edge_of(values: Tensor) -> Edge:
    """Return the place of a tensor in the graph of the backward pass."""
    edge = get_gradient_edge(values)
    return edge.node, edge.output_nr


def dependent(values: Any) -> Iterator[Tensor]:
    """Yield the tensors within ``values`` that require a gradient: of a frozen network, the images' own."""
    if isinstance(values, Tensor):
        if values.requires_grad:
            yield values
    elif isinstance(values, Mapping):
        yield from dependent(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for each in values:
            yield from dependent(each)


def _may_overwrite(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    name = getattr(function, "__name__", "").split(".")[0]
    in_place = name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return in_place or kwargs.get("inplace", False) is True or any(each is True for each in args)
