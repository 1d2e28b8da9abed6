"""Draw the pictures of the site: the photograph that scikit-image ships, explained on SqueezeNet 1.1.

    python docs/make/pictures.py torchvision:squeezenet1_1 [NAME …]

Each is drawn for the light and for the dark theme, ``x.webp`` and ``x-dark.webp``, except the strips of the
methods' pages. Only the photograph and numbers made from it are in them.
"""

from __future__ import annotations

import argparse
import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from torch import Tensor

import distillgrad as dg
from distillgrad.core.ranking import removal_ranks
from distillgrad.methods.dga import (
    Distillation,
    extreme_positive_contributor_mask,
    weak_contributor_mask,
)
from distillgrad.sources.images import sample_photograph
from distillgrad.views.figures.explanation_figures import (
    colours,
    heat_map,
    overlay,
    relevant_pixels,
    shared_scale,
)

IMAGES = Path(__file__).resolve().parents[1] / "images"
TIGER_CAT, EGYPTIAN_CAT = 282, 285
WIDTH = 7.9
DPI = 200
LARGEST = 240_000
ANCHORS = (0, 1, 4, 8, 14, 20, 26, 30)


@dataclass(frozen=True)
class Theme:
    """The colours of one theme of the site."""

    suffix: str
    ink: str
    quiet: str
    lines: tuple[str, ...]


LIGHT = Theme("", "#22252b", "#5b6472", ("#b4400c", "#1d6fa5", "#6b7280", "#2f7d4f"))
DARK = Theme("-dark", "#e6e8ee", "#aab1bf", ("#ff9a5c", "#6cb8ea", "#aab1bf", "#7fd09b"))


@dataclass(frozen=True)
class Scene:
    """The photograph and the network that all pictures share."""

    loaded: dg.LoadedModel

    @cached_property
    def inputs(self) -> Tensor:
        return self.loaded.preprocess(dg.read_image(sample_photograph()))[None]

    @cached_property
    def picture(self) -> Tensor:
        return self.display(self.inputs[0])

    @cached_property
    def steps(self) -> Distillation:
        return self.dga().distill(self.inputs, TIGER_CAT)

    @cached_property
    def weak(self) -> Distillation:
        return self.dga(masks="weak").distill(self.inputs, TIGER_CAT)

    def dga(self, **parameters: Any) -> dg.DistilledGradientAggregation:
        return dg.DGA(self.loaded.model, **parameters)

    def map_of(self, name: str, target: Any = TIGER_CAT, **parameters: Any) -> Tensor:
        """Return the heat map of a method, ``(H, W)``."""
        return heat_map(
            dg.create_method(name, self.loaded.model, **parameters).attribute(self.inputs, target)[0]
        )

    def display(self, inputs: Tensor) -> Tensor:
        """Return inputs as a picture, ``(H, W, 3)`` in [0, 1]."""
        return self.loaded.displayable(inputs).permute(1, 2, 0)


Picture = Callable[[Scene, Theme], Figure]


def panels(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(
        figsize=(WIDTH, height * WIDTH / 10), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03), dpi=DPI
    )
    return figure, figure.subplots(rows, columns, squeeze=False)


def show(axis: Any, pixels: Any, title: str, theme: Theme, size: float = 10) -> None:
    axis.imshow(np.asarray(pixels), interpolation="nearest", vmin=0, vmax=1, cmap="gray")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(title, fontsize=size, color=theme.ink)


def chart(axis: Any, x: str, y: str, theme: Theme) -> None:
    axis.set_facecolor("none")
    axis.tick_params(colors=theme.quiet, labelsize=9)
    axis.set_xlabel(x, color=theme.ink, fontsize=10)
    axis.set_ylabel(y, color=theme.ink, fontsize=10)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.quiet)


def painted(pixels: Tensor, together: Sequence[Tensor] = ()) -> Any:
    return colours(pixels, shared_scale(together or [pixels]))


