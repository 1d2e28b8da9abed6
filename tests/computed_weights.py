"""Networks whose layers compute their weights, in each way in which that is done; and the plain one."""

import warnings

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

PLACES = (0, 3, 7)
"""Of the two convolutions and the linear layer."""


def network():
    """For inputs (N, 2, 6, 6), in eval mode."""
    torch.manual_seed(3)
    model = nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(24, 24)),
    )
    model[1].running_mean.uniform_(-0.5, 0.5)
    model[1].running_var.uniform_(0.5, 2)
    return model.eval()


def images(n=3):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1))


class Mixed(nn.Module):
    """A parametrisation with parameters of its own, and no inverse."""

    def __init__(self, values):
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.randn(n, 2) / 9) for n in (len(values), values[0].numel()))

    def forward(self, values):
        return values / 2 + (self.one @ self.two.T).view_as(values)


class Drawn(nn.Module):
    def forward(self, values):
        return values + torch.randn_like(values) / 9


def by_old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # many models have it still
        weight_norm(layer)


def kept_raw(layer):
    """The weight becomes an attribute, that is computed from a parameter ``raw``."""
    weight = layer.weight.detach().clone()
    del layer.weight
    layer.raw, layer.weight = nn.Parameter(weight), weight.clone()


def by_own_hook(layer, of_inputs=lambda inputs: 0.7):
    def hook(module, inputs):
        module.weight = module.raw * of_inputs(inputs[0])

    kept_raw(layer)
    layer.register_forward_pre_hook(hook)


def by_hook_in_place(layer):
    layer.raw = nn.Parameter(layer.weight.detach().clone())

    def hook(module, _inputs):
        module.weight.data.copy_(module.raw * 0.7)

    layer.register_forward_pre_hook(hook)


class SetByParent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        kept_raw(layer)
        self.layer = layer

    def forward(self, x):
        self.layer.weight = self.layer.raw * 0.7
        return self.layer(x)


def as_buffer(layer):
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def as_property(layer):
    class Property(type(layer)):
        @property
        def weight(self):
            return self.raw * 0.7

    weight = layer.weight.detach()
    del layer.weight
    layer.raw = nn.Parameter(weight)
    layer.__class__ = Property


class Equalised(nn.Module):
    """A layer of one's own with a learning rate that is the same for all."""

    def __init__(self, layer):
        super().__init__()
        self.kernel, self.shift = layer.weight, layer.bias

    def forward(self, x):
        if self.kernel.ndim == 2:
            return functional.linear(x, self.kernel * 0.7, self.shift)
        return functional.conv2d(x, weight=self.kernel * 0.7, bias=self.shift, padding=1)


def standardised(layer):
    class Standardised(type(layer)):
        def forward(self, x):
            weight = self.weight - self.weight.flatten(1).mean(1).view(-1, *(1,) * (self.weight.ndim - 1))
            if weight.ndim == 2:
                return functional.linear(x, weight, self.bias)
            return functional.conv2d(x, weight, self.bias, self.stride, self.padding)

    layer.__class__ = Standardised


def with_own_forward(layer):
    def forward(x):
        if layer.weight.ndim == 2:
            return functional.linear(x, layer.weight * 0.7, layer.bias)
        return functional.conv2d(x, layer.weight * 0.7, layer.bias, padding=1)

    layer.forward = forward


def expanded(layer):
    layer.weight = nn.Parameter(layer.weight.detach()[:1].expand_as(layer.weight))


class Rounded(torch.Tensor):
    """A weight in 8 bits, as libraries for quantisation have it: few operations, in the dispatcher only."""

    @staticmethod
    def __new__(cls, levels, scale):
        return torch.Tensor._make_wrapper_subclass(cls, levels.shape, dtype=scale.dtype)

    def __init__(self, levels, scale):
        self.levels, self.scale = levels, scale

    def dequantize(self):
        return self.levels * self.scale

    def __tensor_flatten__(self):
        return ["levels", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        if func in (aten.detach.default, aten.clone.default):
            return cls(args[0].levels.clone(), args[0].scale)
        computes = (aten.t, aten.mm, aten.addmm, aten.convolution, aten.convolution_backward)
        if func.overloadpacket not in computes:
            raise NotImplementedError(f"no {func} of 8 bits")
        plain = tree_map(lambda each: each.dequantize() if isinstance(each, cls) else each, args)
        return func(*plain, **(kwargs or {}))


def rounded(layer):
    scale = layer.weight.detach().abs().max() / 127
    levels = (layer.weight.detach() / scale).round().to(torch.int8)
    layer.weight = nn.Parameter(Rounded(levels, scale), requires_grad=False)


def by_parametrisation(name, module=None):
    def change(layer):
        values = getattr(layer, name)
        parametrize.register_parametrization(layer, name, (module or Mixed)(*[values] * (module is None)))

    return change


KINDS = {
    "weight norm": by_old_weight_norm,
    "spectral norm": spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.3),
    "channels pruned": lambda layer: prune.random_structured(layer, "weight", amount=0.3, dim=0),
    "biases pruned": lambda layer: prune.l1_unstructured(layer, "bias", amount=0.3),
    "pruned twice": lambda layer: [prune.random_unstructured(layer, "weight", 0.2) for _ in range(2)],
    "parametrised by weight norm": parametrizations.weight_norm,
    "parametrised by spectral norm": parametrizations.spectral_norm,
    "parametrised as orthogonal": parametrizations.orthogonal,
    "parametrised by one's own": by_parametrisation("weight"),
    "hook of one's own": by_own_hook,
    "hook that writes in place": by_hook_in_place,
    "set by the parent": SetByParent,
    "buffer": as_buffer,
    "property": as_property,
    "equalised": Equalised,
    "standardised": standardised,
    "own forward": with_own_forward,
    "expanded": expanded,
    "quantised": rounded,
}
"""By name, what changes a layer in place, or returns another."""

REFUSED = {
    "of the inputs": lambda layer: by_own_hook(layer, lambda x: x.mean()),
    "of the inputs' values": lambda layer: by_own_hook(layer, lambda x: x.detach().abs().mean()),
    "drawn": by_parametrisation("weight", Drawn),
}
"""The same of weights that are others from call to call."""


def computing(kind):
    """Return the network with weights computed in that way."""
    model = network()
    for place in PLACES:
        torch.manual_seed(place)
        other = (KINDS | REFUSED)[kind](model[place])
        model[place] = other if isinstance(other, nn.Module) else model[place]
    with torch.no_grad():
        for parameter in model.parameters():  # such as biases of zeros, and norms that are still the weights'
            if type(parameter) is nn.Parameter and 0 not in parameter.stride():
                parameter.mul_(1 + torch.rand_like(parameter) / 2)
    return model.eval()


class _Used(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.weights = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("conv2d", "linear"):
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            weight = given["weight"]
            weight = weight.dequantize() if isinstance(weight, Rounded) else weight
            self.weights.append((weight.detach().clone(), given["bias"].detach().clone()))
        return func(*args, **kwargs)


def plain_of(model):
    """Return the network of plain layers whose parameters are what ``model`` computes with."""
    used, plain = _Used(), network()
    with torch.no_grad(), used:
        expected = model(images())
    with torch.no_grad():
        for place, (weight, bias) in zip(PLACES, used.weights, strict=True):
            plain[place].weight.copy_(weight)
            plain[place].bias.copy_(bias)
        plain[1].load_state_dict(model[1].state_dict())
        torch.testing.assert_close(plain(images()), expected)
    return plain
