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


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a ``.safetensors`` or a torch file, floating tensors as float32.

    Torch files are read with ``weights_only=True``: one that would run code is refused. A checkpoint
    that holds its weights under ``state_dict`` or ``model``, or prefixed by ``module.``, is unwrapped.

    Raises:
        SourceError: the file is missing, broken, or holds anything but tensors by name.
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
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise SourceError(f"{path} does not hold tensors by name")
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in content.items()
    }


def load_weights(model: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Load ``weights``, every one of them, into ``model``.

    Raises:
        SourceError: names are missing or left over, or shapes differ; says which, and ``name``.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise SourceError(f"{name} does not fit {type(model).__name__}: {' '.join(lines)[:400]}") from error


def fingerprint(model: nn.Module) -> str:
    """Return SHA-256 of the model's parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, values in model.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
