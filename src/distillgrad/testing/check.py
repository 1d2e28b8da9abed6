"""A named check, and what checks of methods and of metrics share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Check:
    """One promise of a contract, to be called.

    Attributes:
        name: What is promised, in words.
        subject: What is checked.
        run: Raises an AssertionError where the promise is broken.
    """

    name: str
    subject: Any
    run: Callable[[Any], None]

    def __call__(self) -> None:
        try:
            self.run(self.subject)
        except AssertionError as error:
            raise AssertionError(f"{self.subject}: {self.name}: {error}") from error

    def __str__(self) -> str:
        return self.name


def require(condition: bool, words: str) -> None:
    """Check that a condition holds.

    Raises:
        AssertionError: it does not; says the words.
    """
    if not condition:
        raise AssertionError(words)


@contextmanager
def refused(errors: type[Exception] | tuple[type[Exception], ...], what: str) -> Iterator[None]:
    """Check that what is done inside is refused by one of these errors.

    Raises:
        AssertionError: it is not, or by another error.
    """
    kinds = errors if isinstance(errors, tuple) else (errors,)
    names = " or ".join(each.__name__ for each in kinds)
    try:
        yield
    except kinds:
        return
    except Exception as error:
        raise AssertionError(
            f"{what} must be refused by a {names}, not by {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{what} must be refused by a {names}; it is accepted")


def close(one: Tensor, other: Tensor, words: str, tolerance: float = 1e-8) -> None:
    """Check that two tensors are equal up to rounding, NaN where the other is, too.

    Raises:
        AssertionError: they are not; says the words and the largest difference.
    """
    require(one.shape == other.shape, f"{words}: shapes {tuple(one.shape)} and {tuple(other.shape)}")
    scale = float(other.nan_to_num().abs().max()) if other.numel() else 0.0
    same = torch.isclose(
        one.double(), other.double(), rtol=0, atol=tolerance * max(scale, 1.0), equal_nan=True
    )
    largest = float((one.double() - other.double()).nan_to_num().abs().max()) if one.numel() else 0.0
    require(bool(same.all()), f"{words}: they differ by up to {largest:.3g}")


def small_network(channels: int = 2, size: int = 6, n_classes: int = 4) -> nn.Module:
    """Return a float64 network of convolutions, batch norm and ReLUs for ``(N, channels, size, size)``."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(channels, 5, 3, padding=1),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * (size // 2 - 2) ** 2, n_classes),
        ).double()
        model(torch.randn(16, channels, size, size).double())  # statistics that are not the initial ones
    return model.eval()


def state_of(model: nn.Module) -> list[Any]:
    """Return what a method or metric must leave as it was: values, gradients, modes and hooks."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [(each.detach().clone(), each.requires_grad, each.grad) for each in tensors],
        [each.training for each in model.modules()],
        [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules()],
        [len(each._backward_hooks) + len(each._backward_pre_hooks) for each in model.modules()],
    ]


def require_untouched(before: list[Any], model: nn.Module) -> None:
    """Check that a model is as it was when its state was taken.

    Raises:
        AssertionError: it is not; says what changed.
    """
    require_same_state(before, state_of(model))


def require_same_state(before: list[Any], after: list[Any]) -> None:
    """Check that two states of a model are the same.

    Raises:
        AssertionError: they are not; says what changed.
    """
    for (value, needs, grad), (now, now_needs, now_grad) in zip(before[0], after[0], strict=True):
        require(torch.equal(value, now), "a parameter or buffer of the model has changed")
        require(needs == now_needs, "requires_grad of the model's parameters has changed")
        require(grad is now_grad, "gradients were left on the model's parameters")
    require(before[1] == after[1], "the training mode of the model has changed")
    require(before[2:] == after[2:], "hooks were left on the model")
