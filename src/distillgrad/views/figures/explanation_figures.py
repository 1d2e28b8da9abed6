"""Pictures of explanations: heat maps, overlays, most relevant pixels, distillation strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from distillgrad.core.ranking import most_relevant, pixel_attributions
from distillgrad.explanations.explanation import Explanation
from distillgrad.methods.dga import Distillation
from distillgrad.runs.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Pixels = NDArray[np.float64]

POSITIVE = "inferno"
SIGNED = "RdBu_r"
INK = "#22252b"
QUIET = "#6b7280"
TOP_FRACTION = 0.1
GROUND = np.array([0.42, 0.50, 0.62])
NOTE_SIZE = 6.5
NOTE_CHARACTERS = 54
"""The length of a line of a note that fits below a map."""
LINE = 1.3
"""The distance of lines in font sizes."""
BARELY_ABOVE_ZERO = 0.05
"""The share of its end up to which a scale that would begin above zero begins at zero."""


@dataclass(frozen=True)
class Scale:
    """A map from attribution to colour.

    Attributes:
        nothing, high: The attributions of no colour and of the strongest one, ``nothing < high``.
        signed: ``True`` if it goes as far to the other side: then ``nothing`` is in the middle and white,
            otherwise it is black.
    """

    nothing: float
    high: float
    signed: bool

    @property
    def low(self) -> float:
        """The attribution at its lower end."""
        return 2 * self.nothing - self.high if self.signed else self.nothing

    @property
    def mappable(self) -> ScalarMappable:
        """Matplotlib's form of the scale."""
        return ScalarMappable(Normalize(self.low, self.high), SIGNED if self.signed else POSITIVE)

    def strength(self, pixels: Tensor) -> Pixels:
        """Return each value's place between ``nothing`` and an end of the scale, in [0, 1]."""
        share: Pixels = np.abs(pixels.numpy() - self.nothing) / (self.high - self.nothing)
        return np.clip(share, 0, 1)


def shared_scale(maps: Sequence[Tensor]) -> Scale:
    """Return one scale for all ``maps`` ``(H, W)``.

    It ends at the 99.5th percentile of a map's magnitudes, of several maps at the median of theirs: a few
    extreme pixels, or one strong map among weak ones, would leave the rest blank. Values beyond it have
    the end's colour. With negative values it is symmetric; otherwise it begins at the 0.5th percentile where
    that is clearly above zero, or a map far from it everywhere (RISE's) would be one colour. Maps of zeros
    have a scale from 0 to 1, so that nothing is divided by zero.
    """
    values = [each.detach().double().numpy() for each in maps]
    signed = any(bool((each < 0).any()) for each in values)
    ends = [float(np.percentile(np.abs(each), 99.5)) for each in values]
    high = float(np.median(ends)) or max(ends) or max(float(np.abs(each).max()) for each in values) or 1.0
    low = 0.0 if signed else float(np.median([np.percentile(each, 0.5) for each in values]))
    return Scale(low if BARELY_ABOVE_ZERO * high < low < high else 0.0, high, signed)


def own_scales(maps: Sequence[Tensor]) -> list[Scale]:
    """Return a scale for each of ``maps``: a colour is the same share of each one's strongest.

    They are signed where one of the maps has negative values.
    """
    scales = [shared_scale([each]) for each in maps]
    signed = any(each.signed for each in scales)
    return [replace(each, signed=signed) for each in scales]


def heat_map(attribution: Tensor) -> Tensor:
    """Return the map ``(H, W)`` of one image's attribution ``(C, H, W)``: the sum over channels."""
    return pixel_attributions(attribution[None])[0].detach().double()


def colours(pixels: Tensor, scale: Scale) -> Pixels:
    """Return RGB ``(H, W, 3)`` in [0, 1] of a map ``(H, W)``."""
    rgba: Pixels = np.asarray(scale.mappable.to_rgba(pixels.numpy()), np.float64)
    return rgba[:, :, :3]


def overlay(picture: Tensor, pixels: Tensor, scale: Scale) -> Pixels:
    """Return the picture ``(H, W, 3)`` in grey, the map over it the more opaque the stronger it is."""
    grey = picture.numpy().astype(float).mean(2, keepdims=True) * 0.7 + 0.15
    strength = scale.strength(pixels)[..., None] ** 0.5
    blended: Pixels = grey * (1 - strength) + colours(pixels, scale) * strength
    return blended


def relevant_pixels(picture: Tensor, pixels: Tensor, fraction: float = TOP_FRACTION) -> Pixels:
    """Return the picture with only its most relevant pixels as they are, the rest faded to a slate blue.

    The ground is of middle brightness, so that white and black pixels both stand out from it.
    """
    kept = most_relevant(pixels.reshape(1, -1), fraction).view(*pixels.shape, 1).numpy()
    image = picture.numpy().astype(float)
    faded = GROUND + 0.12 * (image.mean(2, keepdims=True) - 0.5)
    return np.where(kept, image, faded)


