"""Relevance sent backwards by rules of its own: DeepLIFT through Captum, LRP through zennit.

Both libraries exchange the gradient of modules that they know and leave every other operation its plain
gradient, without a word. So a forward pass is watched first, and a model for which that would be wrong is
refused. All hooks go to a copy of the model, which shares its weights' memory.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import DeepLift as CaptumDeepLift
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, Target, logits_of, scores, select, value_and_gradient
from distillgrad.core.optional import optional
from distillgrad.errors import ModelError, ParameterError, TargetError
from distillgrad.methods.base import GradientMethod

_POOLS: dict[type[nn.Module], Any] = {
    nn.MaxPool1d: functional.max_pool1d,
    nn.MaxPool2d: functional.max_pool2d,
    nn.MaxPool3d: functional.max_pool3d,
}
_RESCALED: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus),
    *_POOLS,
)
"""Modules that DeepLIFT has a rule for; Captum's for Softmax mixes the rows of a batch."""

_MOVES = frozenset(
    """
    T H mT mH __getitem__ __setitem__ alpha_dropout bfloat16 cat chunk clone concat concatenate contiguous
    cpu cuda double dropout dropout1d dropout2d dropout3d expand expand_as feature_alpha_dropout flatten
    flip float half hstack index_select moveaxis movedim narrow pad permute pixel_shuffle pixel_unshuffle
    ravel requires_grad_ reshape reshape_as roll select split squeeze stack swapaxes swapdims tensor_split
    to transpose type type_as unbind unflatten unsqueeze view view_as vstack
    """.split()  # noqa: SIM905
)
"""Functions that only put values elsewhere."""
_LINEAR = frozenset(
    """
    __rmatmul__ adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d addmm avg_pool1d avg_pool2d
    avg_pool3d baddbmm batch_norm bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    div einsum interpolate linear matmul mean mm mul multiply neg sum true_divide upsample
    """.split()  # noqa: SIM905
)
"""Functions that are linear in one operand, the others fixed."""
_ADDITIVE = frozenset(("add", "sub", "subtract", "__rsub__", "rsub"))


class DeepLift(GradientMethod):
    """Captum's DeepLIFT, Rescale rule: each nonlinearity passes ``Δout/Δin`` instead of its derivative.

    Sums to ``f(x) − f(b)`` (completeness). Equals Captum called directly where that is right, and mends
    Captum 0.9 where it is not: nonlinearities that follow each other or share a tensor (its #1104), rows
    mixed by max-pooling (#1276), overlapping windows, in-place activations. A callable target must take
    any number of rows: inputs and baselines run as one batch.

    Args:
        model: An ``nn.Module`` whose every nonlinearity is a module of its own, called once.
    Raises: ModelError: a model for which the rule would silently be left out; names where.
    Cost: two forward passes, and a forward and backward pass of twice the rows.
    Source: Shrikumar et al. 2017, "Learning important features through propagating activation differences".
    """

    signed = True
    cost = "2 forward passes, 1 gradient pass of inputs and baselines"
    source = "Shrikumar et al. 2017; Captum's DeepLift"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        expect_module(model, "DeepLIFT")

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, for Captum."""
        return True

    @property
    def n_passes(self) -> int:
        """Four: the score, the watched pass, and the inputs' and baselines' own."""
        return 4

    def _attribute(self, batch: Batch) -> Tensor:
        expected, target = scores(self.forward_func, batch.inputs, batch.target, batch.extra)
        network = working_copy(self.forward_func)
        trace = _Trace(network)
        found = trace.score(batch, target)
        _expect_sound("DeepLIFT", _unlike_rescale(trace))
        _expect_equal("DeepLIFT", found, expected)
        for module in network.modules():
            if type(module) in _RESCALED:
                # Captum replaces the gradient of the very tensor that enters: it must be nobody else's.
                module.register_forward_pre_hook(lambda _module, values: values[0].clone())
        return _captum_deep_lift(_Doubled(network, batch, target), batch)


class LRP(GradientMethod):
    """zennit's layer-wise relevance propagation: flat first layer, z⁺ convolutions, ε linear layers.

    Starts from the logits, each times the score's derivative by it, so from the score for a class.
    Conserved (sums to ``f(x)``) for rectifier networks without biases, up to ε; biases absorb their share.
    Batch norm is merged into the convolution before it; torchvision's residual additions get a rule.

    Args:
        model: An ``nn.Module`` of convolutions, linear layers, rectifiers and pooling.
        epsilon: Stabilises the division in linear layers; positive.
    Raises: ModelError: a model with layers or functions without a rule; lists all of them.
        MissingExtraError: zennit is not installed.
    Cost: two forward passes, one forward and a backward pass that repeats each layer up to four times.
    Source: Bach et al. 2015; the composite EpsilonPlusFlat of Anders et al. 2021 (zennit).
    """

    signed = True
    cost = "2 forward passes, 1 gradient pass by rules"
    source = "Bach et al. 2015; zennit's EpsilonPlusFlat"

    def __init__(self, model: Model, epsilon: float = 1e-6) -> None:
        super().__init__(model)
        expect_module(model, "LRP")
        if not 0 < epsilon < float("inf"):
            raise ParameterError(f"epsilon must be finite and > 0, not {epsilon}")
        self.epsilon = epsilon

    @property
    def multiplies_by_inputs(self) -> bool:
        """True, for Captum."""
        return True

    @property
    def n_passes(self) -> int:
        """Three: the score, the watched pass, and the one whose gradient follows the rules."""
        return 3

    def _attribute(self, batch: Batch) -> Tensor:
        composites = optional("zennit.composites", "lrp")
        expected, target = scores(self.forward_func, batch.inputs, batch.target, batch.extra)
        network = _canonized(self.forward_func)
        trace = _Trace(network)
        found = trace.score(batch, target)
        _expect_sound("LRP", _without_rule(trace))
        _expect_equal("LRP", found, expected)
        starts = 0

        def scaled(*arguments: Any) -> Any:
            """The network's output, whose logits take relevance instead of a derivative: times themselves."""
            nonlocal starts
            output = network(*arguments)
            logits = logits_of(output)
            value = logits.detach().clone()

            def start(gradient: Tensor) -> Tensor:
                nonlocal starts
                starts += 1
                return gradient * value

            if logits.requires_grad:
                logits.register_hook(start)  # type: ignore[no-untyped-call]
            return output

        with composites.EpsilonPlusFlat(epsilon=self.epsilon).context(network):
            _, relevance, _ = value_and_gradient(scaled, batch.inputs, target, batch.extra)
        if not starts:
            raise TargetError("LRP starts from the logits: a callable target must be computed from them")
        return relevance


