"""Explain what an image classifier looked at, and know whether to believe the explanation.

    import distillgrad as dg

    attributions = dg.DGA(model).attribute(images, target=3)

Public names load on first use, so that ``import distillgrad`` and the command line's help stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "errors": "distillgrad.errors",
    "METHODS": "distillgrad.methods:METHODS",
    "create_method": "distillgrad.methods:create_method",
    "DGA": "distillgrad.methods.dga:DistilledGradientAggregation",
    "DistilledGradientAggregation": "distillgrad.methods.dga:DistilledGradientAggregation",
    "UniformFullGrad": "distillgrad.methods.fullgrad:UniformFullGrad",
    "FullGrad": "distillgrad.methods.fullgrad:FullGrad",
    "GuidedBackprop": "distillgrad.methods.guided:GuidedBackprop",
    "GradientXInput": "distillgrad.methods.gradient:GradientXInput",
    "Saliency": "distillgrad.methods.gradient:Saliency",
    "LoadedModel": "distillgrad.sources.classifier:LoadedModel",
    "quantus_explain": "distillgrad.methods.quantus:quantus_explain",
    "load_model": "distillgrad.sources.models:load_model",
    "read_image": "distillgrad.sources.images:read_image",
}

if TYPE_CHECKING:
    from distillgrad import errors as errors
    from distillgrad.methods import METHODS as METHODS
    from distillgrad.methods import create_method as create_method
    from distillgrad.methods.dga import DistilledGradientAggregation as DGA
    from distillgrad.methods.dga import (
        DistilledGradientAggregation as DistilledGradientAggregation,
    )
    from distillgrad.methods.fullgrad import FullGrad as FullGrad
    from distillgrad.methods.fullgrad import UniformFullGrad as UniformFullGrad
    from distillgrad.methods.gradient import GradientXInput as GradientXInput
    from distillgrad.methods.gradient import Saliency as Saliency
    from distillgrad.methods.guided import GuidedBackprop as GuidedBackprop
    from distillgrad.methods.quantus import quantus_explain as quantus_explain
    from distillgrad.sources.classifier import LoadedModel as LoadedModel
    from distillgrad.sources.images import read_image as read_image
    from distillgrad.sources.models import load_model as load_model

__all__ = [
    "DGA",
    "METHODS",
    "DistilledGradientAggregation",
    "FullGrad",
    "GradientXInput",
    "GuidedBackprop",
    "LoadedModel",
    "Saliency",
    "UniformFullGrad",
    "create_method",
    "errors",
    "load_model",
    "quantus_explain",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distillgrad' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