def tangent(scene: Scene, theme: Theme) -> Figure:
    """Draw the logit between the baseline and the image, and its tangent at the image."""
    alphas = torch.linspace(0, 1, 201)
    with torch.no_grad():
        logits = torch.cat(
            [
                scene.loaded.model(part[:, None, None, None] * scene.inputs)[:, TIGER_CAT]
                for part in torch.split(alphas, 40)
            ]
        )
    slope = float(scene.map_of("gradient_x_input").sum())
    value = float(logits[-1])
    figure, axes = panels(1, 1, 3.6)
    axis = axes[0, 0]
    chart(axis, "from the baseline (0) to the image (1)", "logit of “tiger cat”", theme)
    axis.plot(alphas, logits, color=theme.lines[1], lw=2)
    axis.plot([0, 1], [value - slope, value], color=theme.lines[0], lw=1.6, ls="--")
    axis.plot([1], [value], "o", color=theme.lines[0])
    axis.annotate(
        f"f(x) = {value:.1f}",
        (1, value),
        (-8, 2),
        textcoords="offset points",
        color=theme.ink,
        ha="right",
        va="bottom",
    )
    axis.annotate(
        f"the bias term, f(x) − ⟨∇f, x−b⟩ = {value - slope:.1f}",
        *((0, value - slope), (14, -16)),
        textcoords="offset points",
        color=theme.lines[0],
        ha="left",
    )
    axis.annotate(
        f"rise along the tangent, ⟨∇f, x−b⟩ = {slope:.1f}:\nwhat Gradient×Input shares out",
        *((0.62, value - 0.38 * slope), (0, -14)),
        textcoords="offset points",
        color=theme.lines[0],
        ha="left",
        va="top",
    )
    axis.annotate(
        "the network",
        *((0.22, float(logits[44])), (-4, 8)),
        textcoords="offset points",
        color=theme.lines[1],
        ha="right",
    )
    axis.set_ylim(min(float(logits.min()), 0) - 3, max(value, value - slope) + 4)
    return figure


def locals_(scene: Scene, theme: Theme) -> Figure:
    """Draw the same class by one gradient, one gradient with biases, and thirty-one."""
    figure, axes = panels(2, 5, 4.9)
    names = {
        "gradient_x_input": "Gradient×Input",
        "uniform_fullgrad": "Uniform FullGrad",
        "fullgrad": "FullGrad",
        "dga": "DGA",
    }
    show(axes[0, 0], scene.picture, "what the network sees", theme)
    axes[1, 0].axis("off")
    for column, (name, title) in enumerate(names.items(), start=1):
        pixels = scene.map_of(name)
        show(axes[0, column], painted(pixels), title, theme)
        show(axes[1, column], relevant_pixels(scene.picture, pixels), "its top 10 %", theme, 9)
    return figure


def masks(scene: Scene, theme: Theme) -> Figure:
    """Draw line 4 of the algorithm at one step."""
    n, n_steps = 14, 30
    local = scene.steps.attributions[n]
    weak = weak_contributor_mask(local, n, n_steps)
    extreme = extreme_positive_contributor_mask(local, 0.9)
    both = n / n_steps * weak + (1 - n / n_steps) * extreme
    figure, axes = panels(1, 6, 2.25)
    show(axes[0, 0], scene.display(scene.steps.anchors[n, 0]), f"x̃({n})", theme)
    show(axes[0, 1], painted(heat_map(local[0])), f"φ(x̃({n}))", theme)
    show(axes[0, 2], weak[0].mean(0), "weak mask: keeps\nthe largest |φ|", theme, 8)
    show(axes[0, 3], extreme[0].mean(0), "extreme mask:\ndrops the highest φ", theme, 8)
    show(axes[0, 4], both[0].mean(0), f"M = {n}/30 weak\n+ {n_steps - n}/30 extreme", theme, 8)
    show(axes[0, 5], scene.display(scene.steps.anchors[n + 1, 0]), f"x̃({n + 1})", theme)
    return figure


def sequence(scene: Scene, theme: Theme) -> Figure:
    """Draw anchors above their local attributions, under the weak mask alone and under both."""
    figure, axes = panels(4, len(ANCHORS), 5.9)
    for block, (words, steps) in enumerate({"weak mask": scene.weak, "both masks": scene.steps}.items()):
        maps = [heat_map(steps.attributions[n, 0]) for n in ANCHORS]
        for column, n in enumerate(ANCHORS):
            score = float(steps.scores[n, 0])
            anchor = scene.display(steps.anchors[n, 0])
            show(axes[2 * block, column], anchor, f"n = {n}\nlogit {score:.1f}", theme, 9)
            show(axes[2 * block + 1, column], painted(maps[column], maps), "", theme)
        axes[2 * block, 0].set_ylabel(f"{words}:\nanchor", fontsize=9, color=theme.ink)
        axes[2 * block + 1, 0].set_ylabel("local\nattribution", fontsize=9, color=theme.ink)
    return figure


