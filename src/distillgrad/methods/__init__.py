"""Attribution methods: each a Captum ``Attribution``, each under one name in ``METHODS``.

The facts of each (cost, sign, shape of the result, source) stand on its class, see
:class:`~distillgrad.methods.base.Method`.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from distillgrad.core.forward import Model
from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.methods.agi import AGI
from distillgrad.methods.base import Method
from distillgrad.methods.deep_lift import DeepLift
from distillgrad.methods.dga import DistilledGradientAggregation
from distillgrad.methods.fullgrad import FullGrad, UniformFullGrad
from distillgrad.methods.gradcam import GradCAM
from distillgrad.methods.gradient import GradientXInput, Saliency
from distillgrad.methods.guided_backprop import GuidedBackprop
from distillgrad.methods.guided_ig import GuidedIG
from distillgrad.methods.idgi import IDGI
from distillgrad.methods.integrated_gradients import IntegratedGradients
from distillgrad.methods.lime import Lime
from distillgrad.methods.lrp import LRP
from distillgrad.methods.occlusion import Occlusion
from distillgrad.methods.random import Random
from distillgrad.methods.rise import RISE
from distillgrad.methods.samp import SAMP
from distillgrad.methods.smoothgrad import SmoothGrad, VarGrad
from distillgrad.methods.spectral_ig import SpectralIG
from distillgrad.methods.stable_dga import StableDistilledGradientAggregation
from distillgrad.methods.xrai import XRAI

METHODS: dict[str, type[Method]] = {
    "dga": DistilledGradientAggregation,
    "stable_dga": StableDistilledGradientAggregation,
    "uniform_fullgrad": UniformFullGrad,
    "fullgrad": FullGrad,
    "gradient_x_input": GradientXInput,
    "saliency": Saliency,
    "guided_backprop": GuidedBackprop,
    "smoothgrad": SmoothGrad,
    "vargrad": VarGrad,
    "integrated_gradients": IntegratedGradients,
    "guided_ig": GuidedIG,
    "idgi": IDGI,
    "samp": SAMP,
    "spectral_ig": SpectralIG,
    "agi": AGI,
    "gradcam": GradCAM,
    "deep_lift": DeepLift,
    "lrp": LRP,
    "rise": RISE,
    "occlusion": Occlusion,
    "lime": Lime,
    "xrai": XRAI,
    "random": Random,
}


def find_method(name: str) -> type[Method]:
    """Return the class of the method of that name.

    Raises:
        UnknownNameError: no such method; names the nearest.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]


def create_method(name: str, model: Model, **parameters: Any) -> Method:
    """The method of that name for ``model``.

    Raises:
        UnknownNameError: no such method; names the nearest.
        ParameterError: a parameter that the method does not have, or outside its range.
    """
    return method_among(METHODS, name, model, parameters)


def method_among(
    known: Mapping[str, type[Method]], name: str, model: Model, parameters: Mapping[str, Any]
) -> Method:
    """:func:`create_method` where other methods are known, such as ``METHODS`` and your own."""
    if name not in known:
        raise UnknownNameError("method", name, known)
    try:
        return known[name](model, **parameters)
    except TypeError as error:
        has = list(signature(known[name]).parameters)[1:]
        unknown = [each for each in parameters if each not in has]
        words = UnknownNameError("parameter", unknown[0], has) if has and unknown else error
        raise ParameterError(f"method {name!r}: {words}") from error