def expect_module(model: Model, method: str) -> None:
    """Nothing, if ``model`` is an ``nn.Module`` made of Python, whose layers a method can tell apart.

    Raises:
        ModelError: it is not.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{method} works on the layers of an nn.Module, not on a {type(model).__name__}, whose inside "
            "it cannot see; give the module, or take a method such as 'dga' or 'integrated_gradients'"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError(f"{method} cannot see into a compiled TorchScript module; give the original")


def differentiable(score: Tensor) -> Tensor:
    """The score, if it depends on the inputs of a working copy.

    Raises:
        ModelError: it does not.
    """
    if not score.requires_grad:
        raise ModelError(
            "the model's output carries no gradient: it does not depend on the inputs, or the model runs "
            "under no_grad, detaches, or ends in an operation such as argmax"
        )
    return score


def unwrapped(model: Any) -> nn.Module:
    """The module itself, without ``torch.compile`` or ``DataParallel`` around it."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(
        model, "_orig_mod"
    ):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    module: nn.Module = model
    return module


def working_copy(model: Any, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy to put hooks on; frozen, without in-place modules, on the same memory of weights.

    Frozen, so that a tensor requires a gradient exactly if it depends on the inputs. ``memo`` tells
    afterwards which module of the copy is which of the original, by ``id``.

    Raises:
        ModelError: the model cannot be copied.
    """
    model = unwrapped(model)
    memo = {} if memo is None else memo
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach()
    try:
        network: nn.Module = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(f"the model cannot be copied, and hooks are not put on your own: {error}") from error
    for module in network.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010  # a plain attribute, which mypy takes for a tensor
    return network


@dataclass(frozen=True)
class _Call:
    """A function of tensors that depend on the inputs, called within ``module``, whose path is ``name``."""

    function: str
    n_dependent: int
    module: nn.Module
    name: str
    node: Any  # of the autograd graph: tells whether the score depends on it


class _Trace(TorchFunctionMode):
    """What one forward pass of a working copy computes from the inputs, and in which modules."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.names = {module: name for name, module in network.named_modules()}
        self.calls: list[_Call] = []
        self.n_calls: Counter[nn.Module] = Counter()
        self._within: list[nn.Module] = [network]

    def score(self, batch: Batch, target: Target) -> Tensor:
        """The copy's score, watched."""
        handles = []
        for module in self.names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave))
        with torch.enable_grad():
            leaf = batch.inputs.detach().requires_grad_()
            with self:
                output = self.network(leaf.clone(), *batch.extra)
            score = differentiable(select(output, target, len(batch)))
        for handle in handles:
            handle.remove()
        reached = _reached(score.grad_fn)
        self.calls = [call for call in self.calls if call.node is None or call.node in reached]
        for node in reached:
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                name = type(node).__name__.removesuffix("Backward")
                self.calls.append(_Call(f"autograd function {name}", 1, self.network, "", node))
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
        name = _name_of(func)
        result = func(*args, **kwargs)
        results = list(_dependent((result,)))
        if dependent and results:
            if name == "batch_norm" and kwargs.get("training"):
                name = "batch_norm over the batch"
            if name in ("div", "true_divide") and isinstance(divisor, Tensor) and divisor.requires_grad:
                name = "division"
            module = self._within[-1]
            call = _Call(name, len(dependent), module, self.names[module], results[0].grad_fn)
            self.calls.append(call)
        return result


