"""Table 1: LeRF and MoRF of the paper's six methods, and of those of its Appendix I."""

from __future__ import annotations

from collections.abc import Mapping

from distillgrad.metrics.registry import find_metric
from distillgrad.metrics.statistics import Comparison, adjusted_together
from distillgrad.paper import published
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, Measurement, measure, methods_of, omissions, papers_labels
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import (
    Verdict,
    area_between,
    best_of_all,
    outcome_of,
    pairs_in_order,
    reason,
)
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

FURTHER = "uniform_fullgrad,gradcam,lrp,smoothgrad(n_samples=31),rise(n_masks=500),random"
APPENDIX_I = ("uniform_fullgrad", "gradcam", "lrp", "smoothgrad", "rise")
N_IMAGES = 30
NAMES = {"lerf": "LeRF", "morf": "MoRF"}


def make(setting: Setting) -> Exhibit:
    """Evaluate, compare with DGA and with the paper's numbers. Cost: as ``distillgrad evaluate``."""
    methods = methods_of(setting, f"{PAPERS},{FURTHER}")
    results = measure(
        setting, "table-1", methods, ("lerf", "morf", "area_between"), images=setting.images(N_IMAGES)
    )
    network = published.network_of(setting.model)
    of = published.NETWORKS[network] if network else " / ".join(published.NETWORKS.values())
    heads, rows = leaderboard_rows(results.board)
    table = Table(
        f"Mean and 95 % interval over {results.n_images} images; `*`: significantly different from "
        f"{results.subject} (paired, p < 0.05, adjusted for all comparisons of the table). The paper's "
        f"columns: {of}.",
        (*heads, "paper's LeRF", "paper's MoRF"),
        tuple(
            (
                *row,
                published.table_1_cell("lerf", results.methods[row[0]][0], network),
                published.table_1_cell("morf", results.methods[row[0]][0], network),
            )
            for row in rows
        ),
    )
    claims = _compared(results)
    verdicts = [
        best_of_all(
            metric, claims[metric], find_metric(metric).better, measure=NAMES[metric], unit=results.unit
        )
        for metric in ("lerf", "morf")
    ]
    verdicts += [
        _order(results, network),
        _values(results, network),
        _others(results, claims),
        _cheaper(results, claims),
    ]
    verdicts += [_bias_share(results, claims), _applies(results, claims)]
    findings = [finding(each) for each in verdicts]
    findings += omissions(results.left_out)
    return Exhibit(
        *EXHIBITS["table-1"].heading,
        tuple(findings),
        tuple(verdicts),
        (table,),
        (
            Picture("run/leaderboard.png", "Means and 95 % intervals."),
            Picture("run/curves.png", "The curves whose areas these are."),
        ),
        leaderboard_record(results.board),
        results.n_images,
    )


def _compared(results: Measurement) -> dict[str, Comparison]:
    """Return the comparisons that the claims rest on, by claim and metric; all are corrected together."""
    six, others = papers_labels(results.methods), results.labels_of(APPENDIX_I)
    rise, uniform, chance = (results.labels_of([name]) for name in ("rise", "uniform_fullgrad", "random"))
    claims = {metric: results.comparison(metric, list(six.values())) for metric in NAMES}
    if others:
        for metric in NAMES:
            claims[f"others {metric}"] = results.comparison(metric, [*others, results.subject])
    if rise:
        claims["cheaper"] = results.comparison("area_between", [rise[0], results.subject])
    if uniform and "fullgrad" in six:
        pair = [uniform[0], six["fullgrad"]]
        claims["bias-share"] = results.comparison("area_between", pair, reference=six["fullgrad"])
    if chance:
        pair = [results.subject, chance[0]]
        claims["applies"] = results.comparison("area_between", pair, reference=chance[0])
    return adjusted_together(claims)


def _order(results: Measurement, network: str | None) -> Verdict:
    six = papers_labels(results.methods)
    parts, total, agreed = [], 0, 0
    for metric in ("lerf", "morf"):
        means = results.board.comparisons[metric].means
        ours = {name: means[label].mean for name, label in six.items()}
        same, pairs = pairs_in_order(ours, published.table_1(metric, network))
        parts.append(f"{NAMES[metric]} {same} of {pairs}")
        total, agreed = total + pairs, agreed + same
    of = published.NETWORKS[network] if network else "the mean of its three networks"
    return Verdict(
        "table-1-order",
        "not testable here" if not total else "holds" if agreed == total else "does not hold",
        f"pairs of methods in the paper's order: {', '.join(parts)}",
        f"against {of}; without regard to significance",
    )


