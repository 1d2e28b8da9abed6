"""Metrics of explanations: they take attributions and never know a method.

``METRICS`` names those that ``distillgrad evaluate`` computes, with direction, cost and source of each.
"""

from __future__ import annotations

from distillgrad.metrics.complexity import complexity as complexity
from distillgrad.metrics.complexity import sparseness as sparseness
from distillgrad.metrics.ensembles import Ensemble as Ensemble
from distillgrad.metrics.ensembles import train_ensemble as train_ensemble
from distillgrad.metrics.imputation import noisy_linear_imputation as noisy_linear_imputation
from distillgrad.metrics.infidelity import infidelity as infidelity
from distillgrad.metrics.infidelity import max_sensitivity as max_sensitivity
from distillgrad.metrics.localisation import boxes_as_masks as boxes_as_masks
from distillgrad.metrics.localisation import mass_inside as mass_inside
from distillgrad.metrics.localisation import pointing_game as pointing_game
from distillgrad.metrics.localisation import rank_inside as rank_inside
from distillgrad.metrics.noise import NoiseRobustness as NoiseRobustness
from distillgrad.metrics.noise import noise_robustness as noise_robustness
from distillgrad.metrics.pixel_perturbation import MorfAndLerf as MorfAndLerf
from distillgrad.metrics.pixel_perturbation import PixelPerturbation as PixelPerturbation
from distillgrad.metrics.pixel_perturbation import morf_and_lerf as morf_and_lerf
from distillgrad.metrics.pixel_perturbation import pixel_perturbation as pixel_perturbation
from distillgrad.metrics.pixel_ranks import random_ranks as random_ranks
from distillgrad.metrics.pixel_ranks import ranks_to_store as ranks_to_store
from distillgrad.metrics.pixel_ranks import without_top as without_top
from distillgrad.metrics.randomisation import Randomisation as Randomisation
from distillgrad.metrics.randomisation import parameter_randomisation as parameter_randomisation
from distillgrad.metrics.registry import METRICS as METRICS
from distillgrad.metrics.registry import Metric as Metric
from distillgrad.metrics.roar import Roar as Roar
from distillgrad.metrics.roar import remove_and_retrain as remove_and_retrain
from distillgrad.metrics.roar import retrained_accuracy as retrained_accuracy
from distillgrad.metrics.roar_networks import CifarNetwork as CifarNetwork
from distillgrad.metrics.roar_networks import DigitsNetwork as DigitsNetwork
from distillgrad.metrics.sensitivity_n import SensitivityN as SensitivityN
from distillgrad.metrics.sensitivity_n import sensitivity_n as sensitivity_n
from distillgrad.metrics.similarity import spearman as spearman
from distillgrad.metrics.similarity import ssim as ssim
from distillgrad.metrics.similarity import top_overlap as top_overlap
from distillgrad.metrics.stability import Stability as Stability
from distillgrad.metrics.stability import stability as stability
from distillgrad.metrics.statistics import bootstrap_mean as bootstrap_mean
from distillgrad.metrics.statistics import compare as compare
