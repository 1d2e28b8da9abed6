"""DGA without one of its parts: the weak mask, the extreme mask, the ReLU, the input's own anchor."""

from __future__ import annotations

from distillgrad.metrics.statistics import Comparison, adjusted_together
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import Methods, measure
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import (
    AREA,
    Verdict,
    area_between,
    best_of_all,
    in_words,
    outcome_of,
    p_in_words,
    reason,
)
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

N_IMAGES = 30
FROM_FIRST, UNDISTILLED = "anchors 1 … N (eq. 12)", "no distillation (Uniform FullGrad)"
PARTS: Methods = {
    "dga": ("dga", {}),
    "without the extreme mask (eq. 8)": ("dga", {"masks": "weak"}),
    "extreme mask keeps all (q = 1)": ("dga", {"epc_quantile": 1.0}),
    "without the weak mask": ("dga", {"masks": "extreme"}),
    "β = 0.5": ("dga", {"negative_scale": 0.5}),
    "without the ReLU (β = 1)": ("dga", {"negative_scale": 1.0}),
    FROM_FIRST: ("dga_from_first_anchor", {}),
    UNDISTILLED: ("uniform_fullgrad", {}),
}
MODULES = ("without the extreme mask (eq. 8)", "without the weak mask", "without the ReLU (β = 1)")


def make(setting: Setting) -> Exhibit:
    """Evaluate the variants on the same images. Cost: seven times DGA's."""
    images = setting.images(N_IMAGES)
    results = measure(
        setting, "ablation", PARTS, ("lerf", "morf", "area_between"), images=images, subject="dga"
    )
    heads, rows = leaderboard_rows(results.board)
    area = results.board.comparisons["area_between"]
    claims = adjusted_together(
        {
            claim: results.comparison("area_between", ["dga", *rivals])
            for claim, rivals in (
                ("modules", MODULES),
                ("class-oriented", (UNDISTILLED,)),
                ("anchors", (FROM_FIRST,)),
            )
        }
    )
    verdicts = (
        best_of_all("modules", claims["modules"], "higher", measure=AREA, unit=results.unit),
        _class_oriented(claims["class-oriented"], results.unit),
        _anchors(claims["anchors"], results.unit),
    )
    findings = [finding(each) for each in verdicts]
    findings += [
        f"{label}: {in_words(area.differences[label].interval, signed=True)} in {AREA} against dga, "
        f"{p_in_words(area.differences[label])}."
        for label in PARTS
        if label != "dga"
    ]
    return Exhibit(
        *EXHIBITS["ablation"].heading,
        tuple(findings),
        verdicts,
        (
            Table(
                f"{results.n_images} images; `*`: significantly different from dga. The paper's numbers "
                "stand in its appendix, which is not part of the published text.",
                heads,
                tuple(rows),
            ),
        ),
        (Picture("run/leaderboard.png", "Means and 95 % intervals."),),
        leaderboard_record(results.board),
        results.n_images,
    )


def _class_oriented(comparison: Comparison, unit: str) -> Verdict:
    difference = comparison.differences[UNDISTILLED]
    better = difference.interval.mean < 0
    return Verdict(
        "class-oriented",
        outcome_of(difference, better),
        f"{AREA}: dga {in_words(comparison.means['dga'])}, its first local attribution "
        f"alone {in_words(comparison.means[UNDISTILLED])}, {p_in_words(difference)}",
        reason(
            "faithfulness to the class's probability stands for what the paper shows in one picture",
            difference,
            unit=unit,
        ),
    )


def _anchors(comparison: Comparison, unit: str) -> Verdict:
    difference = comparison.differences[FROM_FIRST]
    return Verdict(
        "anchors",
        outcome_of(difference, holds=False),
        area_between(difference, "n = 1 … N", "n = 0 … N"),
        reason(
            "the input's own attribution makes a difference"
            if difference.significant
            else f"no difference is shown by {difference.interval.n} {unit}; the interval bounds it",
            difference,
            unit=unit,
        ),
    )
