"""Explain what an image classifier looked at, and know whether to believe the explanation.

    import distillgrad as dg

    attributions = dg.DGA(model).attribute(images, target=3)

Public names load on first use, so that ``import distillgrad`` and the command line's help stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from distillgrad._version import __version__ as __version__
from distillgrad.methods import METHODS as _METHODS

_HOMES = {
    "errors": "distillgrad.errors",
    "metrics": "distillgrad.metrics",
    "accelerate": "distillgrad.core.acceleration.accelerate:accelerate",
    "METHODS": "distillgrad.methods:METHODS",
    "create_method": "distillgrad.methods:create_method",
    "register_method": "distillgrad.methods:register_method",
    "Method": "distillgrad.methods.base:Method",
    "GradientMethod": "distillgrad.methods.base:GradientMethod",
    "Batch": "distillgrad.core.batch:Batch",
    "value_and_gradient": "distillgrad.core.forward:value_and_gradient",
    **{row.partition(":")[2]: row for row in _METHODS.rows.values()},
    "DGA": _METHODS.rows["dga"],
    "StableDGA": _METHODS.rows["stable_dga"],
    "logit_difference": "distillgrad.core.logits:logit_difference",
    "LoadedModel": "distillgrad.sources.classifier:LoadedModel",
    "quantus_explain": "distillgrad.methods.quantus:quantus_explain",
    "load_model": "distillgrad.sources.models:load_model",
    "open_data": "distillgrad.sources.open_data:open_data",
    "evaluate_data": "distillgrad.runs.evaluation.runner:evaluate_data",
    "attribute_data": "distillgrad.runs.attribution.runner:attribute_data",
    "open_run": "distillgrad.runs.attribution.reading:open_run",
    "read_image": "distillgrad.sources.images:read_image",
    "sample_photograph": "distillgrad.sources.images:sample_photograph",
}
"""The module of each public name; ``METHODS`` has that of a method. The stub is written from this."""

__all__ = [*_HOMES]  # noqa: PLE0604  # the keys are strings


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
    return sorted(["__version__", *_HOMES])
