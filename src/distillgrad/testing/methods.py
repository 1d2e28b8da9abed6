"""The contract of a method: what it returns, what it leaves as it was, what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.forward import Model
from distillgrad.core.logits import logits_of
from distillgrad.errors import InputError, ModelError, ParameterError, TargetError
from distillgrad.methods.base import Method
from distillgrad.testing.check import (
    Check,
    close,
    refused,
    require,
    require_untouched,
    small_network,
    state_of,
)


@dataclass(frozen=True)
class MethodSubject:
    """A method with its parameters, and the model and inputs that it is checked on.

    Attributes:
        cls: The class.
        parameters: Its parameters.
        model: Is copied, never changed.
        inputs: At least three rows.
    """

    cls: type[Method]
    parameters: dict[str, Any] = field(default_factory=dict)
    model: nn.Module = field(default_factory=small_network)
    inputs: Tensor = field(default_factory=lambda: _images(3))

    def __str__(self) -> str:
        return self.cls.__name__

    def network(self) -> nn.Module:
        """Return a fresh copy of the model."""
        return copy.deepcopy(self.model)

    def explain(self, inputs: Tensor, target: Any = 1, model: Model | None = None, **options: Any) -> Tensor:
        """Return the attributions of inputs."""
        made = self.cls(model if model is not None else self.network(), **self.parameters)
        attributions: Tensor = made.attribute(inputs, target, **options)
        return attributions

    def calls_the_model(self) -> bool:
        """Return whether attributions depend on the model at all."""
        n_calls = []
        network = self.network()
        network.register_forward_hook(lambda *_: n_calls.append(1))
        self.explain(self.inputs, model=network)
        return bool(n_calls)


def states_its_facts(subject: MethodSubject) -> None:
    """Check that the class says what it is, and that its cost can be counted."""
    cls = subject.cls
    require(isinstance(cls, type) and issubclass(cls, Method), "it is no subclass of distillgrad.Method")
    require(isinstance(getattr(cls, "signed", None), bool), "'signed' must be True or False")
    require(cls.result in ("features", "pixels"), f"'result' is 'features' or 'pixels', not {cls.result!r}")
    for fact in ("source", "cost"):
        require(bool(getattr(cls, fact, "")), f"{fact!r} must be stated in words")
    n_passes = cls(subject.network(), **subject.parameters).n_passes
    require(isinstance(n_passes, int) and n_passes >= 0, f"n_passes must be a whole number, not {n_passes!r}")


def returns_what_it_declares(subject: MethodSubject) -> None:
    """Check shape, dtype and device, and that the numbers are finite and free of gradients."""
    pixels = subject.cls.result == "pixels"
    for dtype in (torch.float64, torch.float32):
        inputs = subject.inputs.to(dtype)
        try:
            attributions = subject.explain(inputs, model=subject.network().to(dtype))
        except ModelError as error:  # a shape that the method does not declare
            raise AssertionError(str(error)) from error
        shape = (len(inputs), 1, *inputs.shape[2:]) if pixels else tuple(inputs.shape)
        require(tuple(attributions.shape) == shape, f"shape {tuple(attributions.shape)}, not {shape}")
        require(attributions.dtype == dtype, f"{attributions.dtype} for inputs of {dtype}")
        require(attributions.device == inputs.device, "the attributions are on another device")
        require(not attributions.requires_grad, "the attributions carry a gradient")
        require(bool(attributions.isfinite().all()), "the attributions are not finite")


def leaves_everything_as_it_was(subject: MethodSubject) -> None:
    """Check that model and inputs are untouched, in whichever mode the model was."""
    for training in (False, True):
        network, inputs = subject.network().train(training), subject.inputs.clone().requires_grad_()
        before = state_of(network)
        subject.explain(inputs, model=network)
        require_untouched(before, network)
        require(torch.equal(inputs, subject.inputs), "the inputs have changed")
        require(inputs.grad is None, "a gradient was left on the inputs")


def cleans_up_after_an_error(subject: MethodSubject) -> None:
    """Check that the model is untouched after it has failed on its first or second call."""
    for n_good_calls in (0, 1):
        network, calls = subject.network().train(), [0]

        def fail(*_: Any, calls: list[int] = calls, n_good_calls: int = n_good_calls) -> None:
            calls[0] += 1
            if calls[0] > n_good_calls:
                raise ZeroDivisionError("the model's own error")

        network.register_forward_pre_hook(fail)
        before = state_of(network)
        try:
            subject.explain(subject.inputs, model=network)
        except (ZeroDivisionError, ModelError):
            require_untouched(before, network)


def gives_the_same_twice(subject: MethodSubject) -> None:
    """Check that random draws depend on the method's own seed, not on the global random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = subject.explain(subject.inputs)
        torch.manual_seed(2)
        require(torch.equal(first, subject.explain(subject.inputs)), "the second call gives something else")


