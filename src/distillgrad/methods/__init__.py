"""Attribution methods: each a Captum ``Attribution``, each under one name in ``METHODS``.

The facts of each (cost, sign, shape of the result, source) stand on its class, see
:class:`~distillgrad.methods.base.Method`. A class is imported when it is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, TypeVar, overload

from distillgrad.core.registry import Registry
from distillgrad.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from distillgrad.core.forward import Model
    from distillgrad.methods.base import Method

M = TypeVar("M", bound="type[Method]")


def _checked(name: str, thing: Any) -> type[Method]:
    from distillgrad.methods.base import Method

    if not (isinstance(thing, type) and issubclass(thing, Method)):
        what = thing.__name__ if isinstance(thing, type) else f"a {type(thing).__name__}"
        raise ParameterError(
            f"{name!r} is {what}, no class of a method: derive it from distillgrad.GradientMethod, or from "
            "distillgrad.Method if it takes no gradients"
        )
    lacking = [fact for fact in ("signed", "source") if not hasattr(thing, fact)]
    if lacking:
        raise ParameterError(
            f"the method {name!r} does not state {' and '.join(lacking)}: set it on the class"
        )
    return thing


METHODS: Registry[type[Method]] = Registry(
    "method",
    "distillgrad.methods",
    {
        "dga": "distillgrad.methods.dga:DistilledGradientAggregation",
        "stable_dga": "distillgrad.methods.stable_dga:StableDistilledGradientAggregation",
        "uniform_fullgrad": "distillgrad.methods.fullgrad:UniformFullGrad",
        "fullgrad": "distillgrad.methods.fullgrad:FullGrad",
        "gradient_x_input": "distillgrad.methods.gradient:GradientXInput",
        "saliency": "distillgrad.methods.gradient:Saliency",
        "guided_backprop": "distillgrad.methods.guided_backprop:GuidedBackprop",
        "smoothgrad": "distillgrad.methods.smoothgrad:SmoothGrad",
        "vargrad": "distillgrad.methods.smoothgrad:VarGrad",
        "integrated_gradients": "distillgrad.methods.integrated_gradients:IntegratedGradients",
        "guided_ig": "distillgrad.methods.guided_ig:GuidedIG",
        "idgi": "distillgrad.methods.idgi:IDGI",
        "samp": "distillgrad.methods.samp:SAMP",
        "spectral_ig": "distillgrad.methods.spectral_ig:SpectralIG",
        "agi": "distillgrad.methods.agi:AGI",
        "gradcam": "distillgrad.methods.gradcam:GradCAM",
        "deep_lift": "distillgrad.methods.deep_lift:DeepLift",
        "lrp": "distillgrad.methods.lrp:LRP",
        "rise": "distillgrad.methods.rise:RISE",
        "occlusion": "distillgrad.methods.occlusion:Occlusion",
        "lime": "distillgrad.methods.lime:Lime",
        "xrai": "distillgrad.methods.xrai:XRAI",
        "random": "distillgrad.methods.random:Random",
    },
    _checked,
)
"""The methods by name; a new one is its file and a row here."""


def find_method(name: str) -> type[Method]:
    """Return the class of a method.

    Args:
        name: One of ``METHODS`` (those of this package, registered ones, entry points in the group
            ``distillgrad.methods``), or ``my_module:MyMethod``, which is imported.
    Raises:
        UnknownNameError: no such method; names the nearest.
        SourceError: ``my_module:MyMethod`` cannot be imported.
        ParameterError: what was imported is no method.
    """
    return METHODS.find(name)


@overload
def register_method(name: str, cls: M) -> M: ...


@overload
def register_method(name: str) -> Callable[[M], M]: ...


def register_method(name: str, cls: Any = None) -> Any:
    """Add a method of your own by a name, for this process; also as a decorator of its class.

        @dg.register_method("squared_gradient")
        class SquaredGradient(dg.GradientMethod): ...

    Processes that do not run this line (workers of a cluster, the command line) know the class as
    ``my_module:SquaredGradient``, or by an entry point in the group ``distillgrad.methods``.

    Args:
        name: What it is called from now on.
        cls: The class; left out where this decorates it.
    Returns: The class.
    Raises:
        ParameterError: the name is in use, or the class is no :class:`~distillgrad.methods.base.Method`.
    """

    def register(given: M) -> M:
        METHODS.register(name, given)
        return given

    return register if cls is None else register(cls)


def create_method(name: str, model: Model, **parameters: Any) -> Method:
    """Return the method of that name for ``model``.

    Args:
        name: As :func:`find_method` takes it.
        model: What is explained.
        parameters: The method's own.
    Raises:
        UnknownNameError, SourceError: no such method.
        ParameterError: a parameter that the method does not have, or outside its range.
    """
    return method_among({}, name, model, parameters)


def method_among(
    known: Mapping[str, type[Method]], name: str, model: Model, parameters: Mapping[str, Any]
) -> Method:
    """Return :func:`create_method`'s result where ``known`` names further methods."""
    kind = known[name] if name in known else find_method(name)
    try:
        return kind(model, **parameters)
    except TypeError as error:
        has = list(signature(kind).parameters)[1:]
        unknown = [each for each in parameters if each not in has]
        words = UnknownNameError("parameter", unknown[0], has) if has and unknown else error
        raise ParameterError(f"method {name!r}: {words}") from error
