"""The time that passes, selection and masking take, told apart while a caller profiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch

REST = "rest"


@dataclass
class Profile:
    """The seconds and calls of each stage; a stage within another counts only for itself.

    Attributes:
        seconds: Of each stage, and of the ``"rest"``: they add up to the whole time.
        calls: How often each stage began.
    """

    seconds: dict[str, float] = field(default_factory=lambda: {REST: 0.0})
    calls: dict[str, int] = field(default_factory=lambda: {REST: 1})
    _inside: list[str] = field(default_factory=lambda: [REST])
    _since: float = 0.0

    def _switch(self) -> None:
        """Give the time since the last switch to the stage that was running."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # or a stage would pay for what an earlier one has started
        now = time.perf_counter()
        self.seconds[self._inside[-1]] = self.seconds.get(self._inside[-1], 0.0) + now - self._since
        self._since = now


@dataclass
class Stopwatch:
    """The time that a block took, once it has ended."""

    seconds: float = 0.0


@contextmanager
def stopwatch(device: torch.device | None = None) -> Iterator[Stopwatch]:
    """Time what happens inside; on a GPU ``device`` its end is waited for."""
    watch = Stopwatch()
    began = time.perf_counter()
    yield watch
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    watch.seconds = time.perf_counter() - began


def elapsed(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Return the seconds that ``work`` takes; on a GPU ``device`` its end is waited for."""
    with stopwatch(device) as watch:
        work()
    return watch.seconds


_running: ContextVar[Profile | None] = ContextVar("_running", default=None)


@contextmanager
def profiled() -> Iterator[Profile]:
    """Time what happens inside, in this thread; on a GPU each stage is waited for, which slows it down."""
    profile = Profile()
    profile._since = time.perf_counter()
    before = _running.set(profile)
    try:
        yield profile
    finally:
        profile._switch()
        _running.reset(before)


def is_profiling() -> bool:
    """Return whether a caller profiles this thread."""
    return _running.get() is not None


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Count its time as that of ``name``, if a caller profiles; costs a microsecond otherwise."""
    profile = _running.get()
    if profile is None:
        yield
        return
    profile._switch()
    profile._inside.append(name)
    profile.calls[name] = profile.calls.get(name, 0) + 1
    try:
        yield
    finally:
        profile._switch()
        profile._inside.pop()
