"""The number of steps N and the quantile q: quality beside cost, so that a user can choose."""

from __future__ import annotations

from distillgrad.paper import published
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import Methods, measure
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import AREA, best_of_all, in_words, p_in_words
from distillgrad.views.leaderboard import leaderboard_record

N_IMAGES = 24
STEPS = (5, 10, 20, 30, 50)
QUANTILES = (0.8, 0.9, 0.95, 1.0)
METRICS = ("lerf", "morf", "area_between")


def label_of(n_steps: int, quantile: float) -> str:
    """Return the name of a point of the grid."""
    return f"N={n_steps}, q={quantile:g}"


GRID: Methods = {
    label_of(n_steps, quantile): ("dga", {"n_steps": n_steps, "epc_quantile": quantile})
    for n_steps in STEPS
    for quantile in QUANTILES
}
CHOSEN = label_of(published.N_STEPS, published.EPC_QUANTILE)


def make(setting: Setting) -> Exhibit:
    """Evaluate the grid on the same images. Cost: sixteen times DGA's."""
    images = setting.images(N_IMAGES)
    results = measure(setting, "hyperparameters", GRID, METRICS, images=images, subject=CHOSEN)
    seconds = results.evaluation.seconds
    tables = [
        Table(
            f"{metric} by N and q, {results.n_images} images; `*`: significantly different from {CHOSEN}.",
            ("N", *(f"q = {quantile:g}" for quantile in QUANTILES), "s/image at q = 0.9"),
            tuple(
                (
                    str(n_steps),
                    *(
                        in_words(results.board.comparisons[metric].means[label])
                        + ("*" if label != CHOSEN and differences[label].significant else "")
                        for label in (label_of(n_steps, quantile) for quantile in QUANTILES)
                    ),
                    f"{seconds[label_of(n_steps, published.EPC_QUANTILE)]:.2g}",
                )
                for n_steps in STEPS
            ),
        )
        for metric in METRICS
        for differences in [results.board.comparisons[metric].differences]
    ]
    compared = results.comparison("area_between", list(GRID))
    verdict = best_of_all("grid", compared, "higher", measure=AREA, unit=results.unit)
    findings = [finding(verdict)]
    for n_steps in (5, 10):
        label = label_of(n_steps, published.EPC_QUANTILE)
        lost = {metric: results.board.comparisons[metric].differences[label] for metric in METRICS}
        findings.append(
            f"{label} against {CHOSEN}, at {seconds[label] / seconds[CHOSEN]:.2f} of its time: "
            + "; ".join(
                f"{metric} {in_words(each.interval, signed=True)} ({p_in_words(each)})"
                for metric, each in lost.items()
            )
            + "."
        )
    return Exhibit(
        *EXHIBITS["hyperparameters"].heading,
        tuple(findings),
        (verdict,),
        tuple(tables),
        (Picture("run/leaderboard.png", "Means and 95 % intervals."),),
        leaderboard_record(results.board),
        results.n_images,
    )
