"""The model as a scalar function of its input: its output, the target's score, the score's gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from distillgrad.core.calls import wrong_call
from distillgrad.core.logits import Score, checked_logits, logits_of, predictions, real_output, within_classes
from distillgrad.core.norm_gradients import mend_norm_gradients
from distillgrad.core.profiling import timed
from distillgrad.core.row_threads import raise_if_cancelled
from distillgrad.errors import ModelError, TargetError

Model: TypeAlias = Callable[..., Any]
Target: TypeAlias = Tensor | Score | None
"""Class indices ``(N,)``, a score, or ``None``: the predicted class (of an ``(N,)`` output, itself)."""


NO_GRADIENT = (
    "the model's output carries no gradient: it does not depend on the inputs, or the model runs under "
    "no_grad, detaches, or ends in an operation such as argmax"
)


def must_be_callable(model: object) -> None:
    """Check that ``model`` can be called on inputs, and has weights.

    Raises:
        ModelError: it cannot, and what to give instead; or it has lazy layers, which ones.
    """
    if not callable(model):
        mend = "its .model" if callable(getattr(model, "model", None)) else "an nn.Module or a function"
        raise ModelError(f"a {type(model).__name__} cannot be called on inputs; give {mend}")
    if isinstance(model, nn.Module) and any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        lazy = [name or "the model itself" for name, module in model.named_modules() if _is_lazy(module)]
        raise ModelError(
            f"the weights of {', '.join(lazy)} are made in the model's first call; call the model once, on "
            "inputs as it expects them, before it is explained"
        )


def _is_lazy(module: nn.Module) -> bool:
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return any(map(is_lazy, own))


def counted(model: Model, on_pass: Callable[[], None]) -> Model:
    """Return ``model`` as a callable that calls ``on_pass`` at each of its passes."""

    def model_pass(*arguments: Any, **named: Any) -> Any:
        on_pass()
        return model(*arguments, **named)

    model_pass._passes_counted_of = model  # type: ignore[attr-defined]
    return model_pass


def uncounted(model: Model) -> Model:
    """Return the model whose passes ``model`` counts, or itself: for passes that nobody waits for."""
    itself: Model = getattr(model, "_passes_counted_of", model)
    return itself


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
        return real_output(score)
    logits = checked_logits(logits_of(output), n_samples)
    if target is None and logits.ndim == 1:
        return logits
    if target is None:
        target = logits.detach().argmax(1)
    within_classes(target, logits)
    if logits.ndim == 1:
        return logits
    return logits.gather(1, target.to(logits.device)[:, None])[:, 0]


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
    leaf = inputs.detach().requires_grad_()
    score, target = differentiable_score(model, leaf, target, extra)
    return score.detach(), gradient_of(score, leaf), target


def differentiable_score(
    model: Model, leaf: Tensor, target: Target = None, extra: tuple[Any, ...] = ()
) -> tuple[Tensor, Target]:
    """Return the target's score ``(N,)``, whose graph leads back to ``leaf``, and the target it was.

    Raises:
        ModelError, TargetError: as for :func:`value_and_gradient`.
    """
    raise_if_cancelled()
    with torch.enable_grad():
        # The model gets a copy: it may begin with an in-place operation, which a leaf does not allow.
        with failures_named(leaf, model, extra), timed("forward"):
            output = model(leaf.clone(), *extra)
        if target is None:
            target = predictions(output, len(leaf))
        score = select(output, target, len(leaf))
    if not score.requires_grad:
        raise ModelError(NO_GRADIENT)
    return score, target


def gradient_of(score: Tensor, leaf: Tensor) -> Tensor:
    """Return the gradient of each row's score by its inputs.

    Raises:
        ModelError: the score does not depend on them.
    """
    with failures_named(leaf), timed("backward"):
        (gradient,) = torch.autograd.grad(score, leaf, grad_outputs=torch.ones_like(score), allow_unused=True)
    if gradient is None:
        raise ModelError(NO_GRADIENT)
    return gradient


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


_BARE = (RuntimeError, ValueError, NotImplementedError, AssertionError)


@contextmanager
def failures_named(inputs: Tensor, model: Model | None = None, extra: tuple[Any, ...] = ()) -> Iterator[None]:
    """Say what was put in where torch reports a wrong input as a bare error deep inside a layer.

    Subclasses (out of memory, the model's own errors) say what they are and pass. Exported programs assert
    the shapes that they were exported for; operations without a backward pass are not implemented.

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
    except _BARE as error:
        if type(error) not in _BARE or is_out_of_memory(error):
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
