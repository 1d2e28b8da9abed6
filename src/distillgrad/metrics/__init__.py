"""Metrics of explanations: they take attributions and never know a method.

``METRICS`` names those that ``distillgrad evaluate`` computes, with direction, cost and source of each;
``register_metric`` adds your own.
"""

from __future__ import annotations

from distillgrad.metrics.base import Axis as Axis
from distillgrad.metrics.base import Metric as Metric
from distillgrad.metrics.base import MetricInput as MetricInput
from distillgrad.metrics.base import Protocol as Protocol
from distillgrad.metrics.base import Values as Values
from distillgrad.metrics.concentration import complexity as complexity
from distillgrad.metrics.concentration import sparseness as sparseness
from distillgrad.metrics.ensembles import Ensemble as Ensemble
from distillgrad.metrics.ensembles import train_ensemble as train_ensemble
from distillgrad.metrics.imputation import noisy_linear_imputation as noisy_linear_imputation
from distillgrad.metrics.infidelity_and_sensitivity import infidelity as infidelity
from distillgrad.metrics.infidelity_and_sensitivity import max_sensitivity as max_sensitivity
from distillgrad.metrics.localisation import boxes_as_masks as boxes_as_masks
from distillgrad.metrics.localisation import mass_inside as mass_inside
from distillgrad.metrics.localisation import pointing_game as pointing_game
from distillgrad.metrics.localisation import rank_inside as rank_inside
from distillgrad.metrics.noise import NoiseRobustness as NoiseRobustness
from distillgrad.metrics.noise import noise_robustness as noise_robustness
from distillgrad.metrics.perturbation_curves import MorfAndLerf as MorfAndLerf
from distillgrad.metrics.perturbation_curves import PixelPerturbation as PixelPerturbation
from distillgrad.metrics.perturbation_curves import morf_and_lerf as morf_and_lerf
from distillgrad.metrics.perturbation_curves import pixel_perturbation as pixel_perturbation
from distillgrad.metrics.pixel_ranks import random_ranks as random_ranks
from distillgrad.metrics.pixel_ranks import ranks_to_store as ranks_to_store
from distillgrad.metrics.pixel_ranks import without_top as without_top
from distillgrad.metrics.randomisation import Randomisation as Randomisation
from distillgrad.metrics.randomisation import parameter_randomisation as parameter_randomisation
from distillgrad.metrics.registry import METRICS as METRICS
from distillgrad.metrics.registry import find_metric as find_metric
from distillgrad.metrics.registry import register_metric as register_metric
from distillgrad.metrics.removal_correlation import SensitivityN as SensitivityN
from distillgrad.metrics.removal_correlation import sensitivity_n as sensitivity_n
from distillgrad.metrics.roar import Roar as Roar
from distillgrad.metrics.roar import remove_and_retrain as remove_and_retrain
from distillgrad.metrics.roar import retrained_accuracy as retrained_accuracy
from distillgrad.metrics.roar_networks import CifarNetwork as CifarNetwork
from distillgrad.metrics.roar_networks import DigitsNetwork as DigitsNetwork
from distillgrad.metrics.self_stability import Stability as Stability
from distillgrad.metrics.self_stability import stability as stability
from distillgrad.metrics.similarity import spearman as spearman
from distillgrad.metrics.similarity import ssim as ssim
from distillgrad.metrics.similarity import top_overlap as top_overlap
from distillgrad.metrics.statistics import adjusted_together as adjusted_together
from distillgrad.metrics.statistics import bootstrap_mean as bootstrap_mean
from distillgrad.metrics.statistics import compare as compare
from distillgrad.metrics.statistics import images_needed as images_needed
