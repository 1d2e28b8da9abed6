"""Metrics of explanations: they take attributions and never know a method."""

from __future__ import annotations

from distillgrad.metrics.pixel_perturbation import PixelPerturbation as PixelPerturbation
from distillgrad.metrics.pixel_perturbation import pixel_perturbation as pixel_perturbation
