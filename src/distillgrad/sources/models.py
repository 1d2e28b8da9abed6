"""Classifiers by name: ``cifar10-cnn``, ``torchvision:…``, ``timm:…``, ``hf:…``, ``module:factory``."""

from __future__ import annotations

import logging
from inspect import signature
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from distillgrad.core.forward import failures_named
from distillgrad.core.logits import logits_of
from distillgrad.core.registry import imported, is_import_path
from distillgrad.errors import (
    MissingExtraError,
    ModelError,
    ParameterError,
    SourceError,
    UnknownNameError,
)
from distillgrad.sources import bundled
from distillgrad.sources.bundled.network import Cifar10CNN
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.hubs import (
    huggingface_model,
    timm_model,
    timm_names,
    torchvision_model,
    torchvision_names,
)
from distillgrad.sources.preprocess import ResizeAndCrop
from distillgrad.sources.resnet20 import resnet20_model
from distillgrad.sources.weights import load_weights, read_weights

_log = logging.getLogger(__name__)

KINDS = {
    "cifar10-cnn": "the classifier in the package: CIFAR-10's ten classes, 32×32, works offline",
    "cifar10-resnet20@WEIGHTS": "the ResNet-20 of He et al. for CIFAR-10, with a file's weights",
    "torchvision:NAME[@WEIGHTS]": "torchvision's classifiers, with its own weights or a file's",
    "timm:NAME[@WEIGHTS]": "timm's classifiers, with its own weights or a file's",
    "hf:NAME": "an image classifier of the Hugging Face hub, or a folder of one",
    "PACKAGE.MODULE:FACTORY": "what your function returns: a LoadedModel, or a module for 224×224 images",
}


SAFE = ("cifar10-cnn", "cifar10-resnet20", "torchvision:", "timm:")
"""The beginnings of names of models whose loading runs no code but that of installed libraries."""


def loading_may_run_code(spec: str) -> bool:
    """Return whether a name, such as a run's folder holds, may make :func:`load_model` run any code."""
    return not spec.startswith(SAFE)


def load_model(spec: str, *, pretrained: bool = True) -> LoadedModel:
    """Return the classifier that ``spec`` names, on the CPU, in eval mode.

    Tensors of its own lie on the CPU, too, whatever torch's default device is.

    Args:
        spec: One of ``KINDS``; WEIGHTS is a ``.safetensors`` or a torch file, of which no code is run.
        pretrained: False gives random weights (tests, benchmarks) and reads no file of weights.

    Raises:
        UnknownNameError: no such model; names the nearest.
        SourceError: weights that are missing, broken, of another model, or out of reach.
        MissingExtraError: the library that defines the model is not installed.
        ParameterError: a model instead of a name.
        ModelError: a model without weights yet (lazy modules), or one that cannot be called.
    """
    if not isinstance(spec, str):
        raise ParameterError(
            f"load_model takes a name, not a {type(spec).__name__}; methods take a model as it is, "
            "dg.DGA(model).attribute(inputs), and commands and data sets dg.LoadedModel(model, preprocess, "
            "classes, input_size)"
        )
    with torch.device("cpu"):
        loaded = _loaded(spec, pretrained)
    loaded.model.eval()
    return loaded


def _loaded(spec: str, pretrained: bool) -> LoadedModel:
    kind, _, rest = spec.partition(":")
    name, at, weights = rest.partition("@")
    if kind in ("torchvision", "timm") and (not name or (at and not weights)):
        raise ParameterError(f"{spec!r} is incomplete: write {kind}:NAME or {kind}:NAME@WEIGHTS")
    if spec == "cifar10-cnn":
        return _bundled(pretrained)
    if spec.startswith("cifar10-resnet20"):
        return resnet20_model(spec.removeprefix("cifar10-resnet20").removeprefix("@"), pretrained)
    if kind == "torchvision":
        return torchvision_model(name, weights, pretrained)
    if kind == "timm":
        return timm_model(name, weights, pretrained)
    if kind == "hf" and rest:
        return huggingface_model(rest, pretrained)
    if is_import_path(spec):
        return _from_factory(kind, rest)
    raise UnknownNameError("model", spec, KINDS)


def portable_spec(spec: str) -> str:
    """Return the spec as another process reads it, which works in another folder: files by absolute paths."""
    kind, _, rest = spec.partition(":")
    if kind == "hf" and Path(rest).is_dir():
        return f"hf:{Path(rest).absolute()}"
    name, at, weights = spec.partition("@")
    if at and kind != "hf" and Path(weights).exists():
        return f"{name}@{Path(weights).absolute()}"
    return spec


def known_models(pattern: str) -> list[str]:
    """Return the model names that contain ``pattern``, of whichever libraries are installed."""
    names = ["cifar10-cnn"]
    for library in (torchvision_names, timm_names):
        try:
            names += library()
        except MissingExtraError as error:
            _log.info("not listed: %s", error)
    return [name for name in names if pattern.lower() in name.lower()]


def _bundled(pretrained: bool) -> LoadedModel:
    model = Cifar10CNN(len(bundled.CLASSES))
    if pretrained:
        load_weights(model, read_weights(bundled.WEIGHTS), bundled.WEIGHTS.name)
    return LoadedModel(
        model=model,
        preprocess=ResizeAndCrop(32, 32, bundled.MEAN, bundled.STD),
        classes=bundled.CLASSES,
        input_size=(3, 32, 32),
        mean=bundled.MEAN,
        std=bundled.STD,
        name="cifar10-cnn",
    )


def _from_factory(module: str, factory: str) -> LoadedModel:
    """Import and call the user's own function: their code, run because they named it."""
    spec = f"{module}:{factory}"
    function = imported(spec)
    try:
        signature(function).bind()
    except (TypeError, ValueError) as error:
        raise SourceError(f"{spec} is no function without arguments that makes a model: {error}") from error
    made = function()
    if isinstance(made, LoadedModel):
        _expect_weights(spec, made.model)
        return made
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} returned a {type(made).__name__}; expected a torch module or a LoadedModel")
    _expect_weights(spec, made)
    made.eval()
    inputs = torch.zeros(1, 3, 224, 224, device="cpu")
    try:
        with torch.no_grad(), failures_named(inputs):
            n_classes = logits_of(made(inputs)).shape[-1]
    except ModelError as error:
        raise ModelError(f"{spec}: {error}; return a LoadedModel, which says what the model takes") from error
    return LoadedModel(
        model=made,
        preprocess=ResizeAndCrop(256, 224),
        classes=tuple(f"class {index}" for index in range(n_classes)),
        input_size=(3, 224, 224),
        name=spec,
    )


def _expect_weights(spec: str, model: nn.Module) -> None:
    """Check that no module waits for its first inputs to have weights.

    Raises:
        ModelError: some do; names them.
    """
    waiting = [name for name, each in model.named_parameters() if is_lazy(each)]
    if waiting:
        raise ModelError(
            f"{spec} returned a model whose lazy modules have no weights yet ({', '.join(waiting[:3])}): "
            "call it once on an example, then load its weights, in the function that makes it"
        )
