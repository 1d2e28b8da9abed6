"""Table 2: sensitivity-n at 10 to 90 % of the cells."""

from __future__ import annotations

from distillgrad.metrics.registry import find_metric
from distillgrad.metrics.removal_correlation import default_grid
from distillgrad.metrics.statistics import Comparison, adjusted_together, compare
from distillgrad.paper import published
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, Measurement, measure, methods_of, omissions, papers_labels
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict, in_words, pairs_in_order, reason
from distillgrad.runs.evaluation.leaderboard import groups_of
from distillgrad.views.leaderboard import leaderboard_record

METRIC = "sensitivity_n"
N_IMAGES = 30


def make(setting: Setting) -> Exhibit:
    """Evaluate; all methods share the masked passes. Cost: 9·n_masks forward passes and the explanations."""
    results = measure(
        setting,
        "table-2",
        methods_of(setting, f"{PAPERS},random"),
        (METRIC,),
        images=setting.images(N_IMAGES),
    )
    along, axis = results.board.along[METRIC], results.evaluation.axes[METRIC]
    shares = tuple(f"{float(each):.0%}" for each in axis)
    cells = default_grid(min(setting.loaded.input_size[1:]))
    table = Table(
        f"Mean correlation over {results.n_images} images with its 95 % interval, "
        f"{setting.n_masks} masks of {cells}×{cells} cells, by the share of the cells removed; below each of "
        "the paper's methods its numbers (ResNet-18).",
        ("method", *shares),
        tuple(row for label in results.board.methods for row in _rows(results, label)),
    )
    verdicts = (_highest(results), _order(results))
    means = results.board.comparisons[METRIC].means
    findings = [finding(each) for each in verdicts]
    findings.append(
        "Mean over all shares: "
        + "; ".join(f"{label} {in_words(means[label])}" for label in results.board.methods)
        + "."
    )
    findings += omissions(results.left_out)
    return Exhibit(
        *EXHIBITS["table-2"].heading,
        tuple(findings),
        verdicts,
        (table,),
        (Picture("run/curves.png", "Correlation by the share removed; bands: 95 % intervals."),),
        {
            **leaderboard_record(results.board),
            "along": {label: [each.mean for each in along[label]] for label in along},
        },
        results.n_images,
    )


def _rows(results: Measurement, label: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(label, *(in_words(each) for each in results.board.along[METRIC][label]))]
    numbers = published.TABLE_2.get(results.methods[label][0])
    if numbers:
        rows.append(("paper", *(f"{each:.3f}" for each in numbers)))
    return rows


def _highest(results: Measurement) -> Verdict:
    rivals = [label for label in papers_labels(results.methods).values() if label != results.subject]
    if not rivals:
        return Verdict("sensitivity-n", "not testable here", "", "nothing to compare with was measured")
    values, axis = results.evaluation.values[METRIC], results.evaluation.axes[METRIC]
    # One claim about all shares: one correction for all of its comparisons.
    by_share: dict[str, Comparison] = adjusted_together(
        {
            f"{float(share):.0%}": compare(
                {label: values[label][:, place] for label in (results.subject, *rivals)},
                better="higher",
                reference=results.subject,
                groups=groups_of(results.evaluation),
                bounds=find_metric(METRIC).bounds,
            )
            for place, share in enumerate(axis)
        }
    )

    def decided(said: str, sign: int) -> list[str]:
        differences = by_share[said].differences
        return [
            label
            for label in rivals
            if differences[label].significant and sign * differences[label].interval.mean > 0
        ]

    highest = [said for said, each in by_share.items() if each.best == results.subject]
    significantly = [said for said in by_share if len(decided(said, -1)) == len(rivals)]
    beaten = {said: ahead for said in by_share if (ahead := decided(said, 1))}
    numbers = (
        f"{results.subject} is highest at {len(highest)} of {len(axis)} shares, significantly at "
        f"{len(significantly)}"
    )
    if beaten:
        names = sorted({name for each in beaten.values() for name in each})
        return Verdict(
            "sensitivity-n",
            "does not hold",
            numbers,
            f"{', '.join(names)} significantly higher at {', '.join(beaten)}",
        )
    if len(significantly) == len(axis):
        return Verdict(
            "sensitivity-n", "holds", numbers, f"significantly above all {len(rivals)} others everywhere"
        )
    every = [each for said in by_share.values() for each in said.differences.values()]
    return Verdict(
        "sensitivity-n",
        "undecided" if any(each.decidable for each in every) else "cannot be decided",
        numbers,
        reason(
            f"{results.n_images} images do not separate them everywhere",
            *every,
            unit=results.unit,
        ),
    )


def _order(results: Measurement) -> Verdict:
    six = papers_labels(results.methods)
    same, pairs = 0, 0
    for place in range(len(published.FRACTIONS)):
        ours = {name: results.board.along[METRIC][label][place].mean for name, label in six.items()}
        theirs = {name: numbers[place] for name, numbers in published.TABLE_2.items()}
        agreed, compared = pairs_in_order(ours, theirs)
        same, pairs = same + agreed, pairs + compared
    return Verdict(
        "table-2-order",
        "not testable here" if not pairs else "holds" if same == pairs else "does not hold",
        f"{same} of {pairs} pairs of methods are in the paper's order, over all shares",
        "without regard to significance; the paper's network is ResNet-18",
    )
