"""Attribution methods: each a Captum ``Attribution``, each under one name in ``METHODS``.

The facts of each (cost, sign, shape of the result, source) stand on its class, see
:class:`~distillgrad.methods.base.Method`.
"""

from __future__ import annotations

from typing import Any

from distillgrad.core.forward import Model
from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.methods.base import Method
from distillgrad.methods.dga import DistilledGradientAggregation
from distillgrad.methods.fullgrad import FullGrad, UniformFullGrad
from distillgrad.methods.gradient import GradientXInput, Saliency
from distillgrad.methods.guided import GuidedBackprop

METHODS: dict[str, type[Method]] = {
    "dga": DistilledGradientAggregation,
    "uniform_fullgrad": UniformFullGrad,
    "gradient_x_input": GradientXInput,
    "saliency": Saliency,
    "guided_backprop": GuidedBackprop,
    "fullgrad": FullGrad,
}


def create_method(name: str, model: Model, **parameters: Any) -> Method:
    """The method of that name for ``model``.

    Raises:
        UnknownNameError: no such method; names the nearest.
        ParameterError: a parameter that the method does not have, or outside its range.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    try:
        return METHODS[name](model, **parameters)
    except TypeError as error:
        raise ParameterError(f"method {name!r}: {error}") from error
