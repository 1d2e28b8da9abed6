"""Weights from a file, without ever running what is in it."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from distillgrad.errors import SourceError

NO_WEIGHTS = ("optim", "lr_scheduler", "scheduler", "scaler", "callbacks", "hyper_parameters", "loops", "rng")
"""Beginnings of names under which checkpoints keep what is no network."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a ``.safetensors`` or a torch file, floating tensors as float32.

    Torch files are read with ``weights_only=True``: one that would run code is refused. Of a training
    framework's checkpoint it is the one collection of weights in it, under whatever name.

    Raises:
        SourceError: the file is missing, broken, or holds no collection of tensors by name, or several.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"no weights at {path}")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with warnings.catch_warnings():  # of odd pickles; the error says what to do
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path} is broken or needs code to be run to be read, which distillgrad never does; "
            "save the state dict alone, best as .safetensors"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise SourceError(f"{path} is no readable file of weights: {error}") from error
    collections = _collections(content)
    if not collections:
        raise SourceError(f"{path} does not hold tensors by name")
    if len(collections) > 1:
        named = ", ".join(map(repr, collections))
        raise SourceError(
            f"{path} holds several collections of weights, {named}: choose one and save it by itself"
        )
    (weights,) = collections.values()
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _collections(content: object, depth: int = 2) -> dict[str, dict[str, Tensor]]:
    """Return the dictionaries of tensors in a checkpoint by their place, such as ``"model.state_dict"``."""
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        return {}
    if all(isinstance(value, Tensor) for value in content.values()):
        return {"": content}
    inside = {}
    for name, value in content.items() if depth else ():
        if name.startswith(NO_WEIGHTS):
            continue
        for place, weights in _collections(value, depth - 1).items():
            inside[f"{name}.{place}".rstrip(".")] = weights
    return inside


def named_as_in(model: nn.Module, weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return weights by the model's own names, where a training framework has put a prefix before them.

    Other weights of the checkpoint, of a criterion for instance, have no such prefix and are left out.

    Raises:
        SourceError: several prefixes would do, as of a student and its teacher; names them and ``name``.
    """
    wanted = [each for each, _ in model.named_parameters()]
    if not wanted or any(each in weights for each in wanted):
        return weights
    starts = {key.removesuffix(wanted[0]) for key in weights if key.endswith(wanted[0])}
    fitting = sorted(start for start in starts if all(start + each in weights for each in wanted))
    if len(fitting) > 1:
        named = ", ".join(map(repr, fitting))
        raise SourceError(
            f"{name} holds weights for {type(model).__name__} behind several prefixes, {named}: "
            "choose one and save its weights by themselves"
        )
    if not fitting:
        return weights
    (prefix,) = fitting
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def load_weights(model: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Load ``weights``, every one of them, into ``model``.

    Raises:
        SourceError: names are missing or left over, or shapes differ; says which, and ``name``.
    """
    try:
        model.load_state_dict(named_as_in(model, weights, name))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise SourceError(f"{name} does not fit {type(model).__name__}: {' '.join(lines)[:400]}") from error


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of the model's parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, values in model.state_dict().items():
        digest.update(name.encode())
        for each in _tensors_in(values):
            digest.update(each.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors_in(values: object) -> list[Tensor]:
    """Return the tensors that a value of a state dict is made of: of a quantised one, levels and scales."""
    if hasattr(values, "__tensor_flatten__"):
        names, _ = values.__tensor_flatten__()
        return [inner for name in names for inner in _tensors_in(getattr(values, name))]
    if isinstance(values, Tensor) and values.is_quantized:
        return [values.int_repr(), values.dequantize()]
    if isinstance(values, tuple | list):
        return [inner for each in values for inner in _tensors_in(each)]
    if isinstance(values, Tensor):
        return [values]
    return [torch.frombuffer(bytearray(repr(values).encode()), dtype=torch.uint8)]
