"""Ranks by order statistic: which features are among the m lowest of their sample, ties and all."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillgrad.core.profiling import timed
from distillgrad.errors import InputError

SAMPLE = 12_000
DEVIATIONS = 3
"""The bracket of a sample quantile's rank, in standard deviations: a wider one has more to look through."""


def count_below(quantile: float, n_features: int) -> int:
    """Return how many ranks ``r`` have ``r/d ≤ q``: ``⌊q·d⌋`` of the number that was meant, not its float.

    >>> count_below(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    certain = math.floor(Fraction(quantile) * n_features)
    # A share that rounds to the float q is q: 29/100 for 0.29, 36/108 for 1/3, whose float lies below it.
    return certain + ((certain + 1) / n_features <= quantile)


def order_statistic(values: Tensor, count: int) -> Tensor:
    """Return the ``(count+1)``-th smallest value of each row ``(N, d)``, as ``(N, 1)``; infinity from d on.

    Exact: a value that occurs in the row, no interpolation. Cost: one selection, no sort.
    """
    if count >= values.shape[1]:
        return values.new_full((len(values), 1), math.inf)
    with timed("selection"):
        if values.device.type == "cpu":
            selected = np.array([_selected(row, count) for row in values.numpy()], values.numpy().dtype)
            return torch.from_numpy(selected)[:, None]
        return values.kthvalue(count + 1, dim=1, keepdim=True).values


def _selected(row: NDArray[Any], rank: int) -> float:
    """Return the value with ``rank`` values below it in sorted order, NaN last.

    A sorted sample brackets the value, two comparisons over the row confirm the bracket, and what lies
    within goes on. As fast as ``numpy.partition`` where all values differ; where half of them are equal, as
    in a distilled anchor, that can take forty times as long, and this takes less.
    Source: the idea of Floyd and Rivest 1975, "Expected time bounds for selection".
    """
    while row.size > 4 * SAMPLE:
        # An odd step: layers of stride 2 leave a chequered pattern, of which an even one sees one colour.
        sample = np.sort(row[:: row.size // SAMPLE | 1])
        share = rank / row.size
        centre = round(share * sample.size)
        margin = math.ceil(DEVIATIONS * math.sqrt(sample.size * share * (1 - share))) + 1
        low = sample[max(centre - margin, 0)]
        high = sample[min(centre + margin, sample.size - 1)]
        upto_low, under_high = row <= low, row < high
        n_upto_low, n_under_high = _count(upto_low), _count(under_high)
        if n_upto_low <= rank < n_under_high:
            row, rank = np.compress(under_high ^ upto_low, row), rank - n_upto_low
        elif rank < n_upto_low:
            under_low = row < low
            if _count(under_low) <= rank:
                return float(low)  # a tie
            row = np.compress(under_low, row)
        else:
            upto_high = row <= high
            n_upto_high = _count(upto_high)
            if rank < n_upto_high:
                return float(high)  # a tie
            row, rank = np.compress(row > high, row), rank - n_upto_high
    if rank >= row.size:
        return math.nan  # among the NaN, which no comparison finds
    return float(np.partition(row, rank)[rank])


def _count(marked: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(marked))


def among_lowest(values: Tensor, count: int) -> Tensor:
    """Return 1 where ``rank(j) ≤ count``, else 0, with ``rank(j) = #{k : v_k ≤ v_j}``, for values ``(N, d)``.

    Equal values share the highest of their ranks, so ties are all in or all out. Since
    ``rank(j) ≤ m ⟺ v_j < v_(m+1)``, one order statistic decides.

    >>> among_lowest(torch.tensor([[3.0, 1.0, 2.0, 1.0]]), 2)
    tensor([[0., 1., 0., 1.]])

    Returns: ``(N, d)`` in the dtype of ``values``, ready for arithmetic; all ones for ``count >= d``.
    Source: the sets S of Jeon et al. 2022, eq. 6 and 9.
    """
    # Comparing into a tensor of floats is seven times faster than making Booleans and converting them.
    return torch.lt(values, order_statistic(values, count), out=torch.empty_like(values))


def above_lowest(values: Tensor, count: int) -> Tensor:
    """Return the complement of :func:`among_lowest`: 0 where ``rank(j) ≤ count``, else 1."""
    if count <= 0:  # no rank is below 1
        return torch.ones_like(values)
    return torch.ge(values, order_statistic(values, count), out=torch.empty_like(values))


def pixel_attributions(attributions: Tensor) -> Tensor:
    """Return attributions of pixels ``(N, H, W)``: the signed sum of the features', ``(N, C, H, W)``."""
    if attributions.ndim != 4:
        raise InputError(
            f"expected attributions of images, (N, C, H, W); got shape {tuple(attributions.shape)}"
        )
    return attributions.sum(1)


def most_relevant(values: Tensor, fraction: float) -> Tensor:
    """Return a mask of the ``⌈fraction·d⌉`` highest of each row of ``(N, d)``; ties go by index.

    A row's lowest value counts as not relevant: of a constant row nothing is marked.
    """
    count = math.ceil(Fraction(repr(fraction)) * values.shape[1])
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    marked = torch.zeros_like(values, dtype=torch.bool).scatter_(1, order, True)
    return marked & (values > values.amin(1, keepdim=True))


def removal_ranks(values: Tensor, *, highest_first: bool) -> Tensor:
    """Return the place of each of ``(N, d)`` values in the order in which they are removed, from 0.

    Ties go by index, in both orders, so that every row is a permutation. Cost: one stable sort.
    """
    order = values.argsort(dim=1, descending=highest_first, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
