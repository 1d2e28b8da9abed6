"""Randomisation of parameters by stages: the proof that an explanation depends on what the model learned."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.working_copy import copied
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError, ParameterError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import checked_images
from distillgrad.metrics.similarity import Attribute, explained, spearman, ssim

INITIAL = {"running_mean": 0.0, "running_var": 1.0}
"""Statistics of a network that has seen nothing."""
LEARNED = {"weight", "bias", *INITIAL}
"""Buffers of these names are what others have as parameters, such as of a frozen batch norm."""


@dataclass(frozen=True)
class Randomisation:
    """The explanations of ever more randomised models beside that of the trained one.

    Attributes:
        stages: S names: up to that module, counted from the output, everything is random.
        spearman: Rank correlation with the explanation of the trained model, ``(B, S)``; NaN where one is
            constant: a random model may have no gradient, as behind SqueezeNet's last ReLU.
        ssim: Structural similarity with it, ``(B, S)``.
    """

    stages: tuple[str, ...]
    spearman: Tensor
    ssim: Tensor


def parameter_randomisation(
    model: nn.Module,
    attribute_of: Callable[[nn.Module], Attribute],
    inputs: Tensor,
    target: TargetLike,
    *,
    n_stages: int | None = 10,
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> Randomisation:
    """Measure how alike explanations stay while the model is randomised from its output to its input.

    An explanation of what was learned loses its likeness; one that stays as it was shows the image's
    edges, whatever the model. Not all of it: a map without negative values that has the input as a factor
    is like the input's magnitude, and so stays like itself. Compare with maps of the same kind.

    Modules that own parameters follow one another in the reverse of the order in which they are
    registered. Each is made new by its ``reset_parameters()``, batch norm's statistics included, so that
    after the last stage nothing of the training is left; parameters that this does not reach, or of a module
    without one, become normal noise of their own mean and standard deviation. Weights that torch's weight
    norm, spectral norm, pruning or a parametrisation computes are first stored, as parameters. What a module
    becomes depends on ``seed`` and its place alone. It happens to a copy, in eval mode; the model and the
    global random numbers stay as they are.

    Args:
        model: The trained network; wrappers (``DataParallel``, ``torch.compile``) are taken off.
        attribute_of: Makes the explainer of a model: ``lambda model: dg.DGA(model).attribute``.
        inputs: Images ``(B, C, H, W)``, model-normalised.
        target: A class, one per sample, or ``None``: the trained model's prediction, for all stages.
        n_stages: Into how many stages of equal numbers of modules they are merged; ``None``: each is one.
        seed: Of the random parameters, which are the same on every device.
        on_stage: Called with the name of each stage when it is done.
    Raises:
        ModelError: the model is no module, owns no parameters or cannot be copied, or ``attribute``
            gives no attributions of the inputs.
        ParameterError: ``n_stages`` below 1.
    Cost: S+1 explanations; memory for a copy of the model.
    Source: Adebayo et al. 2018, "Sanity checks for saliency maps" (cascading randomisation). It also
        compares absolute values: let ``attribute_of`` take them.
    """
    batch, _ = checked_images(inputs, target)
    if n_stages is not None and (isinstance(n_stages, bool) or not isinstance(n_stages, int) or n_stages < 1):
        raise ParameterError(f"n_stages must be a whole number of at least 1, or None, not {n_stages!r}")
    with outside_inference_mode():
        network = _copied(model)
        modules = _with_parameters(network)
        count = min(n_stages or len(modules), len(modules))
        seeds = torch.randint(
            2**62, (len(modules),), generator=torch.Generator().manual_seed(seed), device="cpu"
        ).tolist()
        batch = with_target(network, batch)
        trained = explained(attribute_of(network), batch.inputs, batch.target)
        stages, ranks, structures = [], [], []
        done = 0
        for stage in range(1, count + 1):
            upto = round(stage * len(modules) / count)
            for place in range(done, upto):
                _randomise(modules[place][1], seeds[place])
            done = upto
            # A new explainer: it may have read the parameters when it was made.
            attributions = explained(attribute_of(network), batch.inputs, batch.target)
            stages.append(modules[done - 1][0])
            ranks.append(spearman(trained, attributions))
            structures.append(ssim(trained, attributions))
            if on_stage is not None:
                on_stage(stages[-1])
    return Randomisation(tuple(stages), torch.stack(ranks, 1), torch.stack(structures, 1))


def _copied(model: nn.Module) -> nn.Module:
    given = unwrapped(model)
    if not isinstance(given, nn.Module):
        raise ModelError(
            f"randomisation needs the parameters of an nn.Module; a {type(model).__name__} hides them: "
            "give the module itself"
        )
    _expect_no_shared_functions(given)
    network = copied(given, "your own is not to be randomised").eval()
    for name, module in network.named_modules():
        _store_weights(module)
        for key, values in module.named_parameters(recurse=False):
            if type(values) is not nn.Parameter or not (values.is_floating_point() or values.is_complex()):
                raise ModelError(
                    f"the {key} of {name or 'the model'} is a {type(values).__name__} of {values.dtype}, "
                    "which cannot be drawn anew; give the model as it was before it was quantised"
                )
            if 0 in values.stride():  # expanded: there is no place to write each value to
                values.data = values.data.clone(memory_format=torch.contiguous_format)
    return network


def _expect_no_shared_functions(model: nn.Module) -> None:
    """Check that no function, which a copy shares, holds the model's own layers.

    Raises:
        ModelError: one does: the copy would go on with what the model has learned; names where.
    """
    own = {id(each) for each in (*model.modules(), *model.parameters())}
    for name, module in model.named_modules():
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        for function in (*vars(module).values(), *hooks):
            if isinstance(function, FunctionType) and any(
                id(each) in own for each in inspect.getclosurevars(function).nonlocals.values()
            ):
                raise ModelError(
                    f"{name or 'the model'} ({type(module).__name__}) calls a function that holds layers of "
                    "the model, and would call the trained ones from a randomised copy, too; make it a method"
                )


def _store_weights(module: nn.Module) -> None:
    """Make the weights that torch's utilities compute in every call parameters again, in place.

    Else ``reset_parameters()`` would write into what the next call overwrites.
    """
    if parametrize.is_parametrized(module):
        # Not by torch's remove_parametrizations: it changes the class, which a copy shares with its original.
        values = {name: getattr(module, name) for name in module.parametrizations}  # type: ignore[union-attr]
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value.detach().clone()))
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]


def _with_parameters(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return names and modules that own what was learned, from the output to the input."""
    owners = [
        (name or type(module).__name__, module)
        for name, module in network.named_modules()
        if _learned(module)
    ]
    if not owners:
        raise ModelError("the model has no parameters: there is nothing to randomise")
    return owners[::-1]


