"""The model as a scalar function of its input: its output, the target's score, the score's gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.calls import wrong_call
from distillgrad.core.norm_gradients import mend_norm_gradients
from distillgrad.core.profiling import timed
from distillgrad.core.row_threads import raise_if_cancelled
from distillgrad.errors import ModelError, TargetError

Model: TypeAlias = Callable[..., Any]
Score: TypeAlias = Callable[[Any], Tensor]
"""A scalar per sample from the model's output, such as ``lambda logits: logits[:, 3] - logits[:, 5]``."""
Target: TypeAlias = Tensor | Score | None
"""Class indices ``(N,)``, a score, or ``None``: the predicted class (of an ``(N,)`` output, itself)."""


def must_be_callable(model: object) -> None:
    """Check that ``model`` can be called on inputs.

    Raises:
        ModelError: it cannot; says what to give instead.
    """
    if not callable(model):
        mend = "its .model" if callable(getattr(model, "model", None)) else "an nn.Module or a function"
        raise ModelError(f"a {type(model).__name__} cannot be called on inputs; give {mend}")


def counted(model: Model, on_pass: Callable[[], None]) -> Model:
    """Return ``model`` as a callable that calls ``on_pass`` at each of its passes."""

    def model_pass(*arguments: Any, **named: Any) -> Any:
        on_pass()
        return model(*arguments, **named)

    return model_pass


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
    return _real(logits)


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
    logits = _checked(logits_of(output), n_samples)
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


def select(output: Any, target: Target, n_samples: int) -> Tensor:
    """Return the target's score ``(N,)`` in the model's output; its gradient is right through norms, too.

    Raises:
        TargetError: a class outside the output, or a callable that does not return one scalar per sample.
        ModelError: an output that is not ``(N,)`` or ``(N, classes)``, for a target that is no callable.
    """
    score = _selected(output, target, n_samples)
    mend_norm_gradients(score)
    return score


def _selected(output: Any, target: Target, n_samples: int) -> Tensor:
    if callable(target):
        score = target(output)
        if not isinstance(score, Tensor) or score.shape != (n_samples,):
            got = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise TargetError(
                f"the callable target must return one scalar per sample, ({n_samples},); got {got}"
            )
        return _real(score)
    logits = _checked(logits_of(output), n_samples)
    if target is None and logits.ndim == 1:
        return logits
    if target is None:
        target = logits.detach().argmax(1)
    within_classes(target, logits)
    if logits.ndim == 1:
        return logits
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


def logit_difference(one: int, other: int) -> Score:
    """Return the target that asks why class ``one`` and not ``other``: the difference of their logits."""

    def difference(output: Any) -> Tensor:
        logits = logits_of(output)
        within_classes(torch.tensor([one, other]), logits)
        return logits[:, one] - logits[:, other]

    return difference


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def softmax_probability(output: Any, target: Target, n_rows: int) -> Tensor:
    """Return the softmax probability ``(N,)`` of the target; its score where there is but one output."""
    if callable(target):
        return select(output, target, n_rows)
    logits = logits_of(output)
    logits = logits.to(accumulation_dtype(logits.dtype))
    score = select(logits, target, n_rows)
    if logits.ndim == 1 or logits.shape[1] == 1:
        return score
    return (score - logits.logsumexp(1)).exp()


def value_and_gradient(
    model: Model, inputs: Tensor, target: Target = None, extra: tuple[Any, ...] = ()
) -> tuple[Tensor, Tensor, Target]:
    """Return the target's score ``(N,)``, its gradient by the inputs, and the target it was.

    A target of ``None`` comes back as the predicted classes, so that the prediction costs no pass of its
    own. Works under ``no_grad``, with frozen weights and with a model that writes into its input; nothing
    of the model's or the caller's is changed.

    Raises:
        ModelError: the model fails on the inputs, is not differentiable, or ignores them.
        TargetError: as in :func:`select`.
    Cost: one forward and one backward pass; a copy of the inputs.
    """
    raise_if_cancelled()
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        # The model gets a copy: it may begin with an in-place operation, which a leaf does not allow.
        with failures_named(inputs, model, extra), timed("forward"):
            output = model(leaf.clone(), *extra)
        if target is None:
            target = predictions(output, len(leaf))
        score = select(output, target, len(leaf))
        if not score.requires_grad:
            raise ModelError(
                "the model's output carries no gradient: it does not depend on the inputs, or the model "
                "runs under no_grad, detaches, or ends in an operation such as argmax"
            )
        with failures_named(inputs), timed("backward"):
            (gradient,) = torch.autograd.grad(
                score, leaf, grad_outputs=torch.ones_like(score), allow_unused=True
            )
    if gradient is None:
        raise ModelError("the model's output does not depend on the inputs: there is no gradient")
    return score.detach(), gradient, target


def scores(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    extra: tuple[Any, ...] = (),
    *,
    disposable: bool = False,
) -> tuple[Tensor, Target]:
    """Return the target's score ``(N,)`` and the target it was. Cost: one forward pass, no graph.

    The model gets a copy of the inputs, into which it may write, or the inputs if they are ``disposable``.
    """
    raise_if_cancelled()
    with torch.no_grad():
        with failures_named(inputs, model, extra), timed("forward"):
            output = model(inputs if disposable else inputs.clone(), *extra)
        if target is None:
            target = predictions(output, len(inputs))
        return select(output, target, len(inputs)), target


@contextmanager
def failures_named(inputs: Tensor, model: Model | None = None, extra: tuple[Any, ...] = ()) -> Iterator[None]:
    """Say what was put in where torch reports a wrong input as a bare RuntimeError deep inside a layer.

    Subclasses (out of memory, the model's own errors) say what they are and pass.

    Args:
        model, extra: What is called, and its further arguments, to tell whether it takes them so.

    Raises:
        ModelError: what torch reported, with the inputs' shape, type and device.
    """
    try:
        yield
    except TypeError as error:
        why = "" if model is None else wrong_call(model, (inputs, *extra))
        if not why:
            raise
        raise ModelError(why) from error
    except (RuntimeError, ValueError) as error:
        if type(error) not in (RuntimeError, ValueError) or is_out_of_memory(error):
            raise
        raise ModelError(
            f"the model failed on inputs of shape {tuple(inputs.shape)}, {inputs.dtype} on "
            f"{inputs.device}: {error}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the host, could not give the memory that it should."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _real(output: Tensor) -> Tensor:
    if output.is_complex():
        raise ModelError(
            f"the model's output is complex ({output.dtype}), where no class is the highest; give a callable "
            "target that makes one real scalar per sample of it, such as lambda output: output[:, 0].abs()"
        )
    return output


def _checked(logits: Tensor, n_samples: int) -> Tensor:
    if logits.ndim not in (1, 2) or len(logits) != n_samples or 0 in logits.shape:
        raise ModelError(
            f"the model's output has shape {tuple(logits.shape)} for {n_samples} samples; expected "
            f"({n_samples},) or ({n_samples}, classes): give a callable target that makes one scalar "
            "per sample of it"
        )
    return logits
