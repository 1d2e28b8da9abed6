"""Figure 5: accuracy of networks trained without the pixels that explanations name."""

from __future__ import annotations

from distillgrad.metrics.statistics import compare
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, SUBJECT, asked_for
from distillgrad.paper.published import ROAR_EPOCHS, ROAR_TRIALS
from distillgrad.paper.verdicts import Verdict, best_of_all
from distillgrad.runs.manifest import MANIFEST, read_json
from distillgrad.runs.roar import RoarRequest, roar
from distillgrad.sources.roar_data import subject_of
from distillgrad.views.retraining import record_of, save_roar, summary_rows

N_TRIALS = 8
"""The fewest with which a sign-flip test against five others can be significant: 5·2/2⁸ = 0.039."""
FRACTIONS = (0.1, 0.5, 0.9)


def make(setting: Setting) -> Exhibit:
    """Makes, or goes on with, a ROAR run of eight trials at three shares. Cost: as ``distillgrad roar``."""
    methods = asked_for(setting, PAPERS)
    request = RoarRequest(
        data=setting.roar_data,
        methods=methods,
        fractions=FRACTIONS,
        n_trials=N_TRIALS,
        seed=setting.seed,
    )
    folder = setting.folder("figure-5") / "run"
    found = roar(subject_of(setting.roar_data), request, folder, device=setting.roar_device)
    title = f"ROAR on {setting.roar_data}, {N_TRIALS} trials"
    save_roar(found, read_json(folder / MANIFEST), folder, title, "share of the pixels removed")
    subject = next(label for label, (name, _) in methods.items() if name == SUBJECT)
    whole = compare(
        {label: found[label].accuracies.mean(0).numpy() for label in methods},
        better="lower",
        reference=subject,
    )
    first = compare(
        {label: found[label].accuracies[0].numpy() for label in (subject, "random")},
        better="lower",
        reference=subject,
    )
    plain = float(found["none"].mean)
    fallen = {label: plain - float(found[label].mean[0]) for label in (subject, "random")}
    lead = first.differences["random"]
    steep = lead.significant and lead.interval.mean > 0
    share = f"{request.fractions[0]:.0%}"
    verdicts = (
        best_of_all("roar", whole, "lower", measure="accuracy, mean over all shares"),
        Verdict(
            "roar-steep",
            "holds" if steep else "does not hold" if lead.significant else "undecided",
            f"with {share} removed accuracy falls from {plain:.3f} by {fallen[subject]:.3f} "
            f"for {subject}, by "
            f"{fallen['random']:.3f} for random pixels",
            "more than for random pixels"
            if steep
            else "less than for random pixels"
            if lead.significant
            else f"{N_TRIALS} trials cannot tell it from random pixels",
        ),
    )
    heads, rows = summary_rows(found)
    where = f"{setting.roar_data}; the paper: CIFAR-10, {ROAR_TRIALS} trials of {ROAR_EPOCHS} epochs"
    return Exhibit(
        "figure-5",
        "Remove and retrain",
        "Figure 5, §4.3",
        tuple(f"{each.claim}: {each.outcome}: {each.numbers}; {each.why} ({where})." for each in verdicts),
        verdicts,
        (
            Table(
                f"Test accuracy in %, mean ± standard error of {N_TRIALS} trials, by the share "
                f"removed; {where}.",
                heads,
                tuple(rows),
            ),
        ),
        (Picture("run/roar.png", f"Test accuracy by the share of the pixels removed, {setting.roar_data}."),),
        record_of(found, read_json(folder / MANIFEST)),
    )
