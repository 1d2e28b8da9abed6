# Written by docs/make/type_stub.py from the table in __init__.py.
from distillgrad._version import __version__ as __version__
from distillgrad import errors as errors
from distillgrad import metrics as metrics
from distillgrad.core.acceleration.accelerate import accelerate as accelerate
from distillgrad.core.batch import Batch as Batch
from distillgrad.core.forward import value_and_gradient as value_and_gradient
from distillgrad.core.logits import logit_difference as logit_difference
from distillgrad.methods import METHODS as METHODS
from distillgrad.methods import create_method as create_method
from distillgrad.methods import register_method as register_method
from distillgrad.methods.agi import AGI as AGI
from distillgrad.methods.base import GradientMethod as GradientMethod
from distillgrad.methods.base import Method as Method
from distillgrad.methods.deep_lift import DeepLift as DeepLift
from distillgrad.methods.dga import DistilledGradientAggregation as DGA
from distillgrad.methods.dga import DistilledGradientAggregation as DistilledGradientAggregation
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
from distillgrad.methods.stable_dga import StableDistilledGradientAggregation as StableDGA
from distillgrad.methods.stable_dga import StableDistilledGradientAggregation as StableDistilledGradientAggregation
from distillgrad.methods.xrai import XRAI as XRAI
from distillgrad.runs.attribution.reading import open_run as open_run
from distillgrad.runs.attribution.runner import attribute_data as attribute_data
from distillgrad.runs.evaluation.runner import evaluate_data as evaluate_data
from distillgrad.sources.classifier import LoadedModel as LoadedModel
from distillgrad.sources.images import read_image as read_image
from distillgrad.sources.images import sample_photograph as sample_photograph
from distillgrad.sources.models import load_model as load_model
from distillgrad.sources.open_data import open_data as open_data

__all__ = [
    "AGI",
    "Batch",
    "DGA",
    "DeepLift",
    "DistilledGradientAggregation",
    "FullGrad",
    "GradCAM",
    "GradientMethod",
    "GradientXInput",
    "GuidedBackprop",
    "GuidedIG",
    "IDGI",
    "IntegratedGradients",
    "LRP",
    "Lime",
    "LoadedModel",
    "METHODS",
    "Method",
    "Occlusion",
    "RISE",
    "Random",
    "SAMP",
    "Saliency",
    "SmoothGrad",
    "SpectralIG",
    "StableDGA",
    "StableDistilledGradientAggregation",
    "UniformFullGrad",
    "VarGrad",
    "XRAI",
    "accelerate",
    "attribute_data",
    "create_method",
    "errors",
    "evaluate_data",
    "load_model",
    "logit_difference",
    "metrics",
    "open_data",
    "open_run",
    "quantus_explain",
    "read_image",
    "register_method",
    "sample_photograph",
    "value_and_gradient",
]