def _reached(node: Any) -> set[Any]:
    """The autograd graph that ``node`` is computed by: an unused auxiliary head is not in it."""
    found, rest = set(), [node]
    while rest:
        node = rest.pop()
        if node is not None and node not in found:
            found.add(node)
            rest.extend(each for each, _ in node.next_functions)
    return found


def _dependent(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among ``values`` that require a gradient."""
    for value in values:
        if isinstance(value, Tensor):
            if value.requires_grad:
                yield value
        elif isinstance(value, tuple | list):
            yield from _dependent(value)


def _name_of(function: Any) -> str:
    """``"relu"`` for ``torch.relu``, ``functional.relu``, ``Tensor.relu`` and ``Tensor.relu_``."""
    name: str = getattr(function, "__name__", repr(function))
    if name == "__get__":
        name = function.__self__.__name__
    return name if name.startswith("__") or name == "requires_grad_" else name.removesuffix("_")


def _unlike_rescale(trace: _Trace) -> dict[str, list[str]]:
    """By kind, where a nonlinearity is computed that Captum would give its plain gradient."""
    found: dict[str, list[str]] = {}
    for call in trace.calls:
        linear = call.function in _LINEAR and call.n_dependent == 1
        if type(call.module) in _RESCALED or linear or call.function in _MOVES | _ADDITIVE:
            continue
        found.setdefault(_kind(call), []).append(call.name)
    return found | _reused(trace, _RESCALED)


def _without_rule(trace: _Trace) -> dict[str, list[str]]:
    """By kind, where something is computed that zennit would give its plain gradient."""
    types = optional("zennit.types", "lrp")
    summing = optional("zennit.layer", "lrp").Sum
    layers = (*types.ConvolutionStandard.__subclass__, *types.ConvolutionTranspose.__subclass__, nn.Linear)
    once = (*layers, *types.AvgPool.__subclass__, summing)
    passing = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.PReLU, nn.Tanh)
    found: dict[str, list[str]] = {}
    for call in trace.calls:
        # Relevance at a zero is zero, so a rectifier's plain gradient, however it is called, passes it all;
        # that of max-pooling sends it to the winner, which is the rule.
        moves = call.function in _MOVES or call.function in ("relu", *_max_pooling())
        shifts = call.function in ("add", "sub", "subtract") and call.n_dependent == 1
        if type(call.module) in (*once, *passing) or moves or shifts or _merged(call.module):
            continue
        found.setdefault(_kind(call), []).append(call.name)
    return found | _reused(trace, once)


def _max_pooling() -> tuple[str, ...]:
    return tuple(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))


def _kind(call: _Call) -> str:
    """What is wrong with a call: ``"GELU"`` for a layer's, ``"gelu() as a function in Block"`` otherwise."""
    kind = type(call.module).__name__
    if type(call.module).__module__.startswith("torch.nn.modules") and not list(call.module.children()):
        return kind
    many = call.n_dependent > 1 and call.function in _LINEAR | _ADDITIVE
    how = f"of {call.n_dependent} activations" if many else "as a function"
    return f"{call.function}() {how} in {kind}"


def _reused(trace: _Trace, kinds: tuple[type[nn.Module], ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for module, n in trace.n_calls.items():
        if n > 1 and type(module) in kinds:
            found.setdefault(f"reused {type(module).__name__}", []).append(f"{trace.names[module]} ({n}×)")
    return found


def _expect_sound(method: str, found: dict[str, list[str]]) -> None:
    if found:
        where = "; ".join(
            f"{kind}: {', '.join(name or 'the model itself' for name in dict.fromkeys(names))}"
            for kind, names in found.items()
        )
        raise ModelError(
            f"{method} has no rule for this model's {where}. Give each nonlinearity, pooling and addition "
            "a module of its own that the method knows (softmax: explain the logits), or take a method that "
            "needs no rules, such as 'dga', 'integrated_gradients' or 'gradient_x_input'"
        )


def _expect_equal(method: str, found: Tensor, expected: Tensor) -> None:
    """The copy must compute what the model does, or its explanation is another function's."""
    # zennit leaves a merged batch norm its 1/√(1 + ε).
    tolerance = max(1e-3, torch.finfo(found.dtype).eps ** 0.5)
    scale = float(expected.abs().max()) + tolerance
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale):
        raise ModelError(
            f"{method} works on a copy of the model, and it gives another score: the model goes on with a "
            "tensor that an in-place module has overwritten, defines its layers in another order than it "
            "calls them, or draws random numbers"
        )


class _Doubled(nn.Module):
    """The score of inputs and baselines at once, as Captum's DeepLIFT runs them."""

    def __init__(self, network: nn.Module, batch: Batch, target: Target) -> None:
        super().__init__()
        self.network = network
        n = len(batch)
        self.target = torch.cat([target, target]) if isinstance(target, Tensor) else target
        self.extra = tuple(
            torch.cat([value, value])
            if isinstance(value, Tensor) and value.ndim and len(value) == n
            else value
            for value in batch.extra
        )

    def forward(self, rows: Tensor) -> Tensor:
        return select(self.network(rows.clone(), *self.extra), self.target, len(rows))


class _CaptumDeepLift(CaptumDeepLift):  # type: ignore[misc]  # Captum is untyped
    """Captum's DeepLIFT with max-pooling that keeps the rows apart and sums overlapping windows."""

    def _backward_hook(self, module: Any, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        if type(module) not in _POOLS or not self.satisfies_attribute_criteria(module):
            multipliers: Tensor = super()._backward_hook(module, grad_input, grad_output)
            return multipliers
        inputs, baselines = module.input.chunk(2)
        pooled, pooled_baselines = module.output.chunk(2)
        highest = torch.maximum(pooled, pooled_baselines)
        difference = torch.cat([highest - pooled_baselines, pooled - highest])
        with torch.enable_grad():
            leaf = module.input.detach().requires_grad_()
            again = _POOLS[type(module)](
                leaf, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode
            )
            (sent,) = torch.autograd.grad(again, leaf, grad_output * difference)
        del module.input, module.output
        contribution = torch.cat([sum(sent.chunk(2))] * 2)
        change = torch.cat([inputs - baselines] * 2)
        return torch.where(change.abs() < self.eps, grad_input, contribution / change)


_filters = threading.Lock()
"""Warning filters belong to the process: two threads that change them at once lose the user's."""


def _captum_deep_lift(model: nn.Module, batch: Batch) -> Tensor:
    baselines = batch.shifted(torch.zeros_like(batch.difference)).contiguous()
    inputs = batch.inputs.clone().requires_grad_()
    with _filters, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Setting forward, backward hooks", UserWarning)
        attributions: Tensor = _CaptumDeepLift(model).attribute(inputs, baselines)
    return attributions.detach()


def _canonized(model: Model) -> nn.Module:
    """A working copy with batch norm in the layer before it, and torchvision's residual additions as modules.

    zennit merges by the order of definition. Where that does not fit, nothing is merged here, and the batch
    norms are refused by name later.
    """
    network = working_copy(model)
    canonizer = optional("zennit.canonizers", "lrp").SequentialMergeBatchNorm()
    if any(type(module).__module__ == "torchvision.models.resnet" for module in network.modules()):
        canonizer = optional("zennit.torchvision", "lrp").ResNetCanonizer()
    if any(_cannot_merge(module) for module in network.modules()):
        return network
    try:
        canonizer.apply(network)
    except RuntimeError:
        return working_copy(model)
    return network


def _cannot_merge(module: nn.Module) -> bool:
    """Whether zennit fails at a batch norm: it must have statistics, a scale and a shift."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.running_mean is None or not module.affine


def _merged(module: nn.Module) -> bool:
    """Whether a batch norm is the identity, because its work is merged into the layer before it."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or _cannot_merge(module):
        return False
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        return False
    changed = mean.any() | module.bias.any() | (variance != 1).any() | (module.weight != 1).any()
    return not bool(changed)