def _randomise(module: nn.Module, seed: int) -> None:
    """Give a module new parameters, in place; drawn on the CPU, so that they are the same everywhere."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device, too
        mine = _learned(module)
        for name, new in _reset(module).items():
            getattr(module, name).copy_(new)
            mine.pop(name, None)
        for name, values in mine.items():
            if name in INITIAL:
                values.fill_(INITIAL[name])
                continue
            old = values.cpu().double()
            values.copy_(old.mean() + old.std(correction=0) * torch.randn_like(old))


def _reset(module: nn.Module) -> dict[str, Tensor]:
    """Return by name the parameters and buffers that ``reset_parameters()`` gives anew.

    It may not reach all: in a layer whose weight is computed, it writes into the result.
    """
    if not callable(getattr(module, "reset_parameters", None)):
        return {}
    fresh = copied(module, "it is not to be reset").cpu()
    before = {}
    for name, values in _learned(fresh).items():
        before[name] = values.add_(math.pi).clone()  # what no reset gives
    fresh.reset_parameters()  # type: ignore[operator]
    written = {name: each for name, each in _learned(fresh).items() if not torch.equal(each, before[name])}
    counters = {name: each for name, each in fresh.named_buffers(recurse=False) if name not in before}
    return {**written, **counters}


def _learned(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's own parameters, and the buffers that are learned, too."""
    buffers = {name: each for name, each in module.named_buffers(recurse=False) if name in LEARNED}
    return {**dict(module.named_parameters(recurse=False)), **buffers}


def _measured(given: MetricInput, protocol: Protocol) -> dict[str, Values]:
    results = {
        name: parameter_randomisation(
            given.network, explainer, given.inputs, given.target, seed=protocol.seed
        )
        for name, explainer in given.explainer.items()
    }
    stages = next(iter(results.values())).stages
    return {
        "randomisation_spearman": Values({name: each.spearman for name, each in results.items()}, stages),
        "randomisation_ssim": Values({name: each.ssim for name, each in results.items()}, stages),
    }


RANDOMISATION_SPEARMAN = Metric(
    better="lower",
    bounds=(-1, 1),
    cost="11 explanations",
    source="Adebayo et al. 2018",
    measurement=_measured,
    needs="method",
    axis=Axis("randomised parameters ↓", "up to this layer", "rank correlation"),
)
RANDOMISATION_SSIM = Metric(
    better="lower",
    bounds=(-1, 1),
    cost="none beyond randomisation_spearman",
    source="Adebayo et al. 2018",
    measurement=_measured,
    needs="method",
    axis=Axis("randomised parameters ↓", "up to this layer", "structural similarity"),
)
