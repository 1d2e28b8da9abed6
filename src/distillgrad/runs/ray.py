"""The engine of many machines: Ray actors, each with its own model, that compute what the local one does."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from distillgrad.core.optional import optional
from distillgrad.errors import DistillgradError, ModelError, ParameterError
from distillgrad.runs.shards import Job, Shard, ShardReport, ShardWorker

_log = logging.getLogger(__name__)

IN_HAND = 2
"""Units that a worker has: the one it computes and the one it takes next; the rest wait here."""
ATTEMPTS = 2
"""So many workers may be lost over one unit before it is taken for the cause."""
PATIENCE = 0.5
"""Seconds between looks at whether to stop."""


@dataclass(frozen=True)
class _Failure:
    """An error that crosses processes as words: exceptions need not survive the journey."""

    kind: type[DistillgradError]
    words: str


class _Actor:
    """What runs in a worker's process: made once, then asked unit by unit."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._compute: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Returns once the process is there."""

    def compute(self, unit: Any) -> Any:
        try:
            if self._compute is None:
                self._compute = self._make()
            return self._compute(unit)
        except DistillgradError as error:
            # The ones with arguments of their own cannot be made of words.
            kind = ModelError if "__init__" in vars(type(error)) else type(error)
            return _Failure(kind, str(error))


@dataclass(frozen=True)
class Cluster:
    """Which Ray cluster, and how much of it.

    Attributes:
        address: Of the cluster; ``None``: one is started on this machine, and ended afterwards.
        n_workers: ``None``: as many as the cluster has room for.
        gpus: For each worker, or a part of one; workers are told apart by Ray.
    """

    address: str | None = None
    n_workers: int | None = None
    gpus: float = 0.0

    def map(
        self,
        make: Callable[[], Callable[[Any], Any]],
        units: Sequence[Any],
        *,
        cpus: int = 1,
        stopped: threading.Event | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """Each unit and what a worker made of it, in the order in which they are done.

        A unit whose worker dies, or whose node does, is given to another one: computing it twice must do no
        harm. Nothing of the project travels but ``make`` and the units; nodes have it installed.

        Args:
            make: Called in each worker, for what computes a unit there.
            cpus: For each worker.
            stopped: Once it is set, only what is in hand is waited for.
        Raises:
            ParameterError: no cluster is there, or it has no room for a worker.
            ModelError: a unit lost its workers too often, or failed; what it raised, where it is ours.
        """
        stopped = stopped or threading.Event()
        with _connected(self.address, (self.n_workers or 1) * cpus) as ray, ExitStack() as until_the_end:
            room = self._room(ray, cpus)
            n_workers = min(len(units), self.n_workers or room)
            actor_class = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_restarts=0)(_Actor)
            waiting: deque[int] = deque(range(len(units)))
            lost = [0] * len(units)
            in_hand: dict[Any, tuple[Any, int]] = {}
            actors: list[Any] = []
            starting: dict[Any, Any] = {}
            until_the_end.callback(lambda: [ray.kill(each) for each in (*actors, *starting.values())])
            n_lost = 0
            while in_hand or (waiting and not stopped.is_set()):
                # One that is lost is replaced. While there is no room for it, it holds no units.
                while not stopped.is_set() and len(actors) + len(starting) < n_workers:
                    actor = actor_class.remote(make)
                    starting[actor.ready.remote()] = actor
                if not stopped.is_set():
                    _hand_out(units, waiting, actors, in_hand)
                done, _ = ray.wait([*in_hand, *starting], num_returns=1, timeout=PATIENCE)
                for reference in done:
                    beginning = reference in starting
                    actor, number = (starting.pop(reference), -1) if beginning else in_hand.pop(reference)
                    try:
                        found = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise ModelError(f"unit {number} failed: {error}") from error
                    except ray.exceptions.RayError as error:
                        _log.info("a worker was lost: %s", error)
                        if actor in actors:
                            actors.remove(actor)
                        ray.kill(actor)  # it may live, cut off from us
                        if beginning:
                            n_lost += 1
                        else:
                            lost[number] += 1
                            waiting.appendleft(number)
                        if n_lost > ATTEMPTS * n_workers or lost[number] > ATTEMPTS:
                            what = (
                                "workers cannot be started"
                                if beginning
                                else f"unit {number} lost its workers"
                            )
                            raise ModelError(f"{what} (out of memory?): {error}") from error
                        continue
                    if beginning:
                        actors.append(actor)
                        continue
                    if isinstance(found, _Failure):
                        raise found.kind(found.words)
                    yield units[number], found

    def _room(self, ray: Any, cpus: int) -> int:
        """For how many workers the cluster's living nodes have processors, and GPUs."""
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


def _hand_out(
    units: Sequence[Any], waiting: deque[int], actors: Sequence[Any], in_hand: dict[Any, tuple[Any, int]]
) -> None:
    """Gives each actor what it computes and what it takes next, and no more."""
    for actor in actors:
        held = sum(each is actor for each, _ in in_hand.values())
        for _ in range(min(IN_HAND - held, len(waiting))):
            number = waiting.popleft()
            in_hand[actor.compute.remote(units[number])] = (actor, number)


@dataclass(frozen=True)
class RayEngine:
    """Computes shards on a Ray cluster; each actor writes its own, so that maps never travel."""

    cluster: Cluster

    def __call__(
        self,
        job: Job,
        shards: Sequence[Shard],
        stopped: threading.Event,
        on_images: Callable[[int], None],
    ) -> Iterator[ShardReport]:
        make = partial(_shard_worker, job)
        for shard, report in self.cluster.map(make, shards, cpus=job.threads, stopped=stopped):
            on_images(len(shard.data))
            yield report


def _shard_worker(job: Job) -> Callable[[Shard], ShardReport]:
    return ShardWorker(job).compute


@contextmanager
def _connected(address: str | None, n_cpus: int) -> Iterator[Any]:
    """Ray, connected; what is begun here ends here, and a connection that was there stays."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = optional("ray", "scale")
    if ray.is_initialized():
        yield ray
        return
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    if address is None:
        settings["address"] = "local"  # else Ray would join the cluster of RAY_ADDRESS
        settings["num_cpus"] = max(n_cpus, os.cpu_count() or 1)
    else:
        settings = {"address": address, "log_to_driver": False}
    try:
        ray.init(logging_level=logging.WARNING, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ParameterError(f"cannot reach a Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
