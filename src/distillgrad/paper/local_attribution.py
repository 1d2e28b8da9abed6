"""DGA with other local attributions, cost beside quality."""

from __future__ import annotations

from distillgrad.metrics.statistics import adjusted_together
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import Methods, measure
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import AREA, Verdict, area_between, in_words, outcome_of, p_in_words, reason
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

N_IMAGES = 24
G_I = "dga, Gradient×Input"
LOCALS: Methods = {
    "dga": ("dga", {}),
    G_I: ("dga", {"local_attribution": "gradient_x_input"}),
    "dga, IG of 4 steps": ("dga_with_local", {"local": "integrated_gradients", "n_local": 4}),
    "dga, SmoothGrad of 4 samples": ("dga_with_local", {"local": "smoothgrad", "n_local": 4}),
    "gradient_x_input": ("gradient_x_input", {}),
}


def make(setting: Setting) -> Exhibit:
    """Evaluate the variants on the same images. Cost: ten times DGA's."""
    images = setting.images(N_IMAGES)
    metrics = ("lerf", "morf", "area_between")
    results = measure(setting, "local-attribution", LOCALS, metrics, images=images, subject="dga")
    heads, rows = leaderboard_rows(results.board)
    pair = [G_I, "gradient_x_input"]
    claims = adjusted_together(
        {
            "alone": results.comparison("area_between", pair, reference="gradient_x_input"),
            "beside": results.comparison("area_between", ["dga", G_I]),
        }
    )
    gain, beside = (claims[name].differences[G_I] for name in ("alone", "beside"))
    helps = gain.significant and gain.interval.mean > 0
    worse = beside.significant and beside.interval.mean < 0
    verdict = Verdict(
        "local",
        "does not hold" if worse else outcome_of(gain, helps),
        area_between(gain, G_I, "Gradient×Input alone"),
        reason(
            "significantly worse than with Uniform FullGrad"
            if worse
            else "distillation improves on the local attribution"
            if helps
            else "no significant improvement on it",
            gain,
            unit=results.unit,
        ),
    )
    area = results.board.comparisons["area_between"].differences
    seconds = results.evaluation.seconds
    findings = [finding(verdict)]
    findings += [
        f"{label}: {in_words(area[label].interval, signed=True)} in {AREA} against dga, "
        f"{p_in_words(area[label])}, at {seconds[label] / seconds['dga']:.1f} of its time."
        for label in LOCALS
        if label != "dga"
    ]
    return Exhibit(
        *EXHIBITS["local-attribution"].heading,
        tuple(findings),
        (verdict,),
        (Table(f"{results.n_images} images; `*`: significantly different from dga.", heads, tuple(rows)),),
        (Picture("run/leaderboard.png", "Means and 95 % intervals."),),
        leaderboard_record(results.board),
        results.n_images,
    )
