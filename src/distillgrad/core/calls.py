"""The call of a model: on its inputs alone, by place; refused where it takes them for something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from distillgrad.core.wrappers import wrapped
from distillgrad.errors import ModelError

IMAGES = ("pixel_values", "images", "image", "inputs", "x")
"""Names of the parameter that takes the inputs, the likeliest first."""
OTHERS = ("input_ids", "attention_mask", "labels", "mask", "bool_masked_pos")
"""Names of parameters that take something else."""


def expect_inputs_first(model: Callable[..., Any]) -> None:
    """Check that a call ``model(inputs)`` gives the inputs to the parameter that is meant for them.

    Raises:
        ModelError: the model takes them by keyword only, or something else first; says how to wrap it.
    """
    parameters = _parameters(model)
    if parameters is None:
        return
    by_place = [each for each in parameters if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    names = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    meant = next((each for each in IMAGES if each in names), names[0] if names else "inputs")
    if not by_place:
        raise ModelError(f"{_named(model)} takes its inputs by keyword only; {wrapping(meant)}")
    first = by_place[0]
    if first.kind is not first.VAR_POSITIONAL and first.name in OTHERS and meant != first.name:
        raise ModelError(f"{_named(model)} takes {first.name!r} first, not its inputs; {wrapping(meant)}")


def expect_call(model: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Check that ``model`` takes so many arguments by place.

    Raises:
        ModelError: it does not; says how to wrap it.
    """
    why = wrong_call(model, arguments)
    if why:
        raise ModelError(why)


def wrong_call(model: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """Return why ``model`` does not take so many arguments by place, and the mend; "" where it does."""
    parameters = _parameters(model)
    if parameters is None:
        return ""
    try:
        inspect.Signature(parameters).bind(*arguments)
    except TypeError as error:
        names = [each.name for each in parameters]
        meant = next((each for each in IMAGES if each in names), names[0] if names else "inputs")
        return f"{_named(model)} cannot be called on the inputs as it is ({error}); {wrapping(meant)}"
    return ""


def wrapping(name: str) -> str:
    """Return how a model is wrapped whose inputs go to the parameter of that name."""
    return f"wrap it: lambda x: model({name}=x); for a method that works on layers, in an nn.Module's forward"


def _parameters(model: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a call, ``None`` where they are not to be known."""
    model = wrapped(model)
    call = model.forward if isinstance(model, nn.Module) else model
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return None


def _named(model: Callable[..., Any]) -> str:
    model = wrapped(model)
    if isinstance(model, nn.Module):
        return f"the forward of {type(model).__name__}"
    return f"the model {getattr(model, '__name__', type(model).__name__)!r}"
