"""Time and memory, measured so that a noisy machine disturbs all that is compared alike."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bare_pass(model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """One forward pass and the gradient of the predicted class by the inputs, nothing else."""
    leaf = inputs.detach().requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), leaf)
    return gradient


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, and their range."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"**{self.median:.3g}** ({self.lowest:.3g}–{self.highest:.3g})"


def spread(values: list[float]) -> Spread:
    """Of all ``values``."""
    return Spread(statistics.median(values), min(values), max(values))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of ``work``, to the end of what it started on the device."""
    began = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, ``repeats`` times, one after the other in each round, there and back.

    Each second round goes backwards, so that a machine that slows down favours nobody.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats):
        names = list(works)
        for name in reversed(names) if number % 2 else names:
            times[name].append(seconds(works[name]))
    return times


def ratios(numerator: list[float], denominator: list[float]) -> Spread:
    """Round by round, so that a slow moment of the machine is in both."""
    return spread([one / other for one, other in zip(numerator, denominator, strict=True)])


def peak_memory(prepare: Callable[[], Callable[[], object]]) -> int:
    """Bytes that a work needs above the level at which it starts, in a fresh process.

    ``prepare`` (importable by name) returns the work, with whatever is set up once already done.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_measure_peak, args=(prepare, send))
    child.start()
    child.join()
    if not receive.poll():
        raise RuntimeError(f"measuring the memory of {prepare} failed")
    peak: int = receive.recv()
    return peak


def _measure_peak(prepare: Callable[[], Callable[[], object]], pipe: Connection) -> None:
    work = prepare()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        pipe.send(torch.cuda.max_memory_allocated() - before)
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
    before = _resident_peak()
    work()
    pipe.send(_resident_peak() - before)


def _resident_peak() -> int:
    """Bytes; of this process alone, which ``getrusage`` after an exec is not."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
