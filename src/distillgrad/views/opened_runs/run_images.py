"""The view of a run, whichever command wrote it: its results, and its images with their maps, in an order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distillgrad.errors import DistillgradError, SourceError
from distillgrad.explanations.disagreement import disagreement
from distillgrad.explanations.explanation import Map, seen_by
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.models import load_model, loading_may_run_code
from distillgrad.sources.open_data import ImageData, open_data
from distillgrad.sources.own_data import may_run_code
from distillgrad.sources.weights import fingerprint

ORDERS = {
    "disagreement": "where the methods' maps disagree most",
    "faithfulness": "where the methods' faithfulness differs most",
    "wrong": "where the model is wrong first",
    "position": "as in the data",
}
COMPARED = 200
"""The number of images whose maps are compared at most to find where they disagree; the rest follows."""


@dataclass(frozen=True)
class RunSample:
    """An image of a run.

    Attributes:
        position: The image's place in the data.
        target, predicted: The explained class, and the model's.
        probability: The model's, for the explained class; NaN where the run does not say.
        label: The true class's name, ``None`` where the data does not say.
        wrong: ``True`` if the model is; ``None`` where the data does not say.
        spread: The distance of the best and the worst method by the run's first metric, or NaN.
        values: The metrics' values, by metric and method.
        pixels: BLAKE2 of the decoded image; ``None`` where the run does not say.
    """

    id: str
    position: int
    target: int
    predicted: int
    probability: float = math.nan
    label: str | None = None
    wrong: bool | None = None
    spread: float = math.nan
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    pixels: str | None = None


@dataclass(frozen=True)
class Explainable:
    """A run's images and model, as they were when it ran; ``reason`` says why there are none."""

    data: ImageData | None
    loaded: LoadedModel | None
    reason: str = ""
    classes: tuple[str, ...] = ()

    def class_name(self, index: int | None) -> str:
        """Return a class's name, or its number where the name is not known."""
        classes = self.loaded.classes if self.loaded is not None else self.classes
        if index is None:
            return "unknown"
        return classes[index] if 0 <= index < len(classes) else f"class {index}"

    def image(self, sample: RunSample) -> Image.Image | None:
        """Return the sample's image, if it can still be had and is what it was."""
        if self.data is None or sample.id not in self.data.ids:
            return None
        try:
            image = self.data[self.data.ids.index(sample.id)].image
        except SourceError:
            return None  # the caller shows that there is none
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
        return image if sample.pixels in (None, digest) else None

    def seen(self, image: Image.Image) -> Tensor | None:
        """Return the model's input for an image as a picture, ``(H, W, 3)`` in [0, 1]."""
        if self.loaded is None:
            return None
        inputs = seen_by(self.loaded, image)[0].cpu()
        return self.loaded.displayable(inputs).permute(1, 2, 0).expand(-1, -1, 3)


@dataclass(frozen=True)
class RunView:
    """The content of a page about a run: its results as HTML, and images with their maps between.

    Attributes:
        name, model: The folder's name, and the model as the run names it.
        question, count: The question that the page answers, and the number of images in words.
        above, below: HTML before and after the images.
        samples: In the data's order.
        methods: By label, name and parameters.
        maps: Returns a sample's maps by label; raises a SourceError if there are none.
        orders: The ones of ``ORDERS`` that the run has; the first is the usual one.
        explainable: Its images and model.
    """

    name: str
    model: str
    question: str
    count: str
    above: str
    below: str
    samples: tuple[RunSample, ...]
    methods: MethodSpecs
    maps: Callable[[RunSample], dict[str, Map]]
    orders: tuple[str, ...]
    explainable: Explainable


def explainable_of(
    images_of: Callable[[], ImageData],
    spec: str,
    weights: str | None,
    without_model: str,
    *,
    model: str | None = None,
    named: Collection[str] = (),
    classes: tuple[str, ...] = (),
) -> Explainable:
    """Return a run's images and model, if they are still what they were.

    Args:
        images_of: Opens the images; raises where they are not those of the run.
        spec, weights: The model and its fingerprint, as the run has them.
        without_model: The consequence in words, if the model cannot be had.
        model: The model's name as the user gave it; without it, a model that runs a module's code is not
            loaded, since a folder from elsewhere may name any.
        named: Further models that the user allowed.
        classes: The model's, where the run names them.
    """
    images, reason = None, ""
    try:
        images = images_of()
    except DistillgradError as error:
        reason = f"The pictures are not shown: {error}"
    wanted = model or spec
    loaded, why_not = None, ""
    if model is None and loading_may_run_code(wanted) and wanted not in named:
        why_not = f"the run's model is {spec!r}, which may run code; name it with --model to load it"
    else:
        try:
            loaded = load_model(wanted)
        except DistillgradError as error:
            why_not = str(error)
        else:
            if fingerprint(loaded.model) != weights:
                loaded, why_not = None, f"{wanted} has other weights than when the run was made"
    return Explainable(images, loaded, reason or (why_not and f"{without_model}: {why_not}"), classes)


def data_of_run(where: str, **options: Any) -> ImageData:
    """Return the images at the place that a run names, with the options of ``open_data``.

    Raises:
        SourceError: they are not there, or come from a module that is not imported.
    """
    if may_run_code(where):
        raise SourceError(f"the run's data are {where!r}, which may run code: name its module with --import")
    return open_data(where, **options)


def in_order(view: RunView, order: str, disagreements: Mapping[int, float]) -> list[RunSample]:
    """Return the samples in one of ``ORDERS``; those that it cannot tell apart stay as in the data.

    Args:
        disagreements: By position, where they are known.
    """
    unknown = math.inf

    def highest(value: float) -> float:
        return -value if math.isfinite(value) else unknown

    samples = list(view.samples)
    if order == "disagreement":
        samples.sort(key=lambda each: highest(disagreements.get(each.position, math.nan)))
    elif order == "faithfulness":
        samples.sort(key=lambda each: highest(each.spread))
    elif order == "wrong":
        samples.sort(key=lambda each: (not each.wrong, highest(each.spread)))
    return samples


def disagreements(
    view: RunView,
    known: Mapping[int, float] | None = None,
    on_sample: Callable[[], None] = lambda: None,
) -> dict[int, float]:
    """Return the disagreement of the maps, by position, for the first ``COMPARED`` samples.

    Args:
        known: Disagreements that need not be computed again.
    Cost: the maps of each sample, read or computed.
    """
    values = dict(known or {})
    for sample in view.samples[:COMPARED]:
        if sample.position not in values:
            try:
                maps = view.maps(sample)
                values[sample.position] = disagreement({label: each.values for label, each in maps.items()})
            except SourceError:
                values[sample.position] = math.nan  # its card says why
        on_sample()
    return values


def as_maps(arrays: Mapping[str, object]) -> dict[str, Tensor]:
    """Return arrays as tensors, without those that hold nothing."""
    maps = {label: torch.as_tensor(each, device="cpu").float() for label, each in arrays.items()}
    return {label: each for label, each in maps.items() if bool(each.isfinite().all())}
