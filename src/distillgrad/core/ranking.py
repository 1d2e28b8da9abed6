"""Ranks by order statistic: which features are among the m lowest of their sample, ties and all."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from distillgrad.errors import InputError


def count_below(quantile: float, n_features: int) -> int:
    """``⌊q·d⌋`` of the decimal number that was written, not of the float nearest to it.

    >>> count_below(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return math.floor(Fraction(repr(float(quantile))) * n_features)


def order_statistic(values: Tensor, count: int) -> Tensor:
    """The ``(count+1)``-th smallest value of each row of ``(N, d)``, as ``(N, 1)``; 0 ≤ count < d.

    Exact: a value that occurs in the row, no interpolation. Cost: one selection, no sort.
    """
    if values.device.type == "cpu":
        # On the CPU numpy's vectorised quickselect is ten times faster than kthvalue.
        selected = np.partition(values.numpy(), count, axis=1)[:, count : count + 1]
        return torch.from_numpy(np.ascontiguousarray(selected))
    return values.kthvalue(count + 1, dim=1, keepdim=True).values


def among_lowest(values: Tensor, count: int) -> Tensor:
    """Whether ``rank(j) ≤ count``, with ``rank(j) = #{k : v_k ≤ v_j}``, for values ``(N, d)``.

    Equal values share the highest of their ranks, so ties are all in or all out. Since
    ``rank(j) ≤ m ⟺ v_j < v_(m+1)``, one order statistic decides.

    >>> among_lowest(torch.tensor([[3.0, 1.0, 2.0, 1.0]]), 2)
    tensor([[False,  True, False,  True]])

    Returns: Boolean ``(N, d)``; all true for ``count >= d``.
    Source: the sets S of Jeon et al. 2022, eq. 6 and 9.
    """
    if count >= values.shape[1]:
        return torch.ones_like(values, dtype=torch.bool)
    return values < order_statistic(values, count)


def pixel_attributions(attributions: Tensor) -> Tensor:
    """Attributions of pixels ``(N, H, W)`` from those of features ``(N, C, H, W)``: their signed sum."""
    if attributions.ndim != 4:
        raise InputError(
            f"expected attributions of images, (N, C, H, W); got shape {tuple(attributions.shape)}"
        )
    return attributions.sum(1)


def most_relevant(values: Tensor, fraction: float) -> Tensor:
    """The ``⌈fraction·d⌉`` highest of each row of ``(N, d)``, as a Boolean mask; ties go by index.

    A row's lowest value counts as not relevant: of a constant row nothing is marked.
    """
    count = math.ceil(Fraction(repr(fraction)) * values.shape[1])
    order = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    marked = torch.zeros_like(values, dtype=torch.bool).scatter_(1, order, True)
    return marked & (values > values.amin(1, keepdim=True))
