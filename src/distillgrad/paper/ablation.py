"""DGA without one of its parts: the weak mask, the extreme mask, the ReLU, the input's own anchor."""

from __future__ import annotations

from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import Methods, measured
from distillgrad.paper.verdicts import best_of_all, in_words, p_in_words
from distillgrad.views.leaderboard import record_of, summary_rows

N_IMAGES = 30
PARTS: Methods = {
    "dga": ("dga", {}),
    "without the extreme mask (eq. 8)": ("dga", {"masks": "weak"}),
    "extreme mask keeps all (q = 1)": ("dga", {"epc_quantile": 1.0}),
    "without the weak mask": ("dga", {"masks": "extreme"}),
    "β = 0.5": ("dga", {"negative_scale": 0.5}),
    "without the ReLU (β = 1)": ("dga", {"negative_scale": 1.0}),
    "anchors 1 … N (eq. 12)": ("dga_from_first_anchor", {}),
    "no distillation (Uniform FullGrad)": ("uniform_fullgrad", {}),
}
MODULES = ("without the extreme mask (eq. 8)", "without the weak mask", "without the ReLU (β = 1)")


def make(setting: Setting) -> Exhibit:
    """Evaluates the variants on the same images. Cost: seven times DGA's."""
    images = setting.images(N_IMAGES)
    found = measured(
        setting, "ablation", PARTS, ("lerf", "morf", "area_between"), images=images, subject="dga"
    )
    heads, rows = summary_rows(found.board)
    verdict = best_of_all(
        "modules",
        found.comparison("area_between", ["dga", *MODULES]),
        "higher",
        measure="area between LeRF and MoRF",
    )
    area = found.board.comparisons["area_between"]
    findings = [f"{verdict.outcome}: {verdict.numbers}; {verdict.why}."]
    findings += [
        f"{label}: area between {in_words(area.differences[label].interval, signed=True)} against dga "
        f"({p_in_words(area.differences[label])})."
        for label in PARTS
        if label != "dga"
    ]
    return Exhibit(
        "ablation",
        "Masks, ReLU and anchors, one at a time",
        "§3.3, Appendices A and H",
        tuple(findings),
        (verdict,),
        (
            Table(
                f"{found.n_images} images; `*`: significantly different from dga. The paper's "
                "numbers stand in "
                "its appendix, which is not part of the published text.",
                heads,
                tuple(rows),
            ),
        ),
        (Picture("run/leaderboard.png", "Means and 95 % intervals."),),
        record_of(found.board),
        found.n_images,
    )