def aggregation(scene: Scene, theme: Theme) -> Figure:
    """Draw the mean of positive parts after some of the anchors."""
    chosen = (1, 2, 5, 10, 20, 31)
    figure, axes = panels(1, len(chosen), 2.05)
    for column, count in enumerate(chosen):
        mean = scene.steps.attributions[:count, 0].clamp(min=0).mean(0)
        show(axes[0, column], painted(heat_map(mean)), f"{count} anchor{'s' if count > 1 else ''}", theme)
    return figure


def removed(scene: Scene, pixels: Tensor, fraction: float, most: bool) -> Tensor:
    """Return the input without a fraction of its pixels, by rank."""
    ranks = removal_ranks(pixels.reshape(1, -1), highest_first=most).view(pixels.shape)
    return scene.inputs * (ranks >= round(fraction * pixels.numel()))


def perturbation(scene: Scene, theme: Theme) -> Figure:
    """Draw the probability while pixels are removed, the most or the least relevant first."""
    maps = {name: scene.map_of(name) for name in ("dga", "fullgrad", "random")}
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained", dpi=DPI)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    left, right = halves
    left.set_facecolor("none")
    right.set_facecolor("none")
    axes = left.subplots(2, 3)
    for row, most in enumerate((True, False)):
        for column, fraction in enumerate((0.1, 0.3, 0.6)):
            show(axes[row, column], scene.display(removed(scene, maps["dga"], fraction, most)[0]), "", theme)
            axes[0, column].set_title(f"{fraction:.0%} removed", fontsize=9, color=theme.ink)
        axes[row, 0].set_ylabel(
            f"DGA, {'most' if most else 'least'}\nrelevant first", fontsize=9, color=theme.ink
        )
    axis = right.subplots()
    chart(axis, "share of the pixels removed", "probability of “tiger cat”", theme)
    curves = dg.metrics.morf_and_lerf(
        scene.loaded.model,
        scene.inputs,
        TIGER_CAT,
        {name: each[None, None].float() for name, each in maps.items()},
        n_steps=50,
    )
    for colour, (name, both) in zip(theme.lines, curves.items(), strict=False):
        axis.plot(
            both.lerf.fractions, both.lerf.probabilities[0], color=colour, lw=1.8, label=f"{name}, LeRF"
        )
        axis.plot(
            both.morf.fractions,
            both.morf.probabilities[0],
            color=colour,
            lw=1.8,
            ls=":",
            label=f"{name}, MoRF",
        )
    axis.legend(fontsize=8, frameon=False, labelcolor=theme.ink, loc="upper right")
    return figure


def sensitivity(scene: Scene, theme: Theme) -> Figure:
    """Draw the sums of a map over random cells beside the drop of the logit without them."""
    maps = {"dga": scene.map_of("dga"), "gradient_x_input": scene.map_of("gradient_x_input")}
    generator = torch.Generator().manual_seed(0)
    gone = torch.rand(60, 196, generator=generator).argsort(1) < 59
    masks_ = gone.float().view(-1, 1, 14, 14).repeat_interleave(16, 2).repeat_interleave(16, 3)
    with torch.no_grad():
        whole = scene.loaded.model(scene.inputs)[0, TIGER_CAT]
        drops = torch.cat(
            [
                whole - scene.loaded.model(scene.inputs * (1 - part))[:, TIGER_CAT]
                for part in torch.split(masks_, 20)
            ]
        )
    figure, axes = panels(1, 3, 3.3)
    show(
        axes[0, 0],
        scene.display((scene.inputs * (1 - masks_[0]))[0]),
        "one of the masks:\n30 % of 196 cells",
        theme,
    )
    for axis, colour, (name, pixels) in zip(axes[0, 1:], theme.lines, maps.items(), strict=False):
        sums = (masks_[:, 0] * pixels).sum((1, 2))
        correlation = float(torch.corrcoef(torch.stack([sums.double(), drops.double()]))[0, 1])
        chart(axis, "sum of the map in the removed cells", "drop of the logit", theme)
        axis.plot(sums, drops, "o", color=colour, ms=4, alpha=0.75)
        axis.set_title(f"{name}:\ncorrelation {correlation:.2f}", fontsize=10, color=theme.ink)
    return figure


def retraining(scene: Scene, theme: Theme) -> Figure:
    """Draw the images that a network learns from in ROAR."""
    pixels = scene.map_of("dga")
    mean = scene.inputs.mean((2, 3), keepdim=True)
    shares = (0, 0.1, 0.3, 0.5, 0.7, 0.9)
    figure, axes = panels(1, len(shares), 2.05)
    for column, fraction in enumerate(shares):
        ranks = removal_ranks(pixels.reshape(1, -1), highest_first=True).view(pixels.shape)
        seen = torch.where(ranks < round(fraction * pixels.numel()), mean, scene.inputs)
        show(axes[0, column], scene.display(seen[0]), f"{fraction:.0%} removed", theme)
    return figure


