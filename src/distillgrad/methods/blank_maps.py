"""Maps that are one number everywhere, zero above all: which they are, and why, looked up, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, outside_inference_mode, samples_named
from distillgrad.core.chunks import in_chunks
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model, scores, value_and_gradient
from distillgrad.core.plan import Plan
from distillgrad.core.ranking import pixel_attributions
from distillgrad.errors import ModelError

ZERO, SAME = "zero everywhere", "the same everywhere, and nothing stands out"
CANCELLING = f"{ZERO}: the channels of each pixel add up to zero"
UNDERFLOW = " in {}, where small numbers are zero: try float32"
AT_BASELINE = "the input equals the baseline"
UNMOVED = "the score's gradient is zero wherever the input differs from the baseline"
ALONG_PATH = "the gradients along its path come to zero"
SPEAKS_AGAINST = "nothing speaks for the class, and what speaks against it is rectified away"


def blank_rows(attributions: Tensor) -> dict[int, str]:
    """Return by row the kind of each map ``(N, …)`` that is one number everywhere, of images at each pixel.

    Cost: a sum over channels, and the extremes of each row.
    """
    images = attributions.ndim == 4
    maps = (pixel_attributions(attributions) if images else attributions).flatten(1)
    low, high = maps.aminmax(dim=1)
    blank = (low == high) if maps.shape[1] > 1 else (low == 0) & (high == 0)
    kinds = {}
    for row in blank.nonzero()[:, 0].tolist() if bool(blank.any()) else ():
        cancelling = images and bool(attributions[row].any())
        kinds[row] = SAME if bool(low[row]) else CANCELLING if cancelling else ZERO
    return kinds


def why_blank(
    model: Model,
    facts_of: Callable[[Batch], Sequence[str]],
    zero_means: str,
    batch: Batch,
    attributions: Tensor,
    size: int,
) -> dict[int, str]:
    """Return by row how each blank map is blank, and why: ``"zero everywhere: …"``.

    Args:
        facts_of: Returns what can be looked up for each row of a batch, all of whose maps are blank.
        zero_means: What a map of zeros says by the method's rule.
        size: The rows at a time.
    Cost: nothing more than :func:`blank_rows` where no map is blank, else that of ``facts_of`` for those.
    """
    blank = blank_rows(attributions)
    rows = [row for row, kind in blank.items() if kind != CANCELLING]

    def look(chosen: slice) -> Tensor:
        places = torch.tensor(rows[chosen], device=batch.inputs.device)
        for row, fact in zip(rows[chosen], facts_of(batch.rows(places)), strict=True):
            certain = zero_means if blank[row] == ZERO else ""
            reasons[row] = f"{blank[row]}: {certain}{'; ' if certain else ''}{fact}"
        return places

    reasons: dict[int, str] = {}
    if rows:
        with evaluating(model), outside_inference_mode():
            in_chunks(look, Plan(len(rows), size))
    return {row: reasons.get(row, kind) for row, kind in blank.items()}


def score_facts(model: Model, batch: Batch) -> list[str]:
    """Return for each row where its score lies. Cost: a forward pass."""
    return [sign_of(each) for each in scores(model, batch.inputs, batch.target, batch.extra)[0].tolist()]


def gradient_facts(model: Model, batch: Batch, *, by_baselines: bool) -> list[str]:
    """Return for each row what of the score and its gradient at the input makes a map blank.

    Args:
        by_baselines: Whether the map is of the input's difference from the baseline.
    Cost: a gradient pass.
    """
    try:
        score, gradient, _ = value_and_gradient(model, batch.inputs, batch.target, batch.extra)
    except ModelError:  # a layer's gradient may be had where the input's may not
        return [f"{each}; it has no gradient by the input" for each in score_facts(model, batch)]
    difference = batch.difference.flatten(1)
    gradient = gradient.flatten(1)
    product = gradient.to(difference) * difference
    moves, flows, meets = (each.any(1).tolist() for each in (difference, gradient, product))
    narrow = gradient.dtype in (torch.float16, torch.bfloat16)
    nowhere = f"its gradient is zero everywhere{UNDERFLOW.format(gradient.dtype) if narrow else ''}"
    facts = []
    for row, value in enumerate(score.tolist()):
        gradient_is = "its gradient is not zero" if flows[row] else nowhere
        found = [f"{sign_of(value)} and {gradient_is}"]
        if by_baselines and not moves[row]:
            found.insert(0, AT_BASELINE)
        elif by_baselines and flows[row] and not meets[row]:
            found.insert(0, UNMOVED)
        facts.append("; ".join(found))
    return facts


def as_notes(blank: Mapping[int, str], n_rows: int) -> list[str]:
    """Return a sentence for each reason, which names its samples where there are several."""
    if n_rows == 1:
        return [f"The map is {how}." for how in blank.values()]
    by_reason: dict[str, list[int]] = {}
    for row, how in blank.items():
        by_reason.setdefault(how, []).append(row)
    return [
        f"The map{'s' if len(rows) > 1 else ''} of sample{samples_named(rows)} "
        f"{'are' if len(rows) > 1 else 'is'} {how}."
        for how, rows in by_reason.items()
    ]


def sign_of(score: float) -> str:
    """Return in words whether a score is above, below or at zero."""
    return f"the score is {'above zero' if score > 0 else 'below zero' if score < 0 else 'zero'}"
