"""The contract of engines: each has workers, which compute the units of a run, and all compute alike."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

import torch

Unit = TypeVar("Unit")
Result = TypeVar("Result")
AWorker = TypeVar("AWorker", bound="Worker[Any, Any]")


class Worker(ABC, Generic[Unit, Result]):
    """A worker, made where units are computed; torch has its number of threads until it is closed.

    Args:
        threads: Those that a unit is computed with, which decides the last bits; ``None``: as torch has them.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)

    @abstractmethod
    def compute(self, unit: Unit) -> Result:
        """Return the result of a unit, its files written, if any. Computing it twice does no harm."""

    def compute_all(self, units: Sequence[Unit], stopped: threading.Event) -> Iterator[Result]:
        """Yield the results of all units in their order; once told to stop, no other one is begun."""
        for unit in units:
            if stopped.is_set():
                return
            yield self.compute(unit)

    def close(self) -> None:
        """Give torch its threads back, and whatever else was taken."""
        torch.set_num_threads(self._threads_before)

    def __enter__(self: AWorker) -> AWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Workers(Protocol):
    """The workers of an engine, which stay between two calls."""

    def map(
        self, units: Sequence[Unit], stopped: threading.Event | None = None
    ) -> Iterator[tuple[Unit, Any]]:
        """Yield each unit and its result, in the order in which they are done.

        Args:
            stopped: Once it is set, only what is in hand is waited for.
        Raises:
            DistillgradError: what a worker raised; a unit whose workers died, a cluster that is not there.
        """


class Engine(Protocol):
    """A place where runs are computed."""

    @property
    def default_threads(self) -> int:
        """The threads of a worker, if the caller does not say how many."""

    def workers(
        self,
        make: Callable[[], Worker[Any, Any]],
        *,
        here: Callable[[], Worker[Any, Any]] | None = None,
        cpus: int = 1,
    ) -> AbstractContextManager[Workers]:
        """Return a context that yields the workers, until it ends.

        Args:
            make: Makes a worker wherever it is called, in another process or on another machine.
            here: Makes the same one of what is in this process already, for engines that stay in it.
            cpus: The CPUs of each worker, where there are several.
        """