def rounding(scene: Scene, theme: Theme) -> Figure:
    """Draw the same method, image and network in two precisions."""
    single = scene.map_of("dga")
    network = scene.loaded.model.double()
    double = heat_map(dg.DGA(network).attribute(scene.inputs.double(), TIGER_CAT)[0])
    scene.loaded.model.float()
    figure, axes = panels(1, 4, 3.2)
    pair = [single, double]
    show(axes[0, 0], painted(single, pair), "float32", theme)
    show(axes[0, 1], painted(double, pair), "float64", theme)
    show(axes[0, 2], painted(single - double), "their difference", theme)
    overlap = float(dg.metrics.top_overlap(single[None], double[None])[0])
    tops = [each >= each.flatten().quantile(0.9) for each in pair]
    common = torch.stack([tops[0] & ~tops[1], tops[0] & tops[1], tops[1] & ~tops[0]], -1).double()
    show(
        axes[0, 3], 0.15 + 0.8 * common, f"top 10 % of the pixels:\n{overlap:.0%} in common (green)", theme, 9
    )
    return figure


def targets(scene: Scene, theme: Theme) -> Figure:
    """Draw two classes and their difference."""
    pair = [scene.map_of("dga"), scene.map_of("dga", EGYPTIAN_CAT)]
    rather = scene.map_of("dga", lambda logits: logits[:, TIGER_CAT] - logits[:, EGYPTIAN_CAT])
    other = scene.map_of("dga", lambda logits: logits[:, EGYPTIAN_CAT] - logits[:, TIGER_CAT])
    prevails = torch.nn.functional.avg_pool2d((rather - other)[None], 15, 1, 7)[0]
    figure, axes = panels(1, 6, 2.4)
    show(axes[0, 0], scene.picture, "what the network\nsees", theme, 8)
    show(axes[0, 1], painted(pair[0], pair), "tiger cat", theme, 8)
    show(axes[0, 2], painted(pair[1], pair), "Egyptian cat", theme, 8)
    show(axes[0, 3], painted(rather, [rather, other]), "tiger rather\nthan Egyptian", theme, 8)
    show(axes[0, 4], painted(other, [rather, other]), "Egyptian rather\nthan tiger", theme, 8)
    show(axes[0, 5], painted(prevails), "which prevails\n(red: tiger)", theme, 8)
    return figure


def sanity(scene: Scene, theme: Theme) -> Figure:
    """Draw maps of a trained network, and of the same network with ever more random layers."""
    names = ("dga", "gradient_x_input", "guided_backprop")
    figure, axes = panels(len(names), 5, 6.3)
    stages = ("trained", "features.12", "features.9", "features.5", "features.0")
    for row, name in enumerate(names):
        trained: Tensor | None = None
        for column, stage in enumerate(stages):
            network = randomised(scene.loaded.model, stage)
            made = dg.create_method(name, network).attribute(scene.inputs, TIGER_CAT)
            trained = made if trained is None else trained
            words = "trained" if column == 0 else f"random to {stage.rpartition('.')[2]}"
            likeness = float(dg.metrics.spearman(made, trained)[0])
            show(axes[row, column], painted(heat_map(made[0])), f"{words}: {likeness:.2f}", theme, 8)
        axes[row, 0].set_ylabel(name, fontsize=8, color=theme.ink)
    return figure


def randomised(model: torch.nn.Module, stage: str) -> torch.nn.Module:
    """Return a copy whose convolutions from ``stage`` on to the last hidden one are drawn anew.

    The classifier stays, whose last ReLU would otherwise leave some classes without any gradient.
    """
    network = copy.deepcopy(model)
    if stage == "trained":
        return network
    torch.manual_seed(0)
    first = int(stage.rpartition(".")[2])
    for index, block in enumerate(network.features):  # type: ignore[arg-type]
        for module in block.modules():
            if index >= first and isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.normal_(module.bias, std=0.1)  # type: ignore[arg-type]
    return network