def explanation_figure(explanation: Explanation, title: str = "") -> Figure:
    """Return a figure: input and prediction, then by method heat map, overlay, top 10 % of the pixels.

    A method's notes stand below its column.
    """
    n_methods = len(explanation.attributions)
    notes = {label: _lines(explanation.notes.get(label, ())) for label in explanation.attributions}
    tall = max(map(len, notes.values()), default=0) * LINE * NOTE_SIZE / 72
    figure = Figure(figsize=(2.9 * (n_methods + 1), 9.4 + tall), layout="constrained", dpi=150)
    heights = [2.8, 2.8, 2.8, tall] if tall else [1, 1, 1]
    axes = figure.subplots(len(heights), n_methods + 1, squeeze=False, height_ratios=heights)
    if tall:
        _notes(axes[3], notes)
    picture = explanation.picture
    _image(axes[0, 0], picture.numpy(), "what the model sees")
    _prediction(axes[1, 0], explanation)
    _words(axes[2, 0], explanation)
    for column, (name, attribution) in enumerate(explanation.attributions.items(), start=1):
        pixels = heat_map(attribution)
        scale = shared_scale([pixels])
        _image(axes[0, column], colours(pixels, scale), name)
        _colour_bar(figure, axes[0, column], scale)
        _image(axes[1, column], overlay(picture, pixels, scale), "laid over the image")
        _image(axes[2, column], relevant_pixels(picture, pixels), "top 10 % of the pixels")
    figure.suptitle(title or explanation.question, color=INK, fontsize=13, fontweight="bold")
    return figure


def distillation_figure(
    sequences: Mapping[str, Distillation], display: Any, columns: int = 8, title: str = ""
) -> Figure:
    """Return the paper's Figure 4: each sequence's anchors above their local attributions.

    Args:
        sequences: By name, each of one image (batch of 1).
        display: Turns inputs ``(C, H, W)`` into a picture ``(C, H, W)`` in [0, 1].
        columns: The number of anchors in the figure, evenly spaced from the first to the last.
    """
    n_anchors = len(next(iter(sequences.values())).anchors)
    chosen = np.unique(np.linspace(0, n_anchors - 1, min(columns, n_anchors)).round().astype(int))
    figure = Figure(
        figsize=(1.55 * len(chosen) + 0.9, 3.75 * len(sequences) + 0.5),
        layout="constrained",
        dpi=150,
    )
    axes = figure.subplots(2 * len(sequences), len(chosen), squeeze=False)
    for block, (name, steps) in enumerate(sequences.items()):
        maps = [heat_map(steps.attributions[index, 0].cpu()) for index in chosen]
        scale = shared_scale(maps)
        upper, lower = axes[2 * block], axes[2 * block + 1]
        for column, index in enumerate(chosen):
            picture = display(steps.anchors[index, 0].cpu()).permute(1, 2, 0).expand(-1, -1, 3)
            score = float(steps.scores[index, 0])
            _image(upper[column], picture.numpy(), f"n = {index}\nlogit {score:.2f}", size=8)
            _image(lower[column], colours(maps[column], scale), "")
        for row, words in ((upper, f"{name}\nanchor"), (lower, "local\nattribution")):
            row[0].set_ylabel(words, fontsize=8, color=INK)
        _colour_bar(figure, lower, scale, "right")
    if title:
        figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with written_whole(path) as file:
        figure.savefig(file, format="png", facecolor="white")


def _lines(notes: Sequence[str]) -> list[str]:
    return [line for each in notes for line in wrap(each, NOTE_CHARACTERS)]


def _notes(axes: Sequence[Axes], notes: Mapping[str, Sequence[str]]) -> None:
    """Write each method's notes into the row below its maps; the first column has none."""
    for axis, lines in zip(axes, [[], *notes.values()], strict=True):
        axis.axis("off")
        axis.text(
            0.5, 1, "\n".join(lines), fontsize=NOTE_SIZE, color=QUIET, linespacing=LINE, ha="center", va="top"
        )


def _image(axis: Axes, pixels: Any, title: str, size: int = 9) -> None:
    # Nearest neighbour: a map of 32×32 numbers is to look like one.
    axis.imshow(pixels, interpolation="nearest", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(title, fontsize=size, color=INK)


def _colour_bar(figure: Figure, axes: Any, scale: Scale, location: str = "bottom") -> None:
    bar = figure.colorbar(
        scale.mappable,
        ax=axes,
        location=location,
        fraction=0.05,
        pad=0.02,
        aspect=25,
        extend="both" if scale.low else "max",
        ticks=MaxNLocator(5),
        format=lambda value, _: f"{value:.2g}",
    )
    bar.ax.tick_params(labelsize=6, colors=QUIET)
    bar.set_label("attribution (ends: 0.5 % beyond)", fontsize=6, color=QUIET)
    bar.outline.set_visible(False)


def _prediction(axis: Axes, explanation: Explanation) -> None:
    prediction = explanation.prediction
    places = range(len(prediction.names))
    fills = ["#c2410c" if index == explanation.target else "#9ca3af" for index in prediction.classes]
    axis.barh(places, prediction.probabilities, color=fills, height=0.55)
    for place, name, probability in zip(places, prediction.names, prediction.probabilities, strict=True):
        axis.text(0, place - 0.36, f"{name}  {probability:.1%}", fontsize=8, color=INK, va="bottom")
    axis.set_xlim(0, 1)
    axis.set_ylim(len(prediction.names) - 0.4, -0.9)
    axis.axis("off")
    axis.set_title("what the model says", fontsize=9, color=INK)


def _words(axis: Axes, explanation: Explanation) -> None:
    lines = [f"explained: {explanation.target_name} ({explanation.probability:.1%})", ""]
    for name, parameters in explanation.methods.values():
        settings = ", ".join(f"{key}={value}" for key, value in parameters.items())
        lines.append(f"{name}({settings})")
    axis.text(0, 0.98, "\n".join(lines), fontsize=7, color=QUIET, va="top", wrap=True)
    axis.axis("off")
