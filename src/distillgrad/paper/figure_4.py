"""Figure 4: the anchors of DGA under the weak mask alone and under both, and their saturation."""

from __future__ import annotations

import numpy as np
import torch

from distillgrad.core.ranking import pixel_attributions
from distillgrad.explanations.distillation import SEQUENCES, distil
from distillgrad.methods.dga import DistilledGradientAggregation
from distillgrad.metrics.similarity import top_overlap
from distillgrad.metrics.statistics import Groups, Interval, bootstrap_mean, compare
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import first_images
from distillgrad.paper.published import EPC_QUANTILE, N_STEPS
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict, in_words, outcome_of, p_in_words, reason
from distillgrad.views.figures.explanation_figures import distillation_figure, save_figure

N_IMAGES = 12
LATE = 2 * N_STEPS // 3
"""The latest step compared: later, ties of removed pixels fill the top 10 % under the weak mask alone."""


def make(setting: Setting) -> Exhibit:
    """Draw the first image's strips, measure on more images. Cost: 2(N+1) gradient passes an image."""
    images = setting.images(N_IMAGES)
    names, inputs, target = first_images(setting, images, setting.limit or N_IMAGES)
    chosen = None if setting.target is None else setting.loaded.class_index(setting.target)
    image = next(images[place].image for place, name in enumerate(images.ids) if name == names[0])
    distilled = distil(setting.loaded, image, target=chosen, n_steps=N_STEPS, epc_quantile=EPC_QUANTILE)
    title = f"{names[0]}, distilled for {distilled.target_name}"
    figure = distillation_figure(distilled.sequences, distilled.display, 8, title)
    figure.set_dpi(80)
    save_figure(figure, setting.folder("figure-4") / "figure.png")
    stuck: dict[str, list[float]] = {name: [] for name in SEQUENCES}
    left: dict[str, list[float]] = {name: [] for name in SEQUENCES}
    for row in range(len(inputs)):
        for name, masks in SEQUENCES.items():
            method = DistilledGradientAggregation(setting.fast, N_STEPS, EPC_QUANTILE, masks=masks)
            steps = method.distill(inputs[[row]], target[[row]])
            maps = pixel_attributions(steps.attributions[[N_STEPS // 2, LATE], 0])
            stuck[name].append(float(top_overlap(maps[:1], maps[1:])))
            left[name].append(float((steps.anchors[-1] != 0).double().mean()))
    groups = setting.groups(names)
    verdicts = (_saturation(stuck, groups, setting.unit), _ends_empty(left, groups))
    intervals = {name: tuple(_mean(shares[name], groups) for shares in (stuck, left)) for name in SEQUENCES}
    return Exhibit(
        *EXHIBITS["figure-4"].heading,
        tuple(finding(each) for each in verdicts),
        verdicts,
        (
            Table(
                f"{len(inputs)} images: the top 10 % of the pixels that the local attributions at "
                f"n = {N_STEPS // 2} "
                f"and n = {LATE} have in common, and the share of the features that are not "
                f"zero at n = {N_STEPS}.",
                ("masks", "common top 10 %", "features left"),
                tuple((name, *map(in_words, each)) for name, each in intervals.items()),
            ),
        ),
        (Picture("figure.png", f"Anchors above their local attributions: {title}.", shows_images=True),),
        {
            "images": names,
            "common": stuck,
            "left": left,
            "last_scores": {name: float(each.scores[-1, 0]) for name, each in distilled.sequences.items()},
            "last_anchor_features": {
                name: float(torch.count_nonzero(each.anchors[-1, 0]))
                for name, each in distilled.sequences.items()
            },
        },
        len(inputs),
    )


def _mean(shares: list[float], groups: Groups | None) -> Interval:
    return bootstrap_mean(np.array(shares), groups=groups, bounds=(0, 1))


def _saturation(stuck: dict[str, list[float]], groups: Groups | None, unit: str) -> Verdict:
    comparison = compare(
        {name: np.array(each) for name, each in stuck.items()},
        better="lower",
        reference="WC + EPC",
        groups=groups,
        bounds=(0, 1),
    )
    difference = comparison.differences["WC"]
    more = difference.interval.mean > 0
    return Verdict(
        "saturation",
        outcome_of(difference, more),
        f"top 10 % common to n = {N_STEPS // 2} and n = {LATE}: "
        f"WC {in_words(comparison.means['WC'])}, "
        f"WC + EPC {in_words(comparison.means['WC + EPC'])}; {p_in_words(difference)}",
        reason(
            "what is strongest halfway is more often still strongest later under WC alone"
            if more
            else "under WC alone the strongest pixels change no less",
            difference,
            unit=unit,
        ),
    )


def _ends_empty(left: dict[str, list[float]], groups: Groups | None) -> Verdict:
    shares = {name: _mean(each, groups) for name, each in left.items()}
    empty = all(each.mean == 0 for each in shares.values())
    return Verdict(
        "ends-empty",
        "holds" if empty else "does not hold",
        "features not zero at x̃(N): "
        + ", ".join(f"{name} {in_words(each)}" for name, each in shares.items()),
        "by eq. 11 x̃(N) comes from the masks of step N−1, which keep some",
    )
