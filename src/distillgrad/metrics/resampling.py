"""Draws that intervals and tests are made of: samples with replacement, and signs that are flipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from distillgrad.metrics.samples import Values

CHUNK = 2**20
"""Numbers that are drawn at a time: 8 MB, whatever the number of samples."""
KEPT = 2**21
"""Numbers that are kept for the next call, which mostly wants the same ones: 16 MB."""


def counts(n: int, n_draws: int, seed: int) -> Iterator[Values]:
    """Yield a row for each draw of n samples with replacement: how often each is in it."""
    return _kept_or_drawn(_kept_counts, _counts, n, n_draws, seed)


def random_subsets(n: int, n_draws: int, seed: int) -> Iterator[Values]:
    """Yield rows of zeros and ones that pick half of n samples on average, ``n_draws`` in all."""
    return _kept_or_drawn(_kept_subsets, _random_subsets, n, n_draws, seed)


def every_subset(n: int) -> Iterator[Values]:
    """Yield all subsets of n samples as rows of zeros and ones."""
    for start in range(0, 2**n, CHUNK // 64):
        numbers = np.arange(start, min(start + CHUNK // 64, 2**n))[:, None]
        yield ((numbers >> np.arange(n)) & 1).astype(np.float64)


def _counts(n: int, n_draws: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    for rows in _chunks(n_draws, n):
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _random_subsets(n: int, n_draws: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    for rows in _chunks(n_draws, n):
        # Whole words of 32 bits for each row: so cutting into chunks throws none away.
        drawn = np.frombuffer(generator.bytes(rows * 4 * math.ceil(n / 32)), np.uint8).reshape(rows, -1)
        yield np.unpackbits(drawn, axis=1, count=n).astype(np.float64)


def _chunks(total: int, width: int) -> Iterator[int]:
    """Yield how many rows of ``width`` numbers to draw at a time, ``total`` in all."""
    step = max(1, CHUNK // width)
    for start in range(0, total, step):
        yield min(step, total - start)


def _kept_or_drawn(
    kept: Callable[[int, int, int], Values],
    drawn: Callable[[int, int, int], Iterator[Values]],
    n: int,
    n_draws: int,
    seed: int,
) -> Iterator[Values]:
    if n * n_draws > KEPT:
        return drawn(n, n_draws, seed)
    return iter((kept(n, n_draws, seed),))


@lru_cache(maxsize=2)
def _kept_counts(n: int, n_draws: int, seed: int) -> Values:
    return np.concatenate([*_counts(n, n_draws, seed)])


@lru_cache(maxsize=2)
def _kept_subsets(n: int, n_draws: int, seed: int) -> Values:
    return np.concatenate([*_random_subsets(n, n_draws, seed)])
