"""Table 1: LeRF and MoRF of the paper's six methods, and of those of its Appendix I."""

from __future__ import annotations

from distillgrad.metrics.registry import find_metric
from distillgrad.paper import published
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, Measured, asked_for, measured, omissions, papers_labels
from distillgrad.paper.verdicts import Verdict, area_between, best_of_all, order_agreement
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

FURTHER = "uniform_fullgrad,gradcam,lrp,smoothgrad(n_samples=31),rise(n_masks=500),random"
APPENDIX_I = ("uniform_fullgrad", "gradcam", "lrp", "smoothgrad", "rise")
N_IMAGES = 30
NAMES = {"lerf": "LeRF", "morf": "MoRF"}


def make(setting: Setting) -> Exhibit:
    """Evaluates, compares with DGA, and with the paper's numbers. Cost: as ``distillgrad evaluate``."""
    methods = asked_for(setting, f"{PAPERS},{FURTHER}")
    found = measured(
        setting, "table-1", methods, ("lerf", "morf", "area_between"), images=setting.images(N_IMAGES)
    )
    network = published.network_of(setting.model)
    of = published.NETWORKS[network] if network else " / ".join(published.NETWORKS.values())
    heads, rows = leaderboard_rows(found.board)
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
            metric,
            found.comparison(metric, list(six.values())),
            find_metric(metric).better,
            measure=NAMES[metric],
        )
        for metric in ("lerf", "morf")
    ]
    verdicts += [_order(found, network), _values(found, network), _others(found), _cheaper(found)]
    verdicts += [_bias_share(found), _applies(found)]
    findings = [finding(each) for each in verdicts]
    findings += omissions(found.left_out)
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
        leaderboard_record(found.board),
        found.n_images,
    )


def _order(found: Measured, network: str | None) -> Verdict:
    six = papers_labels(found.methods)
    parts, total, agreed = [], 0, 0
    for metric in ("lerf", "morf"):
        means = found.board.comparisons[metric].means
        ours = {name: means[label].mean for name, label in six.items()}
        same, pairs = order_agreement(ours, published.table_1(metric, network))
        parts.append(f"{NAMES[metric]} {same} of {pairs}")
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
        "the paper: 50,000 images, steps and what stands in for removed pixels unsaid; here "
        f"{found.n_images} other images, the data's mean colour",
    )


def _others(found: Measured) -> Verdict:
    """The paper's measures are LeRF and MoRF: the claim stands on both."""
    others = found.labels_of(APPENDIX_I)
    if not others:
        return Verdict("others", "not testable here", "", "none of these methods was measured")
    parts = {
        words: best_of_all(
            "others",
            found.comparison(metric, [*others, found.subject]),
            find_metric(metric).better,
            measure=words,
        )
        for metric, words in NAMES.items()
    }
    worst = ("does not hold", "undecided", "holds")
    return Verdict(
        "others",
        min((each.outcome for each in parts.values()), key=worst.index),
        "; ".join(each.numbers for each in parts.values()),
        "; ".join(f"in {words} {each.why}" for words, each in parts.items()),
    )


def _cheaper(found: Measured) -> Verdict:
    rise = found.labels_of(["rise"])
    if not rise:
        return Verdict("cheaper", "not testable here", "", "RISE was not measured")
    (label,) = rise[:1]
    difference = found.comparison("area_between", [label, found.subject]).differences[label]
    seconds = found.evaluation.seconds
    worse = difference.significant and difference.interval.mean > 0  # RISE is significantly better
    cheaper = seconds[found.subject] < seconds[label]
    return Verdict(
        "cheaper",
        "does not hold" if worse or not cheaper else "holds" if difference.significant else "undecided",
        f"{found.subject} {seconds[found.subject]:.2g} s an image, {label} {seconds[label]:.2g} s; "
        + area_between(difference, label, found.subject),
        f"{found.subject} costs {seconds[found.subject] / seconds[label]:.2f} of {label}'s time"
        + (", but is significantly worse" if worse else ""),
    )


def _bias_share(found: Measured) -> Verdict:
    """Spread evenly, the biases change no ranking: what remains of FullGrad is Gradient×Input's."""
    six, uniform = papers_labels(found.methods), found.labels_of(["uniform_fullgrad"])
    if "fullgrad" not in six or not uniform:
        return Verdict(
            "bias-share", "not testable here", "", "FullGrad and Uniform FullGrad were not both measured"
        )
    (label,) = uniform[:1]
    fullgrad = six["fullgrad"]
    difference = found.comparison("area_between", [label, fullgrad], reference=fullgrad).differences[label]
    better = difference.interval.mean > 0
    return Verdict(
        "bias-share",
        "undecided" if not difference.significant else "holds" if better else "does not hold",
        area_between(difference, label, fullgrad),
        "faithfulness stands for the right share of the biases; spread evenly they change no ranking, so "
        "that Uniform FullGrad ranks as Gradient×Input does",
    )


def _applies(found: Measured) -> Verdict:
    chance = found.labels_of(["random"])
    if not chance:
        return Verdict("applies", "not testable here", "", "no random map was measured")
    (label,) = chance[:1]
    difference = found.comparison("area_between", [found.subject, label], reference=label).differences[
        found.subject
    ]
    better = difference.interval.mean > 0
    return Verdict(
        "applies",
        "undecided" if not difference.significant else "holds" if better else "does not hold",
        area_between(difference, found.subject, label),
        "on this network its maps are " + ("more" if better else "no more") + " faithful than random ones",
    )
