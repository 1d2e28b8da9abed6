"""Layer-wise relevance propagation through zennit, on a copy of the model and only where it has rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, Target, scores, value_and_gradient
from distillgrad.core.logits import logits_of
from distillgrad.core.operations import MOVES
from distillgrad.core.optional import optional
from distillgrad.core.plain_layers import CONVOLUTIONS, TRANSPOSED, with_plain_layers
from distillgrad.core.trace import Trace, expect_equal, expect_sound, kind_of, reused
from distillgrad.core.working_copy import plain_module, working_copy
from distillgrad.errors import ParameterError, TargetError
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.blank_maps import gradient_facts

_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_RULED: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    **{layer: function for function, layer in (CONVOLUTIONS | TRANSPOSED).items()},
    **{layer: f"avg_pool{n}d" for n, layer in enumerate(_POOLS, 1)},
    **{layer: f"adaptive_avg_pool{n}d" for n, layer in enumerate(_ADAPTIVE_POOLS, 1)},
}
"""The function of each layer that zennit has a rule for: what a hook of it calls has none."""
_PASSING: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "hardtanh",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.PReLU: "prelu",
    nn.Tanh: "tanh",
}
"""The function of each activation through which relevance passes as it is."""


class LRP(GradientMethod):
    """zennit's layer-wise relevance propagation: flat first layer, z⁺ convolutions, ε linear layers.

    Starts from the logits, each times the score's derivative by it, so from the score for a class.
    Conserved (sums to ``f(x)``) for rectifier networks without biases, up to ε; biases absorb their share.
    Batch norm is merged into the convolution before it; torchvision's residual additions get a rule. Layers
    that compute their weights (weight norm, pruning, parametrisations …) have the rules of what they come to.

    Args:
        model: An ``nn.Module`` of convolutions, linear layers, rectifiers and pooling.
        epsilon: Stabilises the division in linear layers; positive.
    Raises: ModelError: a model with layers or functions without a rule; lists all of them.
        MissingExtraError: zennit is not installed.
    Cost: two forward passes, one forward and a backward pass that repeats each layer up to four times; three
        more forward passes where layers compute their weights.
    Source: Bach et al. 2015; the composite EpsilonPlusFlat of Anders et al. 2021 (zennit).
    """

    signed = True
    cost = "2 forward passes, 1 gradient pass by rules"
    source = "Bach et al. 2015; zennit's EpsilonPlusFlat"
    multiplies_by_inputs = True
    layerwise = True
    needs_module = True

    def __init__(self, model: Model, epsilon: float = 1e-6) -> None:
        super().__init__(model)
        plain_module(model, "LRP")
        if not 0 < epsilon < float("inf"):
            raise ParameterError(f"epsilon must be finite and > 0, not {epsilon}")
        self.epsilon = epsilon

    @property
    def n_passes(self) -> int:
        """Three passes: the score, the watched one, and the one whose gradient follows the rules."""
        return 3

    def _blank_facts(self, batch: Batch) -> Sequence[str]:
        return gradient_facts(self.forward_func, batch, by_baselines=False)

    def _attribute(self, batch: Batch) -> Tensor:
        composites = optional("zennit.composites", "lrp")
        expected, target = scores(self.forward_func, batch.inputs, batch.target, batch.extra)
        network = _canonized(plain_module(self.forward_func, "LRP"), batch, target)
        trace = Trace(network)
        actual = trace.score(batch, target)
        expect_sound("LRP", _without_rule(trace))
        expect_equal("LRP", actual, expected)
        starts = 0

        def scaled(*arguments: Any) -> Any:
            """Return the network's output; its logits take relevance, themselves, instead of a derivative."""
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


def _without_rule(trace: Trace) -> dict[str, list[str]]:
    """Return by kind where something is computed that zennit would give its plain gradient."""
    summing = optional("zennit.layer", "lrp").Sum
    ruled = {**_RULED, summing: "sum"}
    problems: dict[str, list[str]] = {}
    for call in trace.calls:
        # Relevance at a zero is zero, so a rectifier's plain gradient, however it is called, passes it all;
        # that of max-pooling sends it to the winner, which is the rule.
        moves = call.function in MOVES or call.function in ("relu", *_max_pooling())
        shifts = call.function in ("add", "sub", "subtract") and call.n_dependent == 1
        own = {**ruled, **_PASSING}.get(type(call.module))
        known = own == call.function and call.n_dependent == 1
        if known or moves or shifts or _merged(call.module):
            continue
        hooked = own is not None and own != call.function
        kind = f"{call.function}() in a hook of {type(call.module).__name__}" if hooked else kind_of(call)
        problems.setdefault(kind, []).append(call.name)
    return problems | reused(trace, tuple(ruled))


def _max_pooling() -> tuple[str, ...]:
    return tuple(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))


def _canonized(model: nn.Module, batch: Batch, target: Target) -> nn.Module:
    """Return a working copy of plain layers, its batch norms within those before, its additions modules.

    zennit merges by the order of definition. Where that does not fit, nothing is merged here, and the batch
    norms are refused by name later.
    """

    def copied() -> nn.Module:
        network = with_plain_layers(working_copy(model), batch, target, "LRP")
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:  # its own: zennit merges into one layer's what others may share
                    module._parameters[name] = nn.Parameter(parameter.detach(), requires_grad=False)
        return network

    network = copied()
    canonizer = optional("zennit.canonizers", "lrp").SequentialMergeBatchNorm()
    if any(type(module).__module__ == "torchvision.models.resnet" for module in network.modules()):
        canonizer = optional("zennit.torchvision", "lrp").ResNetCanonizer()
    if any(_cannot_merge(module) for module in network.modules()):
        return network
    try:
        canonizer.apply(network)
    except RuntimeError:
        return copied()
    return network.requires_grad_(False)  # biases that zennit has added


def _cannot_merge(module: nn.Module) -> bool:
    """Return whether zennit fails at a batch norm: it must have statistics, a scale and a shift."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.running_mean is None or not module.affine


def _merged(module: nn.Module) -> bool:
    """Return whether a batch norm is the identity, because its work is merged into the layer before it."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or _cannot_merge(module):
        return False
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        return False
    changed = mean.any() | module.bias.any() | (variance != 1).any() | (module.weight != 1).any()
    return not bool(changed)
