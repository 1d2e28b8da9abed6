"""Metrics of explanations: they take attributions and never know a method."""

from __future__ import annotations

from distillgrad.metrics.pixel_perturbation import MorfAndLerf as MorfAndLerf
from distillgrad.metrics.pixel_perturbation import PixelPerturbation as PixelPerturbation
from distillgrad.metrics.pixel_perturbation import morf_and_lerf as morf_and_lerf
from distillgrad.metrics.pixel_perturbation import pixel_perturbation as pixel_perturbation
from distillgrad.metrics.sensitivity_n import SensitivityN as SensitivityN
from distillgrad.metrics.sensitivity_n import sensitivity_n as sensitivity_n
