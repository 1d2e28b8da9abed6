"""Plain layers in a working copy, for libraries that change the weights of layers they know by their class.

A weight may be recomputed in every call, by a hook (weight norm, spectral norm, pruning), a parametrisation,
a property or the layer's own ``forward`` (equalised learning rates, standardised weights), or be a quantised
tensor. Who changes such a weight changes what the next call overwrites, or something else than is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Target, failures_named
from distillgrad.core.trace import Trace
from distillgrad.errors import ModelError

CONVOLUTIONS = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}
TRANSPOSED = {
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
"""The layers, by the number of the inputs' dimensions."""
LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear,
    *CONVOLUTIONS.values(),
    *TRANSPOSED.values(),
    *NORMS.values(),
)

_ARGUMENTS: dict[str, str] = {
    "linear": "input weight bias",
    **dict.fromkeys(CONVOLUTIONS, "input weight bias stride padding dilation groups"),
    **dict.fromkeys(TRANSPOSED, "input weight bias stride padding output_padding groups dilation"),
    "batch_norm": "input running_mean running_var weight bias training momentum eps",
}
"""The names of each function's arguments, in their order."""
ROUGHLY = 1e-3
"""Relative: a layer that rounds its activations to 8 bits is off by more, float32 by far less."""


def with_plain_layers(network: nn.Module, batch: Batch, target: Target, method: str) -> nn.Module:
    """Return a working copy in which every layer that computes its weights calls plain ones, of torch's own.

    The network computes the same. What a layer does beside its linear functions, in hooks for instance,
    it still does, and a :class:`~distillgrad.core.trace.Trace` sees it. Layers that hold others are left.

    Raises:
        ModelError: weights that depend on the inputs or are drawn, or whose values cannot be seen; names the
            layer, and ``method``.
    Cost: where not all layers are torch's own a forward pass, and where weights are computed two more.
    """
    if all(_has_own_weights(module) for module in network.modules()):
        return network
    trace = Trace(network)
    trace.score(batch, target)
    calling = {call.module: call.name for call in trace.calls if call.function in _ARGUMENTS}
    stand_ins = {
        layer: Exposed(layer, name, method)
        for layer, name in calling.items()
        if not _has_own_weights(layer) and not any(each in calling for each in list(layer.modules())[1:])
    }
    if not stand_ins:
        return network
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = stand_ins.get(child, child)  # type: ignore[arg-type]
    network = stand_ins.get(network, network)
    # Inputs that differ, so that weights that depend on them do, too.
    for inputs in (batch.inputs, batch.inputs / 2):
        with torch.enable_grad(), failures_named(batch.inputs):
            network(inputs.detach().requires_grad_().clone(), *batch.extra)
        for each in stand_ins.values():
            each.learnt()
    return network


def _has_own_weights(module: nn.Module) -> bool:
    """Return whether what a module calls linear functions with can only be plain parameters of its own."""
    if type(module) in LAYERS:
        changed = bool(module._forward_pre_hooks) or "forward" in vars(module)
        parameters = {"weight", "bias"} <= module._parameters.keys()
        return parameters and has_plain_weights(module) and not changed
    if type(module).__module__.startswith("torch.nn.modules"):
        return True
    return not (module._parameters or module._buffers)


def has_plain_weights(module: nn.Module) -> bool:
    """Return whether a module's weights are registered, as tensors of torch's own."""
    registered = module._parameters | module._buffers
    recomputed = {"weight", "bias"} & vars(module).keys()
    own = all(each is None or type(each) in (nn.Parameter, Tensor) for each in registered.values())
    return own and not recomputed


