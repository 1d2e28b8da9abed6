"""The inside of one call of a model, seen at torch-function level; and the model as it was after it.

No hook is put on a module, so none can be left on it. A function mode belongs to its thread: two
threads that explain at once do not see each other, and code that runs outside Python is not seen at all,
so wrappers around such code are taken off or refused (:func:`~distillgrad.core.wrappers.visible`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from distillgrad.core.forward import must_be_callable
from distillgrad.errors import ModelError

_lock = threading.Lock()
_held: dict[int, tuple[int, list[nn.Module], list[nn.Parameter]]] = {}
"""The models in use by ``id``: how many calls hold each, and what they changed (modules, weights)."""


@contextmanager
def evaluating(model: Callable[..., Any]) -> Iterator[None]:
    """Put ``model`` into eval mode, frozen, and give every module and weight its own flag back.

    A row's explanation must not depend on the other rows of its batch, and batch norm's statistics must
    not move: so no module may train meanwhile. Nor are gradients of weights wanted, for which a
    pass would keep what it need not: of a transformer, half as much again. The flags come back after an
    exception too, and with several calls at once (threads) only when the last of them ends. A callable that
    is no module passes.

    Raises:
        ModelError: ``model`` cannot be called.
    """
    must_be_callable(model)
    if not isinstance(model, nn.Module):
        yield
        return
    with _lock:
        holders, training, trained = _held.get(id(model), (0, [], []))
        if not holders:
            training = [module for module in model.modules() if module.training]
            trained = [each for each in model.parameters() if _can_be_frozen(each)]
            for module in training:
                module.training = False
            for parameter in trained:
                parameter.requires_grad_(False)
        _held[id(model)] = (holders + 1, training, trained)
    try:
        yield
    finally:
        with _lock:
            holders, training, trained = _held.pop(id(model))
            if holders > 1:
                _held[id(model)] = (holders - 1, training, trained)
            else:
                for module in training:
                    module.training = True
                for parameter in trained:
                    parameter.requires_grad_(True)


def _can_be_frozen(parameter: nn.Parameter) -> bool:
    """Return whether it has a gradient that can be switched off, and on again."""
    return parameter.requires_grad and parameter.is_leaf and not parameter.is_inference()


class _Guided(torch.autograd.Function):
    """An activation whose backward pass lets only positive gradients through."""

    @staticmethod
    def forward(ctx: Any, _values: Tensor, activated: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return activated

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0].clamp(min=0).mul_(slope), None, None


class _Activation(NamedTuple):
    """A ReLU that is being called: its input, its output, its derivative, and whether it writes in place."""

    values: Tensor
    activated: Tensor
    slope: Tensor
    in_place: bool


def _relu(input: Tensor, inplace: bool = False) -> _Activation:
    return _Activation(input, input.clamp(min=0), input > 0, inplace)


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> _Activation:
    slope = torch.full_like(input, negative_slope).masked_fill_(input > 0, 1)
    return _Activation(input, input * slope, slope, inplace)


def _relu6(input: Tensor, inplace: bool = False) -> _Activation:
    return _Activation(input, input.clamp(0, 6), (input > 0) & (input < 6), inplace)


def _hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> _Activation | None:
    """Return the activation of ReLU6's module, called with (0, 6); with another minimum it is none."""
    if min_val != 0:
        return None
    return _Activation(input, input.clamp(0, max_val), (input > 0) & (input < max_val), inplace)


RELUS: dict[Any, Callable[..., _Activation | None]] = {
    **dict.fromkeys((functional.relu, torch.relu, Tensor.relu), _relu),
    **dict.fromkeys((torch.relu_, Tensor.relu_), partial(_relu, inplace=True)),
    functional.relu6: _relu6,
    functional.hardtanh: _hardtanh,
    functional.hardtanh_: partial(_hardtanh, inplace=True),
    functional.leaky_relu: _leaky_relu,
    functional.leaky_relu_: partial(_leaky_relu, inplace=True),
}
"""The stand-ins by torch function: what takes its arguments and computes it."""


