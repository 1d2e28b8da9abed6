"""Figure 5: accuracy of networks trained without the pixels that explanations name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distillgrad.errors import ParameterError, SourceError
from distillgrad.metrics.roar import Roar
from distillgrad.metrics.statistics import Comparison, adjusted_together, compare
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import PAPERS, SUBJECT, methods_of
from distillgrad.paper.published import ROAR_EPOCHS, ROAR_TRIALS
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict, best_of_all, in_words, listed, outcome_of, p_in_words, reason
from distillgrad.runs.manifest import MANIFEST, read_json
from distillgrad.runs.roar.runner import RoarRequest, roar
from distillgrad.sources.roar_data import subject_of
from distillgrad.views.roar import roar_record, roar_rows, save_roar

N_TRIALS = 8
"""The fewest trials with which five others, and random pixels, can be told apart: 6·2/2⁸ = 0.047."""
FRACTIONS = (0.1, 0.5, 0.9)


def make(setting: Setting) -> Exhibit:
    """Take the setting's run, or make (or go on with) one of eight trials at three shares.

    Cost: as ``distillgrad roar``, if the setting names no run.
    """
    folder = setting.roar_run or setting.folder("figure-5") / "run"
    roars, request = _kept(folder) if setting.roar_run else _made(setting, folder)
    data, training = str(request["data"]["from"]).partition(":")[0], request["training"]
    n_trials = len(roars["none"].accuracies[0])
    where = f"{data}, {_n_train(folder)}{n_trials} trials of {training['n_epochs']} epochs"
    save_roar(roars, request, setting.folder("figure-5"), f"ROAR on {where}", "share of the pixels removed")
    subject = next(label for label, (name, _) in request["methods"].items() if name == SUBJECT)
    explained = {label: each for label, each in roars.items() if label not in ("none", "random")}
    means = {label: each.accuracies.mean(0).numpy() for label, each in explained.items()}
    claims = adjusted_together(
        {
            "roar": compare(means, better="lower", reference=subject, bounds=(0, 1)),
            "steep": _lost_at_first(roars, subject),
        }
    )
    verdicts = (
        best_of_all("roar", claims["roar"], "lower", measure="accuracy, mean over all shares", unit="trials"),
        _steep(roars, subject, claims["steep"]),
    )
    heads, rows = roar_rows(roars)
    findings = [*(finding(each) for each in verdicts), *_by_share(roars, subject)]
    findings.append(
        f"Trained here: {where}; the paper: CIFAR-10, {ROAR_TRIALS} trials of {ROAR_EPOCHS} epochs."
    )
    return Exhibit(
        *EXHIBITS["figure-5"].heading,
        tuple(findings),
        verdicts,
        (
            Table(
                f"Test accuracy in %, mean ± standard error, by the share removed; {where}.",
                heads,
                tuple(rows),
            ),
        ),
        (Picture("roar.png", f"Test accuracy by the share of the pixels removed, {data}."),),
        roar_record(roars, request),
        subject=where,
    )


def _made(setting: Setting, folder: Path) -> tuple[Mapping[str, Roar], Mapping[str, Any]]:
    request = RoarRequest(
        data=setting.roar_data,
        methods=methods_of(setting, PAPERS),
        fractions=FRACTIONS,
        n_trials=N_TRIALS,
        seed=setting.seed,
    )
    roars = roar(subject_of(setting.roar_data), request, folder, device=setting.roar_device)
    return roars, read_json(folder / MANIFEST)


def _kept(folder: Path) -> tuple[Mapping[str, Roar], Mapping[str, Any]]:
    """Return a finished run's accuracies and request.

    Raises:
        SourceError: it is not there, not finished, or in another layout.
        ParameterError: another experiment than the paper's.
    """
    path = folder / "roar.json"
    content = read_json(path)
    try:
        request: Mapping[str, Any] = content["request"]
        roars = {
            label: Roar(
                torch.tensor(each["fractions"], dtype=torch.float64, device="cpu"),
                torch.tensor(each["accuracies"], dtype=torch.float64, device="cpu"),
            )
            for label, each in content["explanations"].items()
        }
        other = request["keep"] or not request["retrain"]
        names = [name for name, _ in request["methods"].values()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(f"{path} is in another layout: {error!r}; make the run anew") from error
    if other or SUBJECT not in names:
        raise ParameterError(f"{folder} holds no run that retrains without the pixels that {SUBJECT} names")
    return roars, request


def _n_train(folder: Path) -> str:
    """Return the number of train images in words, which a run tells only by the ranks of their pixels."""
    ranks = next((folder / "ranks").glob("*.train.npy"), None)
    return f"{len(np.load(ranks, mmap_mode='r')):,} train images, " if ranks else ""


def _lost_at_first(roars: Mapping[str, Roar], subject: str) -> Comparison:
    """Return the comparison of DGA's first share with the same share of random pixels, in accuracy lost."""
    lost = {
        label: (roars["none"].accuracies[0] - roars[label].accuracies[0]).numpy()
        for label in (subject, "random")
    }
    return compare(lost, better="higher", reference=subject, bounds=(-1, 1))


def _steep(roars: Mapping[str, Roar], subject: str, comparison: Comparison) -> Verdict:
    """Return the verdict: DGA's first share costs more than the same share of random pixels, or not."""
    share = f"{float(roars[subject].fractions[0]):.0%}"
    lead = comparison.differences["random"]
    more = lead.interval.mean < 0
    return Verdict(
        "roar-steep",
        outcome_of(lead, more),
        f"accuracy lost with {share} of the pixels: {subject} {in_words(comparison.means[subject])}, "
        f"random {in_words(comparison.means['random'])}, {p_in_words(lead)}",
        reason(
            f"{'more' if more else 'no more'} than with random pixels"
            if lead.significant
            else f"{lead.interval.n} trials cannot tell it from random pixels",
            lead,
            unit="trials",
        ),
    )


def _by_share(roars: Mapping[str, Roar], subject: str) -> list[str]:
    """Return sentences on the lowest accuracy at each share, and on shares where random pixels have it."""
    lowest = {
        f"{float(share):.0%}": min(
            (label for label in roars if label != "none"),
            key=lambda label: float(roars[label].mean[place]),
        )
        for place, share in enumerate(roars[subject].fractions)
    }
    words = [
        "Lowest mean accuracy: " + ", ".join(f"{name} at {share}" for share, name in lowest.items()) + "."
    ]
    by_chance = [share for share, name in lowest.items() if name == "random"]
    if by_chance:
        words.append(
            f"At {listed(by_chance)} random pixels cost the most: what explanations remove leaves holes in "
            "the shape of the class, which a network learns to read (the known weakness of ROAR)."
        )
    return words
