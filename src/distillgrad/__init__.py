"""Explain what an image classifier looked at, and know whether to believe the explanation.

    import distillgrad as dg

    attributions = dg.DGA(model).attribute(images, target=3)

Public names load on first use, so that ``import distillgrad`` and the command line's help stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from distillgrad._version import __version__ as __version__

_HOMES = {
    "errors": "distillgrad.errors",
    "metrics": "distillgrad.metrics",
    "accelerate": "distillgrad.core.acceleration.accelerate:accelerate",
    "METHODS": "distillgrad.methods:METHODS",
    "create_method": "distillgrad.methods:create_method",
    "DGA": "distillgrad.methods.dga:DistilledGradientAggregation",
    "DistilledGradientAggregation": "distillgrad.methods.dga:DistilledGradientAggregation",
    "StableDistilledGradientAggregation": "distillgrad.methods.stable_dga:StableDistilledGradientAggregation",
    "UniformFullGrad": "distillgrad.methods.fullgrad:UniformFullGrad",
    "FullGrad": "distillgrad.methods.fullgrad:FullGrad",
    "GuidedBackprop": "distillgrad.methods.guided_backprop:GuidedBackprop",
    "GradientXInput": "distillgrad.methods.gradient:GradientXInput",
    "Saliency": "distillgrad.methods.gradient:Saliency",
    "AGI": "distillgrad.methods.agi:AGI",
    "GradCAM": "distillgrad.methods.gradcam:GradCAM",
    "SmoothGrad": "distillgrad.methods.smoothgrad:SmoothGrad",
    "VarGrad": "distillgrad.methods.smoothgrad:VarGrad",
    "GuidedIG": "distillgrad.methods.guided_ig:GuidedIG",
    "IntegratedGradients": "distillgrad.methods.integrated_gradients:IntegratedGradients",
    "IDGI": "distillgrad.methods.idgi:IDGI",
    "SAMP": "distillgrad.methods.samp:SAMP",
    "SpectralIG": "distillgrad.methods.spectral_ig:SpectralIG",
    "RISE": "distillgrad.methods.rise:RISE",
    "Lime": "distillgrad.methods.lime:Lime",
    "Occlusion": "distillgrad.methods.occlusion:Occlusion",
    "Random": "distillgrad.methods.random:Random",
    "XRAI": "distillgrad.methods.xrai:XRAI",
    "LRP": "distillgrad.methods.lrp:LRP",
    "DeepLift": "distillgrad.methods.deep_lift:DeepLift",
    "LoadedModel": "distillgrad.sources.classifier:LoadedModel",
    "quantus_explain": "distillgrad.methods.quantus:quantus_explain",
    "load_model": "distillgrad.sources.models:load_model",
    "open_run": "distillgrad.runs.attribution.reading:open_run",
    "read_image": "distillgrad.sources.images:read_image",
}

if TYPE_CHECKING:
    from distillgrad import errors as errors
    from distillgrad import metrics as metrics
    from distillgrad.core.acceleration.accelerate import accelerate as accelerate
    from distillgrad.methods import METHODS as METHODS
    from distillgrad.methods import create_method as create_method
    from distillgrad.methods.agi import AGI as AGI
    from distillgrad.methods.deep_lift import DeepLift as DeepLift
    from distillgrad.methods.dga import DistilledGradientAggregation as DGA
    from distillgrad.methods.dga import (
        DistilledGradientAggregation as DistilledGradientAggregation,
    )
    from distillgrad.methods.fullgrad import FullGrad as FullGrad
    from distillgrad.methods.fullgrad import UniformFullGrad as UniformFullGrad
    from distillgrad.methods.gradcam import GradCAM as GradCAM
    from distillgrad.methods.gradient import GradientXInput as GradientXInput
    from distillgrad.methods.gradient import Saliency as Saliency
    from distillgrad.methods.guided_backprop import GuidedBackprop as GuidedBackprop
    from distillgrad.methods.guided_ig import GuidedIG as GuidedIG
    from distillgrad.methods.idgi import IDGI as IDGI
    from distillgrad.methods.integrated_gradients import IntegratedGradients as IntegratedGradients
    from distillgrad.methods.lime import Lime as Lime
    from distillgrad.methods.lrp import LRP as LRP
    from distillgrad.methods.occlusion import Occlusion as Occlusion
    from distillgrad.methods.quantus import quantus_explain as quantus_explain
    from distillgrad.methods.random import Random as Random
    from distillgrad.methods.rise import RISE as RISE
    from distillgrad.methods.samp import SAMP as SAMP
    from distillgrad.methods.smoothgrad import SmoothGrad as SmoothGrad
    from distillgrad.methods.smoothgrad import VarGrad as VarGrad
    from distillgrad.methods.spectral_ig import SpectralIG as SpectralIG
    from distillgrad.methods.stable_dga import (
        StableDistilledGradientAggregation as StableDistilledGradientAggregation,
    )
    from distillgrad.methods.xrai import XRAI as XRAI
    from distillgrad.runs.attribution.reading import open_run as open_run
    from distillgrad.sources.classifier import LoadedModel as LoadedModel
    from distillgrad.sources.images import read_image as read_image
    from distillgrad.sources.models import load_model as load_model

__all__ = [
    "AGI",
    "DGA",
    "IDGI",
    "LRP",
    "METHODS",
    "RISE",
    "SAMP",
    "XRAI",
    "DeepLift",
    "DistilledGradientAggregation",
    "FullGrad",
    "GradCAM",
    "GradientXInput",
    "GuidedBackprop",
    "GuidedIG",
    "IntegratedGradients",
    "Lime",
    "LoadedModel",
    "Occlusion",
    "Random",
    "Saliency",
    "SmoothGrad",
    "SpectralIG",
    "StableDistilledGradientAggregation",
    "UniformFullGrad",
    "VarGrad",
    "accelerate",
    "create_method",
    "errors",
    "load_model",
    "metrics",
    "open_run",
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
