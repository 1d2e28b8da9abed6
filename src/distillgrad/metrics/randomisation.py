"""Randomisation of parameters by stages: the proof that an explanation depends on what the model learned."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distillgrad.core.batch import TargetLike, outside_inference_mode, with_target
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import ModelError, ParameterError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values
from distillgrad.metrics.removal import checked_images
from distillgrad.metrics.similarity import Attribute, explained, spearman, ssim


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
    after the last stage nothing of the training is left; parameters of a module without one become normal
    noise of their own mean and standard deviation. What a module becomes depends on ``seed`` and its place
    alone. It happens to a copy, in eval mode; the model and the global random numbers stay as they are.

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
        seeds = torch.randint(2**62, (len(modules),), generator=torch.Generator().manual_seed(seed)).tolist()
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
    plain = unwrapped(model)
    if not isinstance(plain, nn.Module):
        raise ModelError(
            f"randomisation needs the parameters of an nn.Module; a {type(model).__name__} hides them: "
            "give the module itself"
        )
    try:
        return copy.deepcopy(plain).eval()
    except (TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the model cannot be copied, and your own is not to be randomised: {error}"
        ) from error


def _with_parameters(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return names and modules that own parameters, from the output to the input."""
    owners = [
        (name or type(module).__name__, module)
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    if not owners:
        raise ModelError("the model has no parameters: there is nothing to randomise")
    return owners[::-1]


def _randomise(module: nn.Module, seed: int) -> None:
    """Give a module new parameters, in place; drawn on the CPU, so that they are the same everywhere."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device, too
        if callable(getattr(module, "reset_parameters", None)):
            fresh = copy.deepcopy(module).cpu()
            fresh.reset_parameters()  # type: ignore[operator]
            for mine, new in (
                *zip(module.parameters(recurse=False), fresh.parameters(recurse=False), strict=True),
                *zip(module.buffers(recurse=False), fresh.buffers(recurse=False), strict=True),
            ):
                mine.copy_(new)
            return
        for parameter in module.parameters(recurse=False):
            old = parameter.cpu().double()
            parameter.copy_(old.mean() + old.std(correction=0) * torch.randn_like(old))


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