def _values(results: Measurement, network: str | None) -> Verdict:
    if network is None:
        return Verdict("table-1-values", "not testable here", "", "the paper did not measure this network")
    inside, total = 0, 0
    for metric in ("lerf", "morf"):
        means = results.board.comparisons[metric].means
        numbers = published.table_1(metric, network)
        for name, label in papers_labels(results.methods).items():
            total += 1
            inside += means[label].low <= numbers[name] <= means[label].high
    return Verdict(
        "table-1-values",
        "holds" if inside == total else "does not hold",
        f"{inside} of {total} numbers lie in our intervals",
        "the paper: 50,000 images, steps and what stands in for removed pixels unsaid; here "
        f"{results.n_images} other images, the data's mean colour",
    )


def _others(results: Measurement, claims: Mapping[str, Comparison]) -> Verdict:
    """Return the verdict on LeRF and MoRF together, the paper's measures: the claim stands on both."""
    others = results.labels_of(APPENDIX_I)
    if not others:
        return Verdict("others", "not testable here", "", "none of these methods was measured")
    parts = {
        words: best_of_all(
            "others",
            claims[f"others {metric}"],
            find_metric(metric).better,
            measure=words,
            unit=results.unit,
        )
        for metric, words in NAMES.items()
    }
    worst = ("does not hold", "cannot be decided", "undecided", "holds")
    return Verdict(
        "others",
        min((each.outcome for each in parts.values()), key=worst.index),
        "; ".join(each.numbers for each in parts.values()),
        "; ".join(f"in {words} {each.why}" for words, each in parts.items()),
    )


def _cheaper(results: Measurement, claims: Mapping[str, Comparison]) -> Verdict:
    rise = results.labels_of(["rise"])
    if not rise:
        return Verdict("cheaper", "not testable here", "", "RISE was not measured")
    (label,) = rise[:1]
    difference = claims["cheaper"].differences[label]
    seconds = results.evaluation.seconds
    worse = difference.significant and difference.interval.mean > 0  # RISE is significantly better
    cheaper = seconds[results.subject] < seconds[label]
    cost = f"{results.subject} costs {seconds[results.subject] / seconds[label]:.2f} of {label}'s time"
    return Verdict(
        "cheaper",
        "does not hold" if worse or not cheaper else outcome_of(difference, holds=True),
        f"{results.subject} {seconds[results.subject]:.2g} s an image, {label} {seconds[label]:.2g} s; "
        + area_between(difference, label, results.subject),
        reason(cost + (", but is significantly worse" if worse else ""), difference, unit=results.unit),
    )


def _bias_share(results: Measurement, claims: Mapping[str, Comparison]) -> Verdict:
    """Return the verdict on evenly spread biases; they change no ranking, so Gradient×Input's remains."""
    six, uniform = papers_labels(results.methods), results.labels_of(["uniform_fullgrad"])
    if "fullgrad" not in six or not uniform:
        return Verdict(
            "bias-share", "not testable here", "", "FullGrad and Uniform FullGrad were not both measured"
        )
    (label,) = uniform[:1]
    fullgrad = six["fullgrad"]
    difference = claims["bias-share"].differences[label]
    better = difference.interval.mean > 0
    return Verdict(
        "bias-share",
        outcome_of(difference, better),
        area_between(difference, label, fullgrad),
        reason(
            "faithfulness stands for the right share of the biases; spread evenly they change no ranking, so "
            "that Uniform FullGrad ranks as Gradient×Input does",
            difference,
            unit=results.unit,
        ),
    )


def _applies(results: Measurement, claims: Mapping[str, Comparison]) -> Verdict:
    chance = results.labels_of(["random"])
    if not chance:
        return Verdict("applies", "not testable here", "", "no random map was measured")
    (label,) = chance[:1]
    difference = claims["applies"].differences[results.subject]
    better = difference.interval.mean > 0
    return Verdict(
        "applies",
        outcome_of(difference, better),
        area_between(difference, results.subject, label),
        reason(
            f"on this network its maps are {'more' if better else 'no more'} faithful than random ones",
            difference,
            unit=results.unit,
        ),
    )
