"""The model of a run, the same with each of its workers: the same weights, the same faster equivalent."""

from __future__ import annotations

import logging

import torch
from torch import nn

from distillgrad.core.acceleration.accelerate import Precision, accelerate
from distillgrad.errors import InputError, ModelError, ParameterError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.models import load_model
from distillgrad.sources.weights import fingerprint

_log = logging.getLogger(__name__)


def model_on(model: LoadedModel | str, device: str | None) -> LoadedModel:
    """Return a loaded model, or load one by its name, on the device; ``None``: where it is.

    Raises:
        UnknownNameError, SourceError: no such model; its weights are not to be had.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    if device is not None:
        loaded.model.to(device)
    return loaded


def equivalent_or_itself(
    loaded: LoadedModel, device: torch.device, precision: Precision = "float32"
) -> nn.Module:
    """Return an equivalent of the model that takes less time; the model itself, where none can be made.

    Which layout is faster is not measured: it decides the last bits, and runs should repeat.

    Raises:
        ModelError: none can be made in bfloat16, which the request wants.
        UnknownNameError: no such precision.
    """
    convolutions = [each for each in loaded.model.modules() if isinstance(each, nn.Conv2d)]
    example = torch.zeros(1, *loaded.input_size, device=device)
    try:
        return accelerate(loaded.model, example, precision=precision, channels_last=len(convolutions) > 1)
    except (ModelError, InputError) as error:
        if precision != "float32":
            raise
        _log.info("%s is not accelerated: %s", loaded.name, error)
        return loaded.model


def fast_model(loaded: LoadedModel, accelerated: bool, precision: Precision) -> nn.Module | None:
    """Return the model's faster equivalent, ``None`` where it is not ``accelerated``.

    Raises:
        ParameterError: another precision than float32, which only the faster model has.
        ModelError, UnknownNameError: that precision cannot be had.
    """
    if accelerated:
        return equivalent_or_itself(loaded, loaded.device, precision)
    if precision != "float32":
        raise ParameterError(f"{precision} needs the accelerated model: leave accelerated=False out")
    return None


def loaded_for(model: str, weights: str, device: str, out: str, loaded: LoadedModel | None) -> LoadedModel:
    """Return the model that the run at ``out`` was begun with: the one that is ``loaded``, or loaded now.

    Raises:
        ParameterError: its weights are others.
    """
    if loaded is None:
        loaded = load_model(model)
        loaded.model.to(device)
    present = fingerprint(loaded.model)
    if present != weights:
        raise ParameterError(
            f"the weights of {model} are not those that {out} was begun with "
            f"(SHA-256 {present[:12]}…, there {weights[:12]}…); give another folder"
        )
    return loaded