def baselines(scene: Scene, theme: Theme) -> Figure:
    """Draw one image at several baselines: what is absent there has no attribution."""
    mean, std = (
        scene.inputs.new_tensor(each).view(1, 3, 1, 1) for each in (scene.loaded.mean, scene.loaded.std)
    )
    blurred = torch.nn.functional.avg_pool2d(scene.inputs, 31, 1, 15, count_include_pad=False)
    choices = {
        "the data's mean (0)": torch.zeros(1, 3, 1, 1),
        "black": -mean / std,
        "white": (1 - mean) / std,
        "its blur": blurred,
    }
    figure, axes = panels(2, len(choices), 5.0)
    for column, (words, baseline) in enumerate(choices.items()):
        made = dg.DGA(scene.loaded.model).attribute(scene.inputs, TIGER_CAT, baselines=baseline)
        show(axes[0, column], scene.display(baseline.expand_as(scene.inputs)[0]), f"baseline: {words}", theme)
        show(axes[1, column], painted(heat_map(made[0])), "", theme)
    axes[1, 0].set_ylabel("DGA", fontsize=9, color=theme.ink)
    return figure


def disagreement(scene: Scene, theme: Theme) -> Figure:
    """Draw every method on one image."""
    names = list(dg.METHODS)
    columns = 5
    rows = -(-(len(names) + 1) // columns)
    figure, axes = panels(rows, columns, 2.2 * rows)
    show(axes[0, 0], scene.picture, "what the network sees", theme, 9)
    for axis in axes.flat[len(names) + 1 :]:
        axis.axis("off")
    for axis, name in zip(axes.flat[1:], names, strict=False):
        show(axis, painted(scene.map_of(name)), name, theme, 9)
    return figure


def hero(scene: Scene, theme: Theme) -> Figure:
    """Draw the picture of the first page: the input, the map, the pixels that count most."""
    pixels = scene.map_of("dga")
    scale = shared_scale([pixels])
    figure, axes = panels(1, 4, 2.75)
    show(axes[0, 0], scene.picture, "what the network sees", theme)
    show(axes[0, 1], colours(pixels, scale), "what speaks for “tiger cat”", theme)
    show(axes[0, 2], overlay(scene.picture, pixels, scale), "laid over the photograph", theme)
    show(axes[0, 3], relevant_pixels(scene.picture, pixels), "the 10 % that count most", theme)
    return figure


PICTURES: dict[str, Picture] = {
    "hero": hero,
    "tangent": tangent,
    "local-attributions": locals_,
    "masks": masks,
    "sequence": sequence,
    "aggregation": aggregation,
    "perturbation": perturbation,
    "sensitivity": sensitivity,
    "retraining": retraining,
    "rounding": rounding,
    "targets": targets,
    "sanity": sanity,
    "baselines": baselines,
    "disagreement": disagreement,
}


def method_strip(scene: Scene, name: str) -> Image.Image:
    """Draw photograph, heat map, overlay and top 10 % side by side, for a method's page."""
    pixels = scene.map_of(name)
    scale = shared_scale([pixels])
    parts = [
        scene.picture.numpy(),
        colours(pixels, scale),
        overlay(scene.picture, pixels, scale),
        relevant_pixels(scene.picture, pixels),
    ]
    gap = np.full((pixels.shape[0], 6, 4), 0)
    tiles = [np.dstack([np.uint8(each * 255), np.full(pixels.shape, 255, np.uint8)]) for each in parts]
    row = [tiles[0], *(each for tile in tiles[1:] for each in (gap, tile))]
    return Image.fromarray(np.concatenate(row, axis=1).astype(np.uint8))


def save(figure: Figure, path: Path) -> None:
    """Write a WebP of at most ``LARGEST`` bytes, on no ground of its own."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", transparent=True, bbox_inches="tight", pad_inches=0.04)
    picture = Image.open(drawn)
    for quality in (84, 75, 65, 55, 45, 35):
        encoded = io.BytesIO()
        picture.save(encoded, format="WEBP", quality=quality, method=6)
        if encoded.tell() <= LARGEST:
            break
    path.write_bytes(encoded.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("model", help="torchvision:squeezenet1_1, or with @FILE of weights")
    parser.add_argument("names", nargs="*", help="of pictures or methods; by default all")
    arguments = parser.parse_args()
    scene = Scene(dg.load_model(arguments.model))
    wanted = arguments.names or [*PICTURES, *dg.METHODS]
    (IMAGES / "methods").mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if name in PICTURES:
            for theme in (LIGHT, DARK):
                save(PICTURES[name](scene, theme), IMAGES / f"{name}{theme.suffix}.webp")
        else:
            method_strip(scene, name).save(IMAGES / "methods" / f"{name}.webp", quality=84, method=6)
        print(name, flush=True)


if __name__ == "__main__":
    main()
