"""What computes the units of a run, and where: every engine has workers, which all compute alike."""

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
    """Made where units are computed, of what they have in common; torch has its threads until it is closed.

    Args:
        threads: That a unit is computed with, which decides the last bits; ``None``: as torch has them.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)

    @abstractmethod
    def compute(self, unit: Unit) -> Result:
        """What becomes of a unit; its files, if any, are written then. Computing it twice does no harm."""

    def compute_all(self, units: Sequence[Unit], stopped: threading.Event) -> Iterator[Result]:
        """The results of all of them in their order; once told to stop, no other one is begun."""
        for unit in units:
            if stopped.is_set():
                return
            yield self.compute(unit)

    def close(self) -> None:
        """Gives torch its threads back, and whatever else was taken."""
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
        """Each unit and its result, in the order in which they are done.

        Args:
            stopped: Once it is set, only what is in hand is waited for.
        Raises:
            DistillgradError: what a worker raised; a unit whose workers died, a cluster that is not there.
        """


class Engine(Protocol):
    """Where a run is computed."""

    @property
    def default_threads(self) -> int:
        """That a worker computes with, if nobody says how many."""

    def workers(
        self,
        make: Callable[[], Worker[Any, Any]],
        *,
        here: Callable[[], Worker[Any, Any]] | None = None,
        cpus: int = 1,
    ) -> AbstractContextManager[Workers]:
        """Workers, until the context ends.

        Args:
            make: Makes one wherever it is called, in another process or on another machine.
            here: Makes the same one of what is in this process already, for engines that stay in it.
            cpus: For each worker, where there are several.
        """