def explains_each_row_alone(subject: MethodSubject) -> None:
    """Check that neither the batch nor chunks of it change a row's attributions."""
    whole = subject.explain(subject.inputs)
    alone = torch.cat([subject.explain(row[None]) for row in subject.inputs])
    close(alone, whole, "rows alone and in one batch")
    close(subject.explain(subject.inputs, internal_batch_size=2), whole, "rows in chunks and in one batch")


def takes_every_form_of_target(subject: MethodSubject) -> None:
    """Check that a class may be a number, one per row, or left out for the prediction."""
    n = len(subject.inputs)
    one = subject.explain(subject.inputs, 1)
    for target in ([1] * n, torch.full((n,), 1, device="cpu"), torch.tensor(1, device="cpu")):
        require(torch.equal(subject.explain(subject.inputs, target), one), f"target {target} differs from 1")
    with torch.no_grad():
        predicted = logits_of(subject.network()(subject.inputs)).argmax(1)
    expected = subject.explain(subject.inputs, predicted)
    require(torch.equal(subject.explain(subject.inputs, None), expected), "None is not the predicted class")
    try:
        scored = subject.explain(subject.inputs, lambda logits: logits[:, 1])
    except TargetError:
        return  # a method may need classes, if it says so
    require(bool(scored.isfinite().all()), "attributions of a callable target are not finite")


def works_without_gradients(subject: MethodSubject) -> None:
    """Check that frozen weights, ``no_grad`` and inference mode change nothing."""
    expected, network = subject.explain(subject.inputs), subject.network().requires_grad_(False)
    with torch.no_grad():
        close(subject.explain(subject.inputs, model=network), expected, "under no_grad")
    with torch.inference_mode():
        close(subject.explain(subject.inputs.clone(), model=network), expected, "in inference mode")


def refuses_what_cannot_be_explained(subject: MethodSubject) -> None:
    """Check that wrong inputs, targets and requests raise the errors that callers catch."""
    inputs = subject.inputs
    broken = inputs.clone()
    broken[1].view(-1)[0] = torch.nan
    for wrong, what in ((broken, "NaN"), ((inputs * 10).to(torch.uint8), "uint8"), (inputs[:0], "no rows")):
        with refused(InputError, f"an input with {what}"):
            subject.explain(wrong)
    with refused(InputError, "a baseline of another shape"):
        subject.explain(inputs, baselines=torch.zeros(inputs.shape[-1] + 1, device="cpu"))
    with refused(ParameterError, "internal_batch_size=0"):
        subject.explain(inputs, internal_batch_size=0)
    if subject.calls_the_model():
        for target, what in ((10_000, "a class that the model does not have"), ([0, 1], "two targets")):
            with refused(TargetError, what):
                subject.explain(inputs, target)


METHOD_CHECKS: tuple[Callable[[MethodSubject], None], ...] = (
    states_its_facts,
    returns_what_it_declares,
    leaves_everything_as_it_was,
    cleans_up_after_an_error,
    gives_the_same_twice,
    explains_each_row_alone,
    takes_every_form_of_target,
    works_without_gradients,
    refuses_what_cannot_be_explained,
)


def method_checks(
    cls: type[Method],
    /,
    *,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
    **parameters: Any,
) -> Iterator[Check]:
    """Yield the checks of a method, to be called one by one.

    Args:
        cls: The class.
        model: A network in float64 and eval mode; by default small convolutions for ``(N, 2, 6, 6)``.
        inputs: At least three rows for it, float64.
        parameters: The method's own, such that it takes a moment.
    """
    network = small_network() if model is None else model
    subject = MethodSubject(cls, parameters, network, _images(3) if inputs is None else inputs)
    for check in METHOD_CHECKS:
        yield Check(check.__name__, subject, check)


def check_method(
    cls: type[Method],
    /,
    *,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
    **parameters: Any,
) -> None:
    """Check that a method keeps the contract; takes what :func:`method_checks` takes.

    Raises:
        AssertionError: it does not; names the check and what is wrong.
    """
    for check in method_checks(cls, model=model, inputs=inputs, **parameters):
        check()


def _images(n: int) -> Tensor:
    return torch.randn(
        n, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, device="cpu"
    )
