"""Rectifiers in all their forms, told from other activations in one pass, for guided back-propagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import Node

from distillgrad.core.observation import Hook, Operation, operation_of
from distillgrad.core.operations import ACTIVATIONS, ADDITIVE, GATES, LINEAR, MOVES, POINTWISE

Edge: TypeAlias = tuple[Node, int]
"""A tensor as the backward pass knows it: the node that computed it, and which of its outputs it is."""

LEAKY = frozenset(("relu", "leaky_relu", "_prelu_kernel", "rrelu_with_noise"))
"""Rectifiers whose derivative torch knows: the slope on either side of zero."""
PRODUCTS = frozenset(("mul", "div", "multiply", "true_divide", "addcmul", "addcdiv"))
MATRICES = frozenset(
    """
    _convolution addbmm addmm addmv addr baddbmm bmm convolution mkldnn_convolution mkldnn_linear mm mv
    """.split()  # noqa: SIM905
)
"""The operations that a layer computes its output with: an activation stands before one of them."""
CURVED = GATES | POINTWISE


class Rectifiers:
    """The rectifiers among the operations of one pass, each given a hook that clips the gradient it gets.

    Attributes:
        guided: Whether the backward pass has come through one of them.
    """

    def __init__(self) -> None:
        self.guided = False
        self._straight: set[Node] = set()
        rules: dict[str, Callable[[Operation], Hook | str | None]] = {
            **dict.fromkeys(LEAKY, lambda _: self._hook()),
            **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh"), self._clamp),
            **dict.fromkeys(("maximum", "fmax", "minimum", "fmin"), self._extremum),
            **dict.fromkeys(ACTIVATIONS, lambda operation: f"{operation.name}()"),
            **dict.fromkeys(MATRICES, self._layer),
            "threshold": self._threshold,
            "where": self._where,
            "masked_fill": self._masked_fill,
            "mul": self._product,
        }
        self._rules = rules

    def examine(self, operation: Operation) -> Hook | str | None:
        """Return the hook of a rectifier, ``None`` for what is linear, gates or selects, or what is wrong."""
        rule = self._rules.get(operation.name)
        return None if rule is None else rule(operation)

    def _hook(self, slope: Tensor | None = None) -> Hook:
        """Return what clips a gradient, and multiplies it by a slope that torch does not know as ReLU's."""

        def clip(gradient: Tensor, _whole: Tensor, _node: Node) -> Tensor:
            self.guided = True
            clipped = gradient.clamp(min=0)
            return clipped if slope is None else clipped * slope

        return clip

    def _threshold(self, operation: Operation) -> Hook | str:
        bound, value = operation.arguments["threshold"], operation.arguments["value"]
        return self._hook() if bound == value == 0 else f"threshold(threshold={bound}, value={value})"

    def _clamp(self, operation: Operation) -> Hook | str | None:
        found = operation.arguments
        low, high = found.get("min", found.get("min_val")), found.get("max", found.get("max_val"))
        return self._bounded(operation, found["self"], low, high)

    def _extremum(self, operation: Operation) -> Hook | str | None:
        values, bound = operation.arguments["self"], operation.arguments["other"]
        if operation.varies(values) and operation.varies(bound):
            return None  # the larger of two features, as of max-pooling
        if operation.varies(bound):
            values, bound = bound, values
        low = operation.name in ("maximum", "fmax")
        return self._bounded(operation, values, bound if low else None, None if low else bound)

    def _bounded(self, operation: Operation, values: Tensor, low: Any, high: Any) -> Hook | str | None:
        """Return the hook of ``min(max(values, low), high)``: a rectifier, if it is cut off at zero."""
        if any(map(operation.varies, (low, high))):
            return None
        if low is not None and _zero(low):
            slope = values > 0
            return self._hook(slope if high is None else slope & (values < high))
        cut = low is not None and bool((values < low).any())
        # A bound above zero is ReLU6's; where nothing is cut off, it is the identity.
        cut |= high is not None and bool(((values > high) & (high <= 0)).any())
        two_sided = low is not None and high is not None and bool((values > high).any())
        return f"{operation.name}() at bounds other than zero" if cut or two_sided else None

    def _where(self, operation: Operation) -> Hook | str | None:
        condition, yes, no = (operation.arguments[name] for name in ("condition", "self", "other"))
        if not operation.depends(condition):
            return None
        for values, other, chosen in ((yes, no, condition), (no, yes, ~condition)):
            if operation.varies(values) and _is_sign(chosen, values) and _is_multiple(other, values):
                return self._hook(values > 0 if _zero(other) else None)
        return "where() by the image's own values"

    def _masked_fill(self, operation: Operation) -> Hook | str | None:
        values, mask, filled = (operation.arguments[name] for name in ("self", "mask", "value"))
        if not operation.depends(mask):
            return None
        if operation.varies(values) and _is_sign(~mask, values) and _zero(filled):
            return self._hook(values > 0)
        return "masked_fill() by the image's own values"

    def _product(self, operation: Operation) -> Hook | str | None:
        one, other = operation.arguments["self"], operation.arguments["other"]
        if not (operation.depends(one) and operation.depends(other)):
            return None
        if operation.varies(one) and operation.varies(other):
            return None if one is other or not _same_origin(one, other) else "x · g(x) as an activation"
        values, factor = (one, other) if operation.varies(one) else (other, one)
        if factor.shape != values.shape or not _is_step(factor):
            return None
        if _is_sign(factor.bool(), values):
            return self._hook(values > 0)
        return "a product with a mask made from the image's own values"

    def _layer(self, operation: Operation) -> str | None:
        """Return the bent function that a layer takes its input from, if it gates nothing before."""
        waiting = [each.grad_fn for each in operation.tensors if operation.varies(each)]
        while waiting:
            node = waiting.pop()
            if node is None or node in self._straight:
                continue
            self._straight.add(node)
            name = operation_of(node)
            if name in CURVED:
                return f"{name}() as an activation"
            following = [each for each, _ in node.next_functions if each is not None]
            product = name in PRODUCTS and len(following) > 1
            if name in (MOVES | LINEAR | ADDITIVE) - MATRICES and not product:
                waiting.extend(following)
        return None


