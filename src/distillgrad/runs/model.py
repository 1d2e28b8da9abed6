"""The model of a run, as each of its workers has it: the same weights, the same faster equivalent."""

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


def equivalent_or_itself(
    loaded: LoadedModel, device: torch.device, precision: Precision = "float32"
) -> nn.Module:
    """An equivalent of the model that takes less time; the model itself, where none can be made.

    Which layout is faster is not measured: it decides the last bits, and runs should repeat.

    Raises:
        ModelError: none can be made in bfloat16, which somebody has asked for.
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


def loaded_for(model: str, weights: str, device: str, out: str, loaded: LoadedModel | None) -> LoadedModel:
    """The model that the run at ``out`` was begun with: the one that is ``loaded`` already, or loaded now.

    Raises:
        ParameterError: its weights are others.
    """
    if loaded is None:
        loaded = load_model(model)
        loaded.model.to(device)
    found = fingerprint(loaded.model)
    if found != weights:
        raise ParameterError(
            f"the weights of {model} are not those that {out} was begun with "
            f"(SHA-256 {found[:12]}…, there {weights[:12]}…); give another folder"
        )
    return loaded
