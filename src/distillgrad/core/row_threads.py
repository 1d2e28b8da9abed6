"""Threads that each take rows of their own through all of the work, instead of a part of every operation.

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

_lock = threading.Lock()
_pools: dict[tuple[int, int, int], ThreadPoolExecutor] = {}
"""The pools by process (threads do not survive a fork), number of row threads, torch threads of each."""
_here = threading.local()
"""The row thread's own: ``stop``, the event that ends it."""


class Cancelled(BaseException):
    """The end of a row thread whose result is not waited for any more."""


def in_row_threads(work: Callable[[slice], Tensor], slices: Sequence[slice], n_threads: int) -> list[Tensor]:
    """Return ``work`` of each slice, ``n_threads`` at a time, under ``no_grad``; in the order of the slices.

    The first error ends the others at their next pass, and is raised when they have ended; so does Ctrl-C.
    """
    stop = threading.Event()
    pool = _pool(n_threads)
    futures = [pool.submit(_in_row_thread, work, chosen, stop) for chosen in slices]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()  # changes nothing if all have ended
        wait(futures)
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    try:
        if errors:
            raise min(errors, key=lambda error: isinstance(error, Cancelled))
        return [future.result() for future in futures]
    finally:
        del errors, futures  # an error's traceback holds this frame: it would hold itself, and its tensors


def is_row_thread() -> bool:
    """Return whether the calling thread is one of those that share rows."""
    return hasattr(_here, "stop")


def raise_if_cancelled() -> None:
    """Check that the calling thread is not a row thread whose result is not waited for any more.

    Raises:
        Cancelled: it is.
    """
    if is_row_thread() and _here.stop.is_set():
        raise Cancelled


def _in_row_thread(work: Callable[[slice], Tensor], chosen: slice, stop: threading.Event) -> Tensor:
    _here.stop = stop
    try:
        raise_if_cancelled()
        with torch.no_grad():
            return work(chosen)
    finally:
        del _here.stop


def _pool(n_row_threads: int) -> ThreadPoolExecutor:
    """Return threads that share out those of the calling one; kept, for a new one begins without memory."""
    n_threads = torch.get_num_threads()
    key = os.getpid(), n_row_threads, n_threads // n_row_threads
    with _lock:
        if key not in _pools:
            pool = ThreadPoolExecutor(n_row_threads, "distillgrad-rows", partial(_take_threads, key[2]))
            started = threading.Barrier(n_row_threads)
            try:
                wait([pool.submit(started.wait) for _ in range(n_row_threads)])
            except RuntimeError:  # no more threads may start, and those that have would wait for ever
                started.abort()
                raise
            # The number is a thread's own, but also the one that threads yet to start begin with.
            torch.set_num_threads(n_threads)
            _pools[key] = pool
        return _pools[key]


def _take_threads(n_threads: int) -> None:
    """Give the calling thread so many for its operations."""
    # A thread's first operation takes the number of the process, unless the thread knows its own by then.
    torch.get_num_threads()
    torch.set_num_threads(n_threads)
