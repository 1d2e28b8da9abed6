"""The engine that is always there: units one after the other in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from distillgrad.runs.engines.engine import Unit, Worker, Workers


@dataclass(frozen=True)
class LocalWorkers:
    """The one worker of this process."""

    worker: Worker[Any, Any]

    def map(
        self, units: Sequence[Unit], stopped: threading.Event | None = None
    ) -> Iterator[tuple[Unit, Any]]:
        return zip(units, self.worker.compute_all(units, stopped or threading.Event()), strict=False)


@dataclass(frozen=True)
class LocalEngine:
    """An engine that computes with what is loaded already; afterwards torch has its threads back."""

    @property
    def default_threads(self) -> int:
        return torch.get_num_threads()

    @contextmanager
    def workers(
        self,
        make: Callable[[], Worker[Any, Any]],
        *,
        here: Callable[[], Worker[Any, Any]] | None = None,
        cpus: int = 1,
    ) -> Iterator[Workers]:
        with (here or make)() as worker:
            yield LocalWorkers(worker)
