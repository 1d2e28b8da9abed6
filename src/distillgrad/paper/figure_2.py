"""Figure 2: the maps of FullGrad, IG and DGA under noise on the image, and their faithfulness."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from distillgrad.core.ranking import pixel_attributions
from distillgrad.metrics.noise import noise_robustness
from distillgrad.metrics.statistics import Better, adjusted_together, bootstrap_mean, compare
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import Methods, explainable, first_images, method_for, methods_of, omissions
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict, in_words, worst_of_all
from distillgrad.views.figures.explanation_figures import colours, save_figure, shared_scale

DEFAULT = "fullgrad,integrated_gradients(n_steps=31),dga"
SIGMAS = (0.05, 0.1, 0.2, 0.4)
N_IMAGES = 10
WORST = "fullgrad"
WORSE: tuple[tuple[str, Better, str], ...] = (
    ("maps", "higher", "rank correlation with the clean map"),
    ("scores", "lower", "loss of area between LeRF and MoRF"),
)


def make(setting: Setting) -> Exhibit:
    """Explain each image clean and under each strength. Cost: 5 explanations by each method, and curves."""
    images = setting.images(N_IMAGES)
    methods, left_out = explainable(setting, methods_of(setting, DEFAULT), images)
    names, inputs, target = first_images(setting, images, setting.limit or N_IMAGES)
    likeness: dict[str, np.ndarray] = {}
    area: dict[str, np.ndarray] = {}
    for label in methods:
        attribute = method_for(setting, label, methods).attribute

        def heat(images: Tensor, classes: object, attribute: object = attribute) -> Tensor:
            # Heat maps are compared, as the paper shows them: features of one pixel count together.
            return pixel_attributions(attribute(images, classes))[:, None]  # type: ignore[operator]

        parts = [
            noise_robustness(
                setting.fast,
                heat,
                inputs[[row]],
                target[[row]],
                sigmas=SIGMAS,
                seed=setting.seed,
                n_steps=setting.n_steps,
            )
            for row in range(len(inputs))
        ]
        likeness[label] = np.concatenate([each.spearman.cpu().numpy() for each in parts])
        area[label] = np.concatenate(
            [
                (each.lerf - each.morf).double().cpu().numpy()
                for each in parts
                if each.lerf is not None and each.morf is not None
            ]
        )
    groups = setting.groups(names)
    lost = {label: each[:, 0] - each[:, 1:].mean(1) for label, each in area.items()}
    save_figure(_maps(setting, methods, inputs[0], target[:1]), setting.folder("figure-2") / "figure.png")
    worst = next((label for label, (name, _) in methods.items() if name == WORST), None)
    verdicts: tuple[Verdict, ...] = tuple(
        Verdict(claim, "not testable here", "", f"{WORST} was not measured")
        for claim in ("noise-maps", "noise-scores")
    )
    if worst and len(methods) > 1:
        alike = {label: each.mean(1) for label, each in likeness.items()}
        claims = adjusted_together(
            {
                "maps": compare(alike, better="higher", reference=worst, groups=groups, bounds=(-1, 1)),
                "scores": compare(lost, better="lower", reference=worst, groups=groups, bounds=(-2, 2)),
            }
        )
        verdicts = tuple(
            worst_of_all(f"noise-{name}", claims[name], better, measure=measure, unit=setting.unit)
            for name, better, measure in WORSE
        )
    rows = tuple(
        (
            label,
            words,
            *(in_words(bootstrap_mean(column, groups=groups, bounds=(-1, 1))) for column in values.T),
        )
        for label in methods
        for words, values in (
            ("rank correlation", np.concatenate([np.ones((len(inputs), 1)), likeness[label]], 1)),
            ("area between", area[label]),
        )
    )
    return Exhibit(
        *EXHIBITS["figure-2"].heading,
        (
            *(finding(each) for each in verdicts),
            *omissions(left_out),
        ),
        verdicts,
        (
            Table(
                f"{len(inputs)} images; heat maps against that of the clean image, and the area "
                "between LeRF and "
                "MoRF of each on its own image; σ in units of the model's inputs.",
                ("method", "measure", "clean", *(f"σ = {sigma}" for sigma in SIGMAS)),
                rows,
            ),
        ),
        (Picture("figure.png", "An image under growing noise, and its maps.", shows_images=True),),
        {
            "images": names,
            "rank_correlation": {label: each.tolist() for label, each in likeness.items()},
            "area_between": {label: each.tolist() for label, each in area.items()},
        },
        len(inputs),
    )


def _maps(setting: Setting, methods: Methods, image: Tensor, target: Tensor) -> Figure:
    generator = torch.Generator().manual_seed(setting.seed)
    noise = torch.randn(image.shape, generator=generator, dtype=torch.float64, device="cpu").to(image)
    noisy = torch.stack([image + sigma * noise for sigma in (0.0, *SIGMAS)])
    figure = Figure(figsize=(2 * len(noisy), 2.1 * (1 + len(methods))), layout="constrained", dpi=100)
    axes = figure.subplots(1 + len(methods), len(noisy), squeeze=False)
    for place, picture in enumerate(setting.loaded.displayable(noisy.cpu())):
        axes[0, place].imshow(picture.permute(1, 2, 0).expand(-1, -1, 3).numpy())
        axes[0, place].set_title("clean" if not place else f"σ = {SIGMAS[place - 1]}", fontsize=9)
    for line, label in zip(axes[1:], methods, strict=True):
        attributions = method_for(setting, label, methods).attribute(noisy, target.expand(len(noisy)))
        maps = list(pixel_attributions(attributions).detach().double().cpu())
        for axis, each in zip(line, maps, strict=True):
            axis.imshow(colours(each, shared_scale([each])), interpolation="nearest")
        line[0].set_ylabel(label, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure
