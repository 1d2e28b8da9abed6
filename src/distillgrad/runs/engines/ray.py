"""The engine of many machines: Ray actors, each with its own worker, that compute what the local one does."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distillgrad.core.optional import optional
from distillgrad.errors import DistillgradError, ModelError, ParameterError
from distillgrad.runs.engines.engine import Unit, Worker, Workers

_log = logging.getLogger(__name__)

IN_HAND = 2
"""Units that a worker has: the one it computes and the one it takes next; the rest wait here."""
ATTEMPTS = 2
"""The number of workers that may be lost over one unit before it is taken for the cause."""
PATIENCE = 0.5
"""Seconds between looks at whether to stop."""
AUTHENTICATION = "ray._private.authentication.authentication_token_setup"
"""The logger that says whether a new cluster wants a token."""


@dataclass(frozen=True)
class _Failure:
    """An error that crosses processes as words: exceptions need not survive the journey."""

    kind: type[DistillgradError]
    words: str

    @classmethod
    def of(cls, error: DistillgradError) -> _Failure:
        # The ones with arguments of their own cannot be made of words.
        return cls(ModelError if "__init__" in vars(type(error)) else type(error), str(error))


class _LostError(Exception):
    """An actor died, or the machine that it was on."""


class _Actor:
    """An actor in a worker's process: made once, then given unit by unit."""

    def __init__(self, make: Callable[[], Worker[Any, Any]]) -> None:
        self._make = make
        self._worker: Worker[Any, Any] | None = None

    def ready(self) -> Any:
        """Return once the process is there, and the worker is made."""
        try:
            self._worker = self._make()
        except DistillgradError as error:
            return _Failure.of(error)
        return None

    def compute(self, unit: Any) -> Any:
        try:
            return self._worker.compute(unit) if self._worker else None
        except DistillgradError as error:
            return _Failure.of(error)


class RayWorkers:
    """The actors that take units; one that is lost is replaced, and what it had in hand is computed again."""

    def __init__(self, ray: Any, start: Callable[[], Any], most: int) -> None:
        self._ray, self._start, self._most = ray, start, most
        self._actors: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._n_lost = 0

    def close(self) -> None:
        """End all of them."""
        for each in (*self._actors, *self._starting.values()):
            self._ray.kill(each)

    def map(
        self, units: Sequence[Unit], stopped: threading.Event | None = None
    ) -> Iterator[tuple[Unit, Any]]:
        stopped = stopped or threading.Event()
        waiting: deque[int] = deque(range(len(units)))
        lost = [0] * len(units)
        in_hand: dict[Any, tuple[Any, int]] = {}
        while True:
            stopping = stopped.is_set()
            if not in_hand and (stopping or not waiting):
                return
            if not stopping:
                self._start_up_to(min(len(units), self._most))
                self._hand_out(units, waiting, in_hand)
            done, _ = self._ray.wait([*in_hand, *self._starting], num_returns=1, timeout=PATIENCE)
            for reference in done:
                if reference in self._starting:
                    self._welcome(reference)
                    continue
                actor, number = in_hand.pop(reference)
                try:
                    answer = self._answer(reference, f"unit {number}")
                except _LostError as error:
                    self._forget(actor)
                    waiting.appendleft(number)
                    lost[number] += 1
                    if lost[number] > ATTEMPTS:
                        raise ModelError(
                            f"unit {number} lost its workers (out of memory?): {error}"
                        ) from error
                    continue
                yield units[number], answer

    def _start_up_to(self, wanted: int) -> None:
        """Start what is missing; while the cluster has no room for one, it holds no units."""
        while len(self._actors) + len(self._starting) < wanted:
            actor = self._start()
            self._starting[actor.ready.remote()] = actor

    def _welcome(self, reference: Any) -> None:
        """Take a worker among those that get units."""
        actor = self._starting.pop(reference)
        try:
            self._answer(reference, "a worker")
        except _LostError as error:
            self._forget(actor)
            self._n_lost += 1
            if self._n_lost > ATTEMPTS * self._most:
                raise ModelError(f"workers cannot be started (out of memory?): {error}") from error
        else:
            self._actors.append(actor)

    def _answer(self, reference: Any, work: str) -> Any:
        """Return what an actor returned; errors name its ``work``.

        Raises:
            DistillgradError: it failed.
            _LostError: it is not there any more.
        """
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise ModelError(f"{work} failed: {error}") from error
        except self._ray.exceptions.RayError as error:
            _log.info("a worker was lost: %s", error)
            raise _LostError(str(error)) from error
        if isinstance(answer, _Failure):
            raise answer.kind(answer.words)
        return answer

    def _forget(self, actor: Any) -> None:
        if actor in self._actors:
            self._actors.remove(actor)
        self._ray.kill(actor)  # it may live, cut off from us

    def _hand_out(
        self, units: Sequence[Any], waiting: deque[int], in_hand: dict[Any, tuple[Any, int]]
    ) -> None:
        """Give each actor what it computes and then what it takes next, and no more."""
        for most in range(1, IN_HAND + 1):
            for actor in self._actors:
                held = sum(each is actor for each, _ in in_hand.values())
                if held < most and waiting:
                    number = waiting.popleft()
                    in_hand[actor.compute.remote(units[number])] = (actor, number)


