"""Rows side by side: each core takes its own through all of the work, instead of a part of every operation.

Cores that share an operation wait for the slowest at its end, some hundred times a pass, and do nothing while
one of them selects or calls Python. Apart they never meet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial

import torch
from torch import Tensor

LEAST_FEATURES = 2**15
"""Of fewer input features at a time a pass is so short that Python, one thread at a time, dominates."""
UNEVEN = 1.1
"""The busiest core may have so many times its share; the others wait for it."""

_lock = threading.Lock()
_pools: dict[tuple[int, int, int], ThreadPoolExecutor] = {}
"""By process (threads do not survive a fork), number of streams, threads of each."""
_here = threading.local()
"""In a stream: ``stop``, the event that ends it."""


class Abandoned(BaseException):
    """Raised in a stream whose result nobody waits for any more."""


def streams_for(n_rows: int, size: int, n_features: int) -> int:
    """How many streams share ``n_rows`` rows of ``n_features``, ``size`` of them in memory; 1: none pays."""
    if hasattr(_here, "stop"):
        return 1
    n_threads = torch.get_num_threads()
    for streams in range(min(n_threads, size, n_rows), 1, -1):
        rows = rows_each(n_rows, size, streams)
        turns = -(-n_rows // (rows * streams))
        even = turns * rows * streams <= UNEVEN * n_rows
        if n_threads % streams == 0 and even and rows * n_features >= LEAST_FEATURES:
            return streams
    return 1


def rows_each(n_rows: int, size: int, streams: int) -> int:
    """How many rows each of the streams takes at a time, so that together they are at most ``size``."""
    return -(-n_rows // streams) if n_rows <= size else size // streams


def side_by_side(work: Callable[[slice], Tensor], slices: Sequence[slice], streams: int) -> list[Tensor]:
    """``work`` of each slice, ``streams`` at a time, under ``no_grad``; in the order of the slices.

    The first error ends the others at their next pass, and is raised when they have ended; so does Ctrl-C.
    """
    stop = threading.Event()
    pool = _pool(streams)
    futures = [pool.submit(_in_stream, work, chosen, stop) for chosen in slices]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()  # changes nothing if all have ended
        wait(futures)
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    try:
        if errors:
            raise min(errors, key=lambda error: isinstance(error, Abandoned))
        return [future.result() for future in futures]
    finally:
        del errors, futures  # an error's traceback holds this frame: it would hold itself, and its tensors


def abandon_if_unwanted() -> None:
    """Nothing, unless this is a stream whose result nobody waits for any more.

    Raises:
        Abandoned: it is.
    """
    stop = getattr(_here, "stop", None)
    if stop is not None and stop.is_set():
        raise Abandoned


def _in_stream(work: Callable[[slice], Tensor], chosen: slice, stop: threading.Event) -> Tensor:
    _here.stop = stop
    try:
        abandon_if_unwanted()
        with torch.no_grad():
            return work(chosen)
    finally:
        del _here.stop


def _pool(streams: int) -> ThreadPoolExecutor:
    """Threads that share out those of the calling one; kept, for a new thread begins without memory."""
    n_threads = torch.get_num_threads()
    key = os.getpid(), streams, n_threads // streams
    with _lock:
        if key not in _pools:
            pool = ThreadPoolExecutor(streams, "distillgrad-stream", partial(_take_threads, key[2]))
            started = threading.Barrier(streams)
            try:
                wait([pool.submit(started.wait) for _ in range(streams)])
            except RuntimeError:  # no more threads may start, and those that have would wait for ever
                started.abort()
                raise
            # The number is a thread's own, but also the one that threads yet to start begin with.
            torch.set_num_threads(n_threads)
            _pools[key] = pool
        return _pools[key]


def _take_threads(n_threads: int) -> None:
    """Gives the calling thread so many for its operations."""
    torch.get_num_threads()  # a thread's first operation takes the number of the process, unless it has asked
    torch.set_num_threads(n_threads)