class Exposed(nn.Module):
    """A layer whose linear functions are called through :attr:`plain_layers` that bear its weights.

    It learns them in a first pass, and in a second that they stay the same. Its attributes are the layer's.
    """

    def __init__(self, layer: nn.Module, name: str, method: str) -> None:
        super().__init__()
        self.plain_layers = nn.ModuleList()
        self._hidden = (layer,)  # a tuple: libraries are not to find what it is made of
        self._name, self._method = name or "the model itself", method
        self._call = self._learn
        # Errors speak of the layer by its own class.
        self.__class__ = type(type(layer).__name__, (Exposed,), {})

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return what the layer does."""
        with _Linear(self._call):
            return self._hidden[0](*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_hidden"][0], name)

    def __setattr__(self, name: str, value: Any) -> None:
        hidden = self.__dict__.get("_hidden")
        if hidden is not None and not name.startswith("_") and hasattr(hidden[0], name):
            setattr(hidden[0], name, value)
        else:
            super().__setattr__(name, value)

    def learnt(self) -> None:
        """Go from learning to checking, and from checking to calling the layers."""
        self._each = cycle(self.plain_layers)
        self._call = self._check if self._call == self._learn else self._through_layer

    def _learn(self, name: str, compute: Callable[[], Tensor], given: dict[str, Any]) -> Tensor:
        layer = self._plain(name, given)
        expected = compute()
        scale = float(expected.detach().abs().max())
        if not torch.allclose(layer(given["input"]), expected, rtol=ROUGHLY, atol=ROUGHLY * scale):
            self._refuse("computes something else than its weights say, such as with rounded activations")
        self.plain_layers.append(layer)
        return expected

    def _check(self, name: str, compute: Callable[[], Tensor], given: dict[str, Any]) -> Tensor:
        before, now = next(self._each), self._plain(name, given)
        for one, other in zip(before.parameters(), now.parameters(), strict=True):
            if one.shape != other.shape or not torch.allclose(one, other, rtol=ROUGHLY, atol=0):
                self._refuse("has other weights for other inputs, or from call to call")
        return compute()

    def _through_layer(self, name: str, compute: Callable[[], Tensor], given: dict[str, Any]) -> Tensor:
        output: Tensor = next(self._each)(given["input"])
        return output

    def _plain(self, name: str, given: dict[str, Any]) -> nn.Module:
        """Return a layer of torch's own for a call of a linear function."""
        tensors: dict[str, Any] = {}
        for each in ("weight", "bias", "running_mean", "running_var"):
            value = given.get(each)
            if isinstance(value, Tensor) and value.requires_grad:
                self._refuse("computes its weights from the inputs")
            tensors[each] = None if value is None else self._dense(value)
        layer = _without_weights(name, given, tensors)
        for each, value in tensors.items():
            if each.startswith("running"):
                setattr(layer, each, value)
            elif value is not None:
                setattr(layer, each, nn.Parameter(value, requires_grad=False))
        return layer.eval()

    def _dense(self, value: Any) -> Tensor:
        """Return the values of a weight as a plain tensor."""
        if type(value) not in (Tensor, nn.Parameter):
            dequantize = getattr(value, "dequantize", None)
            try:
                value = dequantize() if callable(dequantize) else getattr(value, "value", None)
            except (TypeError, RuntimeError) as error:
                self._refuse(f"has weights that are not dequantised: {error}")
        if type(value) not in (Tensor, nn.Parameter):
            self._refuse("has weights whose values cannot be seen, as they are no plain tensor")
        dense: Tensor = value.detach().clone(memory_format=torch.contiguous_format)
        return dense

    def _refuse(self, why: str) -> NoReturn:
        raise ModelError(
            f"{self._method} needs each layer's weights, and {self._name} ({type(self).__name__}) {why}; "
            "give a network of plain layers, or take a method that needs no rules, such as 'dga', "
            "'integrated_gradients' or 'gradient_x_input'"
        )


def _without_weights(name: str, given: dict[str, Any], tensors: dict[str, Any]) -> nn.Module:
    """Return a layer of torch's own that calls the function as it was called, its weights still to be set."""
    weight, has_bias = tensors["weight"], tensors["bias"] is not None
    if name == "linear":
        return nn.Linear(weight.shape[1], weight.shape[0], has_bias, device="meta")
    if name == "batch_norm":
        norm, affine = NORMS[given["input"].ndim], weight is not None and has_bias
        return norm(len(tensors["running_mean"]), given.get("eps", 1e-5), affine=affine, device="meta")
    first, second = weight.shape[0], weight.shape[1] * given.get("groups", 1)
    convolution: Any = (CONVOLUTIONS | TRANSPOSED)[name]
    geometry = ("stride", "padding", "output_padding", "dilation", "groups")
    layer: nn.Module = convolution(
        *((first, second) if name in TRANSPOSED else (second, first)),
        tuple(weight.shape[2:]),
        bias=has_bias,
        device="meta",
        **{each: given[each] for each in geometry if each in given},
    )
    return layer


class _Linear(TorchFunctionMode):
    """The linear functions of a layer with the inputs, given to ``call``."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _ARGUMENTS:
            given = dict(zip(_ARGUMENTS[name].split(), args, strict=False)) | kwargs
            fixed = name != "batch_norm" or not (given.get("training") or given["running_mean"] is None)
            if isinstance(given["input"], Tensor) and given["input"].requires_grad and fixed:
                return self.call(name, lambda: func(*args, **kwargs), given)
        return func(*args, **kwargs)