@dataclass(frozen=True)
class RayEngine:
    """An engine that computes on a Ray cluster; only requests travel, and nodes have the project installed.

    Attributes:
        address: The cluster's; ``None``: one is started on this machine, and ended afterwards.
        n_workers: ``None``: as many as the cluster has room for.
        gpus: The GPUs of each worker, or a part of one; workers are told apart by Ray.
    """

    address: str | None = None
    n_workers: int | None = None
    gpus: float = 0.0

    @property
    def default_threads(self) -> int:
        return 1

    @contextmanager
    def workers(
        self,
        make: Callable[[], Worker[Any, Any]],
        *,
        here: Callable[[], Worker[Any, Any]] | None = None,
        cpus: int = 1,
    ) -> Iterator[Workers]:
        """Yield workers, as :meth:`~distillgrad.runs.engines.engine.Engine.workers`.

        Raises:
            ParameterError: no cluster is there, or it has no room for a worker.
        """
        with _connected(self.address, (self.n_workers or 1) * cpus) as ray:
            room = self._room(ray, cpus)
            actor = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_restarts=0)(_Actor)
            workers = RayWorkers(ray, lambda: actor.remote(make), self.n_workers or room)
            try:
                yield workers
            finally:
                workers.close()

    def _room(self, ray: Any, cpus: int) -> int:
        """Return how many workers the cluster's living nodes have processors for, and GPUs."""
        room = 0
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                fit = int(has.get("CPU", 0) // cpus)
                room += min(fit, int(has.get("GPU", 0) // self.gpus)) if self.gpus else fit
        if not room:
            gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
            raise ParameterError(f"the Ray cluster has no node with {cpus} CPUs{gpus} for a worker")
        return room


@contextmanager
def _connected(address: str | None, n_cpus: int) -> Iterator[Any]:
    """Yield Ray, connected; what is begun here ends here, and a connection that was there stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = optional("ray", "scale")
    if ray.is_initialized():
        yield ray
        return
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    if address is None:
        settings["address"] = "local"  # else Ray would join the cluster of RAY_ADDRESS
        settings["num_cpus"] = max(n_cpus, os.cpu_count() or 1)
        # It wants a token, which Ray makes by itself; the user neither asked for a cluster nor has to know.
        logging.getLogger(AUTHENTICATION).setLevel(logging.ERROR)
    else:
        settings = {"address": address, "log_to_driver": False}
    try:
        ray.init(logging_level=logging.WARNING, **settings)
    except Exception as error:  # Ray raises bare ones, too, such as when this machine is overloaded
        raise ParameterError(f"cannot reach a Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
