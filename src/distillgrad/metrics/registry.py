"""Every metric by name: which direction is better, what it costs, where it comes from, how to compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from distillgrad.core.forward import Model
from distillgrad.errors import InputError
from distillgrad.metrics.complexity import complexity, sparseness
from distillgrad.metrics.infidelity import infidelity, max_sensitivity
from distillgrad.metrics.localisation import mass_inside, pointing_game
from distillgrad.metrics.noise import noise_robustness
from distillgrad.metrics.pixel_perturbation import morf_and_lerf
from distillgrad.metrics.randomisation import parameter_randomisation
from distillgrad.metrics.removal import Baseline
from distillgrad.metrics.sensitivity_n import FRACTIONS, sensitivity_n
from distillgrad.metrics.similarity import Attribute
from distillgrad.metrics.stability import CONDITIONS, stability


@dataclass(frozen=True)
class Protocol:
    """How metrics are computed, where there is a choice; part of what a number means.

    Attributes:
        n_steps: Steps of the MoRF and LeRF curves.
        baseline: What removed pixels become.
        element: Remove single features instead of pixels (MoRF and LeRF).
        fractions, n_masks: Of sensitivity-n.
        sigmas: Strengths of the noise, in units of the model's inputs.
        seed: Of masks, noise and random parameters.
    """

    n_steps: int = 20
    baseline: Baseline = 0.0
    element: bool = False
    fractions: tuple[float, ...] = FRACTIONS
    n_masks: int = 100
    sigmas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    seed: int = 0


@dataclass(frozen=True)
class MetricInput:
    """A batch of images as several methods explain them: all that a metric may look at.

    Attributes:
        model: What was explained, as fast as it can be had.
        network: The same as the module whose parameters can be randomised.
        inputs: ``(B, C, H, W)``.
        target: The explained classes, ``(B,)``.
        attributions: By method.
        explainer: By method, from a model to the function that explains its inputs.
        masks: Where the object is, bool ``(B, H, W)``, if it is known.
    """

    model: Model
    network: nn.Module
    inputs: Tensor
    target: Tensor
    attributions: Mapping[str, Tensor]
    explainer: Mapping[str, Callable[[Model], Attribute]]
    masks: Tensor | None = None


@dataclass(frozen=True)
class Values:
    """Of one metric, by method: a number per image, ``(B,)``, or along ``axis`` several, ``(B, A)``."""

    by_method: Mapping[str, Tensor]
    axis: tuple[float | str, ...] = field(default=())


Measurement: TypeAlias = Callable[[MetricInput, Protocol], dict[str, Values]]
"""Computes metrics that share their passes, and the curves behind them, by name."""


@dataclass(frozen=True)
class Metric:
    """What a metric says about itself.

    Attributes:
        better: Which direction is.
        cost: Per image and method, in words, for the default protocol.
        source: Where it was published.
        measurement: Computes it; metrics that share their passes name the same one.
        needs: ``"attributions"``; ``"method"``: explains again, other inputs or models; ``"masks"``.
    """

    better: Literal["higher", "lower"]
    cost: str
    source: str
    measurement: Measurement
    needs: Literal["attributions", "method", "masks"] = "attributions"


def _pixel_perturbation(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    both = morf_and_lerf(
        explained.model,
        explained.inputs,
        explained.target,
        explained.attributions,
        n_steps=protocol.n_steps,
        baseline=protocol.baseline,
        element=protocol.element,
    )
    removed = tuple(next(iter(both.values())).morf.fractions.tolist())
    return {
        "lerf": Values({name: each.lerf.auc for name, each in both.items()}),
        "morf": Values({name: each.morf.auc for name, each in both.items()}),
        "area_between": Values({name: each.area_between for name, each in both.items()}),
        "lerf_curve": Values({name: each.lerf.probabilities for name, each in both.items()}, removed),
        "morf_curve": Values({name: each.morf.probabilities for name, each in both.items()}, removed),
    }


def _sensitivity_n(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    found = sensitivity_n(
        explained.model,
        explained.inputs,
        explained.target,
        explained.attributions,
        fractions=protocol.fractions,
        n_masks=protocol.n_masks,
        baseline=protocol.baseline,
        generator=torch.Generator().manual_seed(protocol.seed),
    )
    return {
        "sensitivity_n": Values({name: each.correlations for name, each in found.items()}, protocol.fractions)
    }


def _noise(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    found = {
        name: noise_robustness(
            explained.model,
            explainer(explained.model),
            explained.inputs,
            explained.target,
            sigmas=protocol.sigmas,
            seed=protocol.seed,
            perturbation=False,
        )
        for name, explainer in explained.explainer.items()
    }
    return {
        "noise_spearman": Values({name: each.spearman for name, each in found.items()}, protocol.sigmas),
        "noise_ssim": Values({name: each.ssim for name, each in found.items()}, protocol.sigmas),
    }


def _infidelity(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    whole = {
        name: each.expand_as(explained.inputs) / (1 if each.shape[1] > 1 else explained.inputs.shape[1])
        for name, each in explained.attributions.items()
    }
    return {
        "infidelity": Values(
            {
                name: infidelity(
                    explained.model,
                    explained.inputs,
                    explained.target,
                    each,
                    seed=protocol.seed,
                    normalize=True,
                )
                for name, each in whole.items()
            }
        )
    }


def _max_sensitivity(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    return {
        "max_sensitivity": Values(
            {
                name: max_sensitivity(
                    explainer(explained.model), explained.inputs, explained.target, seed=protocol.seed
                )
                for name, explainer in explained.explainer.items()
            }
        )
    }


def _complexity(explained: MetricInput, _: Protocol) -> dict[str, Values]:
    return {"complexity": Values({name: complexity(each) for name, each in explained.attributions.items()})}


def _sparseness(explained: MetricInput, _: Protocol) -> dict[str, Values]:
    return {"sparseness": Values({name: sparseness(each) for name, each in explained.attributions.items()})}


def _randomisation(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    found = {
        name: parameter_randomisation(
            explained.network, explainer, explained.inputs, explained.target, seed=protocol.seed
        )
        for name, explainer in explained.explainer.items()
    }
    stages = next(iter(found.values())).stages
    return {
        "randomisation_spearman": Values({name: each.spearman for name, each in found.items()}, stages),
        "randomisation_ssim": Values({name: each.ssim for name, each in found.items()}, stages),
    }


def _stability(explained: MetricInput, protocol: Protocol) -> dict[str, Values]:
    found = {
        name: stability(explained.network, explainer, explained.inputs, explained.target, seed=protocol.seed)
        for name, explainer in explained.explainer.items()
    }
    return {
        "stability_spearman": Values({name: each.spearman for name, each in found.items()}, CONDITIONS),
        "stability_overlap": Values({name: each.overlap for name, each in found.items()}, CONDITIONS),
        "stability_ssim": Values({name: each.ssim for name, each in found.items()}, CONDITIONS),
    }


def _localisation(explained: MetricInput, _: Protocol) -> dict[str, Values]:
    masks = explained.masks
    if masks is None:
        raise InputError(
            "the data does not say where the object is, which localisation metrics need: give boxes or "
            "masks, or leave out 'pointing_game' and 'mass_inside'"
        )
    maps = explained.attributions
    return {
        "pointing_game": Values({name: pointing_game(each, masks) for name, each in maps.items()}),
        "mass_inside": Values({name: mass_inside(each, masks) for name, each in maps.items()}),
    }


_PERTURBATION = "20 forward passes"
METRICS: dict[str, Metric] = {
    "lerf": Metric("higher", _PERTURBATION, "Jeon et al. 2022, §4.1", _pixel_perturbation),
    "morf": Metric("lower", _PERTURBATION, "Samek et al. 2016", _pixel_perturbation),
    "area_between": Metric("higher", "none beyond lerf and morf", "Samek et al. 2016", _pixel_perturbation),
    "sensitivity_n": Metric(
        "higher", "901 forward passes for all methods", "Ancona et al. 2018", _sensitivity_n
    ),
    "noise_spearman": Metric("higher", "5 explanations", "Jeon et al. 2022, Figure 2", _noise, "method"),
    "noise_ssim": Metric(
        "higher", "none beyond noise_spearman", "Jeon et al. 2022, Figure 2", _noise, "method"
    ),
    "infidelity": Metric("lower", "101 forward passes", "Yeh et al. 2019", _infidelity),
    "max_sensitivity": Metric("lower", "11 explanations", "Yeh et al. 2019", _max_sensitivity, "method"),
    "complexity": Metric("lower", "none", "Bhatt et al. 2020", _complexity),
    "sparseness": Metric("higher", "none", "Chalasani et al. 2020", _sparseness),
    "randomisation_spearman": Metric(
        "lower", "11 explanations", "Adebayo et al. 2018", _randomisation, "method"
    ),
    "randomisation_ssim": Metric(
        "lower", "none beyond randomisation_spearman", "Adebayo et al. 2018", _randomisation, "method"
    ),
    "stability_spearman": Metric("higher", "5 explanations", "distillgrad, 2026", _stability, "method"),
    "stability_overlap": Metric(
        "higher", "none beyond stability_spearman", "distillgrad, 2026", _stability, "method"
    ),
    "stability_ssim": Metric(
        "higher", "none beyond stability_spearman", "distillgrad, 2026", _stability, "method"
    ),
    "pointing_game": Metric("higher", "none", "Zhang et al. 2018", _localisation, "masks"),
    "mass_inside": Metric("higher", "none", "Arras et al. 2022", _localisation, "masks"),
}
"""Of curves, what stands in a leaderboard is the mean along their axis."""