def _zero(value: Any) -> bool:
    """Return whether a number is zero, or a tensor everywhere."""
    return not bool(value.any()) if isinstance(value, Tensor) else value == 0


def _is_sign(mask: Tensor, values: Tensor) -> bool:
    """Return whether a mask says where the values are positive; at zeros it may say either."""
    return mask.shape == values.shape and bool(((mask == (values > 0)) | (values == 0)).all())


def _is_step(factor: Tensor) -> bool:
    """Return whether a factor is a mask: of booleans, or of zeros and ones."""
    return factor.dtype == torch.bool or bool(((factor == 0) | (factor == 1)).all())


def _is_multiple(other: Any, values: Tensor) -> bool:
    """Return whether ``other`` is zero, or the same multiple of the values everywhere: a leak."""
    if _zero(other):
        return True
    if not isinstance(other, Tensor) or other.shape != values.shape:
        return False
    square = (values * values).sum()
    return bool(square) and torch.allclose(other, values * ((other * values).sum() / square), rtol=1e-3)


def _same_origin(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are functions, value by value, of one and the same."""
    return one.shape == other.shape and not _origins(one).isdisjoint(_origins(other))


def _origins(tensor: Tensor) -> set[Edge]:
    """Return the tensor, and all that it is a function of value by value."""
    found: set[Edge] = set()
    waiting: list[Edge] = [(tensor.grad_fn, tensor.output_nr)] if tensor.grad_fn is not None else []
    while waiting:
        edge = waiting.pop()
        if edge not in found:
            found.add(edge)
            following = list(_inputs(edge[0]))
            name = operation_of(edge[0])
            if name in CURVED or (name in ADDITIVE | PRODUCTS | {"neg", "clone"} and len(following) == 1):
                waiting.extend(following)
    return found


def _inputs(node: Node) -> Iterator[Edge]:
    return ((each, number) for each, number in node.next_functions if each is not None)
