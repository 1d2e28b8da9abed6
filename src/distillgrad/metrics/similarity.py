"""Similarity of two explanations of the same samples: by rank, by structure, by what ranks highest.

Values are computed in float64, row by row of the batch, on the maps' device; where a device has no float64
(MPS), on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.ranking import most_relevant, pixel_attributions
from distillgrad.errors import InputError, ModelError, ParameterError

Attribute: TypeAlias = Callable[[Tensor, Any], Tensor]
"""Explains: from inputs and target to attributions, such as ``dg.DGA(model).attribute``."""

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
DATA_RANGE = 2.0  # of maps normalised to [−1, 1]


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each pair of maps, ``(B,)``, from −1 to 1.

    Of the values as they are given, flattened: of features for ``(B, C, H, W)``. Equal values share the
    mean of their ranks. Unchanged by any increasing function of either map; NaN where a map is constant,
    which ranks nothing.

    Args:
        first: Maps ``(B, …)``.
        second: Maps of the same shape.
    Raises:
        InputError: maps of different shapes, or with NaN or infinity.
    Cost: a sort of each map.
    Source: Spearman 1904; of explanations: Adebayo et al. 2018, "Sanity checks for saliency maps".
    """
    ranks = [_centred_ranks(values.flatten(1)) for values in _checked(first, second)]
    product, *squares = ((a * b).sum(1) for a, b in (ranks, ranks[:1] * 2, ranks[1:] * 2))
    return (product / (squares[0].sqrt() * squares[1].sqrt())).clamp(-1, 1)


def _centred_ranks(values: Tensor) -> Tensor:
    """Return mean ranks of ``(B, d)`` values less their mean, exactly 0 for a constant row."""
    ordered, order = values.sort(dim=1)
    place = torch.arange(values.shape[1], device=values.device).expand_as(order)
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(differs[:, :1]) if values.shape[1] > 1 else differs.new_ones(len(values), 1)
    # A run of equal values begins where its predecessor differs and ends where its successor does.
    begins = torch.where(torch.cat([edge, differs], 1), place, 0).cummax(1).values
    last = values.shape[1] - 1
    ends = torch.where(torch.cat([differs, edge], 1), place, last).flip(1).cummin(1).values.flip(1)
    # Twice the rank is a whole number, and the ranks' mean is known: nothing is rounded.
    centred = (begins + ends - last).to(torch.float64) / 2
    return torch.empty_like(centred).scatter_(1, order, centred)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return mean structural similarity of each pair of maps of pixels, ``(B,)``, at most 1.

    Features are summed over channels. Attributions have no scale of their own, so each map is divided by
    its greatest absolute value, keeps its sign and lies in [−1, 1], a range of 2; a map of zeros stays
    one. So a positive factor of either map changes nothing. Windows in which both maps are nearly zero
    count as alike: two sparse maps come close to 1, wherever their peaks are.

    An 11×11 Gaussian window (σ 1.5; K₁ 0.01, K₂ 0.03; population statistics) at every place where it lies
    within the map; for maps of a smaller side, the greatest odd window that does.

    Args:
        first: Attributions ``(B, C, H, W)``.
        second: Attributions of the same shape.
    Raises:
        InputError: maps of another or of different shapes, or with NaN or infinity.
    Cost: some 20·H·W·(H + W) operations a pair; memory of one pair.
    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity";
        the normalisation: Adebayo et al. 2018.
    """
    pixels = [pixel_attributions(maps.to(torch.float64)) for maps in _checked(first, second)]
    window = min(WINDOW, *(side - (side + 1) % 2 for side in pixels[0].shape[1:]))
    down, across = (_weighting(side, window).to(pixels[0].device) for side in pixels[0].shape[1:])
    c1, c2 = (K1 * DATA_RANGE) ** 2, (K2 * DATA_RANGE) ** 2
    likenesses: list[Tensor] = []
    for pair in zip(*pixels, strict=True):  # pair by pair: the memory of one
        a, b = (_normalised(each) for each in pair)
        mean_a, mean_b, aa, bb, ab = down @ torch.stack([a, b, a * a, b * b, a * b]) @ across.T
        variances = (aa - mean_a**2) + (bb - mean_b**2)
        likeness = (2 * mean_a * mean_b + c1) * (2 * (ab - mean_a * mean_b) + c2)
        likenesses.append((likeness / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))).mean())
    return torch.stack(likenesses)


def _weighting(side: int, window: int) -> Tensor:
    """Return the Gaussian means over a side's windows as a matrix, ``(side − window + 1, side)``."""
    offsets = torch.arange(window, dtype=torch.float64, device="cpu") - window // 2
    weights = torch.exp(-((offsets / SIGMA) ** 2) / 2)
    places = torch.arange(side - window + 1, device="cpu")[:, None] + torch.arange(window, device="cpu")
    return torch.zeros(len(places), side, dtype=torch.float64, device="cpu").scatter_(
        1, places, (weights / weights.sum()).expand(len(places), -1)
    )


