"""Figure 6: methods side by side, heat map above the most relevant pixels; sharpness, noise and place."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from distillgrad.core.ranking import most_relevant, pixel_attributions
from distillgrad.methods.base import Method
from distillgrad.metrics.concentration import sparseness
from distillgrad.metrics.localisation import mass_inside
from distillgrad.metrics.statistics import Comparison, Groups, adjusted_together, bootstrap_mean, compare
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import (
    PAPERS,
    Methods,
    explainable,
    first_images,
    method_for,
    methods_of,
    omissions,
    papers_labels,
)
from distillgrad.paper.mosaics import mosaics
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict, best_of_all, in_words, outcome_of, p_in_words, reason
from distillgrad.views.figures.explanation_figures import (
    TOP_FRACTION,
    colours,
    relevant_pixels,
    save_figure,
    shared_scale,
)

N_IMAGES = 20
N_ROWS = 4
AGAINST = (
    ("ig-noisy", "neighbours", "integrated_gradients", "the share of neighbours tells patches from noise"),
    ("sharp", "sparseness", "fullgrad", "the Gini index stands for sharpness, which the paper only shows"),
)
"""The claims: of each the measure, the method that DGA is put beside, and what the measure stands for."""


def make(setting: Setting) -> Exhibit:
    """Explain, draw the first four, measure all. Cost: two explanations by each method and image."""
    images = setting.images(N_IMAGES)
    names, inputs, target = first_images(setting, images, setting.limit or N_IMAGES)
    methods, left_out = explainable(setting, methods_of(setting, PAPERS), images)
    maps = {label: _maps(method_for(setting, label, methods), inputs, target) for label in methods}
    save_figure(_grid(setting, inputs, target, maps), setting.folder("figure-6") / "figure.png")
    measures = {
        "sparseness": {label: sparseness(each[:, None]).numpy() for label, each in maps.items()},
        "neighbours": {label: neighbours(each).numpy() for label, each in maps.items()},
        "quarter": _in_quarters(setting, methods, inputs, target),
    }
    six = papers_labels(methods)
    groups = setting.groups(names)
    claims = _compared(measures, six, groups)
    verdicts = (*_against(claims, six, setting.unit), _aligned(claims, setting.unit))
    findings = [finding(each) for each in verdicts]
    findings += omissions(left_out)
    return Exhibit(
        *EXHIBITS["figure-6"].heading,
        tuple(findings),
        verdicts,
        (
            Table(
                f"{len(inputs)} images. Sparseness: Gini index of the map. Neighbours: of the four "
                "neighbours of a top-10 % pixel, the share that is in the top 10 % itself; 10 % in a map of "
                "noise. Quarter: in mosaics of four images, halved in size, of the positive attribution to "
                "one's class the share that lies on it; 25 % by chance.",
                ("method", *measures),
                tuple(
                    (
                        label,
                        *(
                            in_words(bootstrap_mean(each[label], groups=groups, bounds=(0, 1)))
                            for each in measures.values()
                        ),
                    )
                    for label in methods
                ),
            ),
        ),
        (
            Picture(
                "figure.png", "Heat maps above the 10 % of the pixels that count most.", shows_images=True
            ),
        ),
        {
            "images": names,
            **{name: {k: v.tolist() for k, v in each.items()} for name, each in measures.items()},
        },
        len(inputs),
    )


def neighbours(maps: Tensor, fraction: float = TOP_FRACTION) -> Tensor:
    """Return the share of top pixels among the neighbours of top pixels, ``(B,)`` for maps ``(B, H, W)``.

    The fraction itself for a map of noise, near 1 for one patch; neighbours across the border do not count.
    """
    top = most_relevant(maps.flatten(1), fraction).view_as(maps).double()
    everywhere = torch.ones_like(top)
    beside = [
        (values[:, 1:] * top[:, :-1] + values[:, :-1] * top[:, 1:]).sum((1, 2))
        for values in (top, everywhere)
    ]
    below = [
        (values[:, :, 1:] * top[:, :, :-1] + values[:, :, :-1] * top[:, :, 1:]).sum((1, 2))
        for values in (top, everywhere)
    ]
    return (beside[0] + below[0]) / (beside[1] + below[1])


def _compared(
    measures: dict[str, dict[str, NDArray[np.float64]]], six: dict[str, str], groups: Groups | None
) -> dict[str, Comparison]:
    """Return the comparisons that the claims rest on; all are corrected together."""
    subject, claims = six["dga"], {}
    compared = [(claim, measure, [rival]) for claim, measure, rival, _ in AGAINST if rival in six]
    for claim, measure, rivals in [*compared, ("aligned", "quarter", list(six))]:
        labels = dict.fromkeys([subject, *(six[rival] for rival in rivals)])
        values = {label: measures[measure][label] for label in labels}
        claims[claim] = compare(values, better="higher", reference=subject, groups=groups, bounds=(0, 1))
    return adjusted_together(claims)


def _against(claims: dict[str, Comparison], six: dict[str, str], unit: str) -> list[Verdict]:
    """Return the verdicts on DGA against IG in noise, and against FullGrad in sharpness."""
    verdicts = []
    for claim, measure, rival, why in AGAINST:
        if claim not in claims:
            verdicts.append(Verdict(claim, "not testable here", "", f"{rival} was not measured"))
            continue
        subject, other, comparison = six["dga"], six[rival], claims[claim]
        difference = comparison.differences[other]
        ahead = difference.interval.mean < 0
        verdicts.append(
            Verdict(
                claim,
                outcome_of(difference, ahead),
                f"{measure}: {subject} {in_words(comparison.means[subject])}, {other} "
                f"{in_words(comparison.means[other])}, {p_in_words(difference)}",
                reason(why, difference, unit=unit),
            )
        )
    return verdicts


def _maps(method: Method, inputs: Tensor, target: Tensor) -> Tensor:
    """Return heat maps ``(B, H, W)``, made one image at a time."""
    maps = [pixel_attributions(method.attribute(inputs[[row]], target[[row]])) for row in range(len(inputs))]
    return torch.cat(maps).detach().double().cpu()


def _in_quarters(
    setting: Setting, methods: Methods, inputs: Tensor, target: Tensor
) -> dict[str, NDArray[np.float64]]:
    """Return, by method, the share of the positive attribution in the target's quarter of each mosaic."""
    made, classes, inside = mosaics(inputs, target)
    shares = {}
    for label in methods:
        values = torch.full((len(inputs),), torch.nan, dtype=torch.float64, device="cpu")
        if len(made):
            maps = _maps(method_for(setting, label, methods), made, classes)
            values[: len(made)] = mass_inside(maps[:, None], inside.cpu())
        shares[label] = values.numpy()
    return shares


