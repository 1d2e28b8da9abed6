"""The logits in what a model returns, and the classes that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from distillgrad.errors import ModelError, TargetError

Score: TypeAlias = Callable[[Any], Tensor]
"""A scalar per sample from the model's output, such as ``lambda logits: logits[:, 3] - logits[:, 5]``."""


def logits_of(output: Any) -> Tensor:
    """Return the logits within what a classifier returned: a tensor, ``.logits``, a mapping or a sequence.

    Of a sequence the first, unless these are probabilities and others have them as their softmax.

    Raises:
        ModelError: nothing in ``output`` is a floating-point tensor of logits.
    """
    logits = output
    if isinstance(output, Mapping):  # Hugging Face's ModelOutput is one
        named = [value for value in output.values() if isinstance(value, Tensor)]
        logits = output.get("logits", named[0] if len(named) == 1 else None)
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        logits = output.logits
    elif isinstance(output, tuple | list) and output:
        logits = _logits_among(output)
    if not isinstance(logits, Tensor):
        holds = f" with {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
        raise ModelError(
            f"the model returned a {type(output).__name__}{holds}, in which no logits were found; "
            "give a callable target that makes one scalar per sample of it"
        )
    return real_output(logits)


def _logits_among(outputs: Sequence[Any]) -> Any:
    """Return the first of the outputs, or where that is the softmax of another, such as it, the other."""
    first = outputs[0]
    if (
        not isinstance(first, Tensor)
        or first.ndim != 2
        or first.shape[1] == 1
        or not first.is_floating_point()
    ):
        return first
    others = [each for each in outputs[1:] if isinstance(each, Tensor) and each.shape == first.shape]
    probabilities = first.detach()
    if not others or bool((probabilities < 0).any()):
        return first
    coarse = torch.finfo(first.dtype).eps ** 0.5
    for other in others:
        if torch.allclose(other.detach().softmax(1).to(first.dtype), probabilities, rtol=coarse, atol=coarse):
            return other
    return first


def predictions(output: Any, n_samples: int) -> Tensor | None:
    """Return the classes ``(N,)`` with the highest logit; ``None`` for one score per sample, ``(N,)``."""
    logits = checked_logits(logits_of(output), n_samples)
    return None if logits.ndim == 1 else logits.detach().argmax(1)


def within_classes(target: Tensor, logits: Tensor) -> None:
    """Check that every class in ``target`` is one of the logits' ``(N, classes)`` or ``(N,)``.

    Raises:
        TargetError: it is not.
    """
    n_classes = 1 if logits.ndim == 1 else logits.shape[1]
    outside = target[(target < 0) | (target >= n_classes)]
    if len(outside):
        raise TargetError(
            f"target {int(outside[0])} is outside the model's output: it has {n_classes} "
            f"class{'es' if n_classes > 1 else ''}, numbered from 0"
        )


def logit_difference(one: int, other: int) -> Score:
    """Return the target that asks why class ``one`` and not ``other``: the difference of their logits."""

    def difference(output: Any) -> Tensor:
        logits = logits_of(output)
        within_classes(torch.tensor([one, other], device="cpu"), logits)
        return logits[:, one] - logits[:, other]

    return difference


def real_output(output: Tensor) -> Tensor:
    """Return the output, if its numbers are real.

    Raises:
        ModelError: they are complex.
    """
    if output.is_complex():
        raise ModelError(
            f"the model's output is complex ({output.dtype}), where no class is the highest; give a callable "
            "target that makes one real scalar per sample of it, such as lambda output: output[:, 0].abs()"
        )
    return output


def checked_logits(logits: Tensor, n_samples: int) -> Tensor:
    """Return the logits, if they are ``(N, classes)`` or ``(N,)``.

    Raises:
        ModelError: they are not.
    """
    if logits.ndim not in (1, 2) or len(logits) != n_samples or 0 in logits.shape:
        raise ModelError(
            f"the model's output has shape {tuple(logits.shape)} for {n_samples} samples; expected "
            f"({n_samples},) or ({n_samples}, classes): give a callable target that makes one scalar "
            "per sample of it"
        )
    return logits