def _normalised(pixels: Tensor) -> Tensor:
    greatest = pixels.abs().max()
    return pixels / torch.where(greatest > 0, greatest, 1)


def top_overlap(first: Tensor, second: Tensor, fraction: float = 0.1) -> Tensor:
    """Return the share of the most relevant features that each pair of maps shares, ``(B,)``, 0 to 1.

    ``|A ∩ B| / max(|A|, |B|)``, A and B the ``⌈fraction·d⌉`` highest values as they are given, flattened;
    ties go by index. A map's lowest value never counts as relevant, so a map of few values above zero has
    a smaller set; NaN where neither map has one.

    Args:
        first: Maps ``(B, …)``.
        second: Maps of the same shape.
        fraction: Of the features, above 0 and at most 1.
    Raises:
        InputError: maps of different shapes, or with NaN or infinity.
        ParameterError: ``fraction`` out of range.
    Cost: a sort of each map.
    Source: the top-k intersection of Ghorbani et al. 2019, "Interpretation of neural networks is fragile".
    """
    if not 0 < fraction <= 1:
        raise ParameterError(f"fraction must lie above 0 and be at most 1, not {fraction}")
    top = [most_relevant(values.flatten(1), float(fraction)) for values in _checked(first, second)]
    common, *sizes = (marked.sum(1).to(torch.float64) for marked in (top[0] & top[1], *top))
    return common / torch.maximum(*sizes)


def explained(attribute: Attribute, inputs: Tensor, target: object) -> Tensor:
    """Return the attributions ``(B, C, H, W)`` or ``(B, 1, H, W)`` that ``attribute`` gives, without a graph.

    It gets a copy of the inputs and may take gradients.

    Raises:
        ModelError: it gives something else.
    """
    with torch.enable_grad():
        attributions = attribute(inputs.detach().clone(), target)
    got = tuple(attributions.shape) if isinstance(attributions, Tensor) else type(attributions).__name__
    n, channels, height, width = inputs.shape
    if got not in ((n, channels, height, width), (n, 1, height, width)):
        raise ModelError(
            f"attribute(inputs, target) gave {got} for inputs of {tuple(inputs.shape)}; "
            f"expected attributions of their shape or ({n}, 1, {height}, {width})"
        )
    return attributions.detach()


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    for maps in (first, second):
        if not isinstance(maps, Tensor) or maps.ndim < 2 or not maps.numel():
            got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise InputError(f"expected maps (B, …), a row for each sample; got {got}")
        if not bool(torch.isfinite(maps).all()):
            raise InputError("the maps contain NaN or infinity, which is like nothing; leave those rows out")
    if first.shape != second.shape:
        raise InputError(
            f"maps of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared; of images, "
            "sum those of features over channels: maps.sum(1, keepdim=True)"
        )
    device = torch.device("cpu") if first.device.type == "mps" else first.device
    return first.detach().to(device), second.detach().to(device)