class _GuidedReLU(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.n_met = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in RELUS:
            return func(*args, **kwargs)
        with torch.no_grad():
            met = RELUS[func](*args, **kwargs)
        if met is None:
            return func(*args, **kwargs)
        self.n_met += 1
        guided: Tensor = _Guided.apply(met.values, met.activated, met.slope)  # type: ignore[no-untyped-call]
        return met.values.copy_(guided) if met.in_place else guided


@contextmanager
def guided_relu() -> Iterator[None]:
    """Let every ReLU, within, pass back ``σ'(x) ⊙ max(R, 0)`` of the gradient ``R`` that reaches it.

    ReLU, ReLU6 and LeakyReLU; as modules, functions, methods, in place, reused. Holds for the forward
    pass; the backward pass may be taken within or after.

    Raises:
        ModelError: no ReLU was met, so the gradient would have been the plain one.
    Source: Springenberg et al. 2015, "Striving for simplicity"; for LeakyReLU ``σ'`` is its slope.
    """
    mode = _GuidedReLU()
    with mode:
        yield
    if not mode.n_met:
        raise ModelError(
            "guided back-propagation met no ReLU, ReLU6 or LeakyReLU in the model; "
            "it is not defined for other activations: use saliency or gradient_x_input"
        )


class _CapturedBiases(TorchFunctionMode):
    CONVOLUTIONS: ClassVar = {
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.conv_transpose1d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
    }
    SUMS: ClassVar = {
        **dict.fromkeys((torch.add, Tensor.add, Tensor.add_, Tensor.__radd__, Tensor.__iadd__), (1, 1)),
        **dict.fromkeys((torch.sub, Tensor.sub, Tensor.sub_, Tensor.__isub__), (1, -1)),
        **dict.fromkeys((torch.subtract, Tensor.subtract, Tensor.subtract_), (1, -1)),
        **dict.fromkeys((torch.rsub, Tensor.__rsub__), (0, -1)),
    }
    """By function, the place of the operand that ``alpha`` scales, and its sign; the other's is +."""

    def __init__(self, record: Callable[[Tensor, Tensor], None]) -> None:
        super().__init__()
        self.record = record

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        bias = self._bias(func, args, kwargs)
        output = func(*args, **kwargs)
        if bias is not None and isinstance(output, Tensor) and output.requires_grad:
            record, added = self.record, bias.detach()

            def weigh(gradient: Tensor) -> None:
                record(added, gradient)

            # A hook on this call's own tensor: it goes with the graph. If the tensor is later changed in
            # place, it still receives the gradient of what the tensor is now.
            output.register_hook(weigh)  # type: ignore[no-untyped-call]
        return output

    def _bias(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return what ``func`` adds, in a shape that broadcasts to its output; ``None`` for nothing."""
        if func in self.CONVOLUTIONS:
            bias = _argument(args, kwargs, 2, "bias")
            return None if bias is None else bias.view(-1, *(1,) * (args[1].ndim - 2))
        if func is functional.linear:
            bias = _argument(args, kwargs, 2, "bias")
            return bias if isinstance(bias, Tensor) else None
        if func is functional.batch_norm:
            return _batch_norm_bias(args, kwargs)
        if func in self.SUMS:
            return _constant_operand(args, kwargs, *self.SUMS[func])
        return None


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _batch_norm_bias(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return ``β − μγ/√(σ²+ε)``, shaped for the channels' place."""
    names = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    mean, variance, scale, shift, training, _, eps = (
        _argument(args, kwargs, place, name) for place, name in enumerate(names, start=1)
    )
    if training or mean is None:
        raise ModelError(
            "a batch norm of the model uses the statistics of the batch: its bias depends on the other "
            "rows; give it running statistics"
        )
    bias: Tensor = -mean * torch.rsqrt(variance + (1e-5 if eps is None else eps))
    bias = bias if scale is None else bias * scale
    bias = bias if shift is None else bias + shift
    values = args[0] if args else kwargs["input"]
    return bias.view(-1, *(1,) * (values.ndim - 2))


def _constant_operand(args: tuple[Any, ...], kwargs: dict[str, Any], scaled: int, sign: int) -> Tensor | None:
    """Return what a sum adds to a term that depends on the inputs, if that is a constant or parameter."""
    operands = (_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other"))
    varying = [isinstance(each, Tensor) and each.grad_fn is not None for each in operands]
    if varying[0] == varying[1]:
        return None
    place = varying.index(False)
    like = operands[1 - place]
    factor = sign * kwargs.get("alpha", 1) if place == scaled else 1
    added: Tensor = torch.as_tensor(operands[place], dtype=like.dtype, device=like.device) * factor
    return added


@contextmanager
def captured_biases(record: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Hand every bias that a forward pass within adds to ``record(bias, gradient)``, in its backward pass.

    ``gradient`` is that of the sum's output; ``bias`` broadcasts to it. Seen are convolutions and linear
    layers, batch norm's implicit bias, and constants in sums (numbers, parameters), in any dimension. What
    is added but does not reach the output, such as in an unused head, is not handed over.
    """
    with _CapturedBiases(record):
        yield