def _aligned(claims: dict[str, Comparison], unit: str) -> Verdict:
    comparison = claims["aligned"]
    if not comparison.means[comparison.reference].n:
        return Verdict("aligned", "not testable here", "", "no four images of different classes for a mosaic")
    return best_of_all(
        "aligned",
        comparison,
        "higher",
        measure="positive attribution in the target's quarter of a mosaic",
        unit=unit,
    )


def _grid(setting: Setting, inputs: Tensor, target: Tensor, maps: dict[str, Tensor]) -> Figure:
    n_rows = min(N_ROWS, len(inputs))
    figure = Figure(figsize=(1.6 * (1 + len(maps)), 3.3 * n_rows), layout="constrained", dpi=80)
    axes = figure.subplots(2 * n_rows, 1 + len(maps), squeeze=False)
    for row in range(n_rows):
        picture = setting.loaded.displayable(inputs[row].cpu()).permute(1, 2, 0).expand(-1, -1, 3)
        upper, lower = axes[2 * row], axes[2 * row + 1]
        upper[0].imshow(picture.numpy())
        upper[0].set_title(setting.loaded.classes[int(target[row])][:24], fontsize=8)
        lower[0].axis("off")
        for place, (label, each) in enumerate(maps.items(), start=1):
            upper[place].imshow(colours(each[row], shared_scale([each[row]])), interpolation="nearest")
            lower[place].imshow(relevant_pixels(picture, each[row]), interpolation="nearest")
            if not row:
                upper[place].set_title(label.replace("(", "\n("), fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure
