"""The disagreement of the maps that different methods make of one image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

from torch import Tensor

from distillgrad.core.ranking import pixel_attributions
from distillgrad.metrics.similarity import spearman


def disagreement(maps: Mapping[str, Tensor]) -> float:
    """Return 1 less the mean rank correlation (Spearman) of each pair of maps, from 0 to 2.

    It is NaN where there are no two maps of the same size that rank anything. Cost: two sorts for each pair.

    Args:
        maps: Attributions ``(C, H, W)`` by label, at each pixel summed over channels.
    """
    pixels = [pixel_attributions(each[None].double()) for each in maps.values()]
    correlations = [
        float(spearman(one, other))
        for one, other in combinations(pixels, 2)
        if one.shape == other.shape and bool(one.isfinite().all() and other.isfinite().all())
    ]
    known = [each for each in correlations if math.isfinite(each)]
    return 1 - sum(known) / len(known) if known else math.nan
