"""Table 1: LeRF and MoRF of the paper's six methods, and of those of its Appendix I."""

from __future__ import annotations

from distillgrad.metrics.registry import METRICS
from distillgrad.paper import published
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, Measured, asked_for, measured, papers_labels
from distillgrad.paper.verdicts import Verdict, best_of_all, in_words, order_agreement
from distillgrad.views.leaderboard import record_of, summary_rows

FURTHER = "uniform_fullgrad,gradcam,lrp,smoothgrad(n_samples=31),rise(n_masks=500),random"
APPENDIX_I = ("uniform_fullgrad", "gradcam", "lrp", "smoothgrad", "rise")
N_IMAGES = 30


def make(setting: Setting) -> Exhibit:
    """Evaluates, compares with DGA, and with the paper's numbers. Cost: as ``distillgrad evaluate``."""
    methods = asked_for(setting, f"{PAPERS},{FURTHER}")
    found = measured(
        setting, "table-1", methods, ("lerf", "morf", "area_between"), images=setting.images(N_IMAGES)
    )
    network = published.network_of(setting.model)
    of = published.NETWORKS[network] if network else " / ".join(published.NETWORKS.values())
    heads, rows = summary_rows(found.board)
    table = Table(
        f"Mean and 95 % bootstrap interval over {found.n_images} images; `*`: significantly different from "
        f"{found.subject} (paired, Holm-adjusted p < 0.05). The paper's columns: {of}.",
        (*heads, "paper's LeRF", "paper's MoRF"),
        tuple(
            (
                *row,
                published.table_1_cell("lerf", found.methods[row[0]][0], network),
                published.table_1_cell("morf", found.methods[row[0]][0], network),
            )
            for row in rows
        ),
    )
    six = papers_labels(found.methods)
    verdicts = [
        best_of_all(
            metric, found.comparison(metric, list(six.values())), METRICS[metric].better, measure=metric
        )
        for metric in ("lerf", "morf")
    ]
    verdicts += [_order(found, network), _values(found, network), _others(found), _cheaper(found)]
    findings = [
        f"{each.claim.upper() if each.claim in ('lerf', 'morf') else each.claim}: {each.outcome}. "
        f"{each.numbers}; {each.why}."
        for each in verdicts
    ]
    findings += [f"{label} is left out: {why}" for label, why in found.left_out.items()]
    return Exhibit(
        "table-1",
        "LeRF and MoRF of many methods",
        "Table 1, §4.1, Appendix I",
        tuple(findings),
        tuple(verdicts),
        (table,),
        (
            Picture("run/leaderboard.png", "Means and 95 % intervals."),
            Picture("run/curves.png", "The curves whose areas these are."),
        ),
        record_of(found.board),
        found.n_images,
    )


def _order(found: Measured, network: str | None) -> Verdict:
    six = papers_labels(found.methods)
    parts, total, agreed = [], 0, 0
    for metric in ("lerf", "morf"):
        means = found.board.comparisons[metric].means
        ours = {name: means[label].mean for name, label in six.items()}
        same, pairs = order_agreement(ours, published.table_1(metric, network))
        parts.append(f"{metric} {same} of {pairs}")
        total, agreed = total + pairs, agreed + same
    of = published.NETWORKS[network] if network else "the mean of its three networks"
    return Verdict(
        "table-1-order",
        "not testable here" if not total else "holds" if agreed == total else "does not hold",
        f"pairs of methods in the paper's order: {', '.join(parts)}",
        f"against {of}; without regard to significance",
    )


def _values(found: Measured, network: str | None) -> Verdict:
    if network is None:
        return Verdict("table-1-values", "not testable here", "", "the paper did not measure this network")
    inside, total = 0, 0
    for metric in ("lerf", "morf"):
        means = found.board.comparisons[metric].means
        numbers = published.table_1(metric, network)
        for name, label in papers_labels(found.methods).items():
            total += 1
            inside += means[label].low <= numbers[name] <= means[label].high
    return Verdict(
        "table-1-values",
        "holds" if inside == total else "does not hold",
        f"{inside} of {total} numbers lie in our intervals",
        f"the paper: 50,000 images, baseline and steps unsaid; here {found.n_images} "
        "images of another choice, "
        "the data's mean colour",
    )


def _others(found: Measured) -> Verdict:
    """The paper's measures are LeRF and MoRF: the claim stands on both."""
    labels = [*found.labels_of(APPENDIX_I), found.subject]
    parts = [
        best_of_all("others", found.comparison(metric, labels), METRICS[metric].better, measure=metric)
        for metric in ("lerf", "morf")
    ]
    worst = ("does not hold", "not testable here", "undecided", "holds")
    outcome = min((each.outcome for each in parts), key=worst.index)
    numbers = "; ".join(each.numbers for each in parts)
    return Verdict("others", outcome, numbers, "; ".join(dict.fromkeys(each.why for each in parts)))


def _cheaper(found: Measured) -> Verdict:
    rise = found.labels_of(["rise"])
    if not rise:
        return Verdict("cheaper", "not testable here", "", "RISE was not measured")
    (label,) = rise[:1]
    comparison = found.comparison("area_between", [label, found.subject])
    seconds = found.evaluation.seconds
    difference = comparison.differences[label]
    worse = difference.significant and difference.interval.mean > 0  # RISE is significantly better
    cheaper = seconds[found.subject] < seconds[label]
    return Verdict(
        "cheaper",
        "does not hold" if worse or not cheaper else "holds" if difference.significant else "undecided",
        f"{found.subject} {seconds[found.subject]:.2g} s an image, {label} "
        f"{seconds[label]:.2g} s; area between "
        f"of {label} minus {found.subject}'s: {in_words(difference.interval, signed=True)}",
        f"{found.subject} costs {seconds[found.subject] / seconds[label]:.2f} of {label}'s time"
        + (", but is significantly worse" if worse else ""),
    )
