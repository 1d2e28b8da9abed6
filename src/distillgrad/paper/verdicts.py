"""The verdict on a claim: the outcome, our numbers with their intervals, and the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from distillgrad.metrics.statistics import (
    SIGNIFICANCE,
    Better,
    Comparison,
    Difference,
    Interval,
    images_needed,
)
from distillgrad.views.numbers import decimal

AREA = "area between LeRF and MoRF"
Outcome: TypeAlias = Literal["holds", "does not hold", "undecided", "cannot be decided", "not testable here"]


@dataclass(frozen=True)
class Verdict:
    """The result of testing one claim.

    Attributes:
        claim: Its name in ``CLAIMS``.
        outcome: ``"undecided"``: the samples do not tell; ``"cannot be decided"``: so few would not tell,
            whatever was measured.
        numbers: Our measurements in words.
        why: The reason for the outcome.
    """

    claim: str
    outcome: Outcome
    numbers: str
    why: str


def in_words(interval: Interval, *, signed: bool = False) -> str:
    """Return a mean with its interval: ``0.562 [0.532, 0.592]``."""
    mean, low, high = (decimal(each, signed=signed) for each in (interval.mean, interval.low, interval.high))
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def area_between(difference: Difference, name: str, other: str) -> str:
    """Return the difference of two methods' areas in words: ``area between LeRF and MoRF, a minus b: …``."""
    wider = in_words(difference.interval, signed=True)
    return f"{AREA}, {name} minus {other}: {wider}, {p_in_words(difference)}"


def p_in_words(difference: Difference) -> str:
    """Return the adjusted p-value in words: ``p = 0.012``."""
    p = difference.p_adjusted
    if math.isnan(p):
        return "p undefined"
    return f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def outcome_of(difference: Difference, holds: bool) -> Outcome:
    """Return the outcome of a claim that a significant difference shows, or refutes if not ``holds``."""
    if not difference.decidable:
        return "cannot be decided"
    return "undecided" if not difference.significant else "holds" if holds else "does not hold"


def reason(why: str, *differences: Difference, unit: str) -> str:
    """Return the reason for a verdict: that the samples could not decide anything, or else ``why``."""
    return _too_few(differences, unit) or why


def _too_few(differences: Iterable[Difference], unit: str) -> str:
    """Return that no result could be significant, and how many samples it would take; "" if one could."""
    compared = [each for each in differences if each.interval.n]
    if not compared or any(each.decidable for each in compared):
        return ""
    n, m = max(each.interval.n for each in compared), compared[0].n_comparisons
    smallest = min(each.smallest_p_adjusted for each in compared)
    return (
        f"cannot be decided with {n} {unit}: p is at least {smallest:.2g} whatever is measured, adjusted for "
        f"{m} comparison{'s' if m > 1 else ''}; at least {images_needed(m)} {unit} would be needed"
    )


def best_of_all(
    claim: str, comparison: Comparison, better: Better, *, measure: str, unit: str = "images"
) -> Verdict:
    """Return the verdict that the comparison's reference is better than every other method.

    It holds if each is significantly worse, does not if one is significantly better, and else is undecided,
    or cannot be decided if so few samples could make no difference significant.
    """
    subject = comparison.reference
    sign = 1 if better == "higher" else -1
    rivals = [name for name in comparison.ranking if name in comparison.differences]
    if not rivals:
        return Verdict(claim, "not testable here", "", "nothing to compare with was measured")
    differences = comparison.differences

    def lead(name: str) -> float:
        """Return the rival's lead over the subject."""
        mean = differences[name].interval.mean
        return -math.inf if math.isnan(mean) else sign * mean

    winners = [name for name in rivals if differences[name].significant and lead(name) > 0]
    losers = [name for name in rivals if differences[name].significant and lead(name) < 0]
    closest = max(rivals, key=lead)
    numbers = (
        f"{measure}: {subject} {in_words(comparison.means[subject])}; {closest} "
        f"{in_words(comparison.means[closest])}, difference to {subject} "
        f"{in_words(differences[closest].interval, signed=True)}, {p_in_words(differences[closest])}"
    )
    n = comparison.means[subject].n
    if winners:
        return Verdict(claim, "does not hold", numbers, f"significantly better: {', '.join(winners)}")
    if len(losers) == len(rivals):
        return Verdict(claim, "holds", numbers, f"all {len(rivals)} others are significantly worse")
    if too_few := _too_few(differences.values(), unit):
        return Verdict(claim, "cannot be decided", numbers, too_few)
    open_ones = [name for name in rivals if name not in losers]
    return Verdict(
        claim,
        "undecided",
        numbers,
        f"{n} {unit} cannot tell {subject} from {_some(open_ones)} (adjusted p ≥ {SIGNIFICANCE})",
    )


def worst_of_all(
    claim: str, comparison: Comparison, better: Better, *, measure: str, unit: str = "images"
) -> Verdict:
    """Return the verdict that the comparison's reference is worse than every other method."""
    other: Better = "lower" if better == "higher" else "higher"
    opposite = best_of_all(claim, comparison, other, measure=measure, unit=unit)
    # Said of the reference, "better" at being worse would be read the wrong way round.
    return Verdict(
        claim,
        opposite.outcome,
        opposite.numbers,
        opposite.why.replace("significantly better:", "significantly worse than it:").replace(
            "others are significantly worse", "others are significantly better"
        ),
    )


def pairs_in_order(
    ours: Mapping[str, float], published: Mapping[str, float], *, tie: float = 0.0
) -> tuple[int, int]:
    """Return the number of pairs of methods that are in the same order in both, and the number of pairs.

    Args:
        tie: Published values that differ by no more are in no order, and left out.
    """
    names = [name for name in published if name in ours]
    pairs = [
        (first, second)
        for first, second in combinations(names, 2)
        if abs(published[first] - published[second]) > tie
    ]
    same = sum(
        (ours[first] - ours[second]) * (published[first] - published[second]) > 0 for first, second in pairs
    )
    return same, len(pairs)


def _some(names: Sequence[str], n_named: int = 6) -> str:
    """Return the first names, and the number of the others."""
    if len(names) <= n_named:
        return ", ".join(names)
    return f"{', '.join(names[: n_named - 1])} and {len(names) - n_named + 1} others"


def listed(names: Sequence[str]) -> str:
    """Return the names as ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
