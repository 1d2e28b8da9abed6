"""A run opened to be looked at: what it measured, its images in an instructive order, its maps made anew."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from distillgrad.errors import DistillgradError, SourceError
from distillgrad.methods import METHODS, create_method
from distillgrad.metrics.registry import METRICS
from distillgrad.runs.evaluation_record import FORMAT, Evaluation, read_evaluation
from distillgrad.runs.manifest import MANIFEST, read_json
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.datasets import ImageData, open_data
from distillgrad.sources.models import load_model
from distillgrad.sources.weights import fingerprint
from distillgrad.views.explanation import seen_by
from distillgrad.views.leaderboard import per_sample

ORDERS = {
    "disagreement": "where methods disagree most",
    "wrong": "where the model is wrong first",
    "position": "as in the data",
}
NAMED_WEIGHTS = ("cifar10-cnn", "cifar10-resnet20", "torchvision:", "timm:")
"""Models whose loading never runs code that a run's folder could name."""


def _is_data(found: Any) -> bool:
    kinds = {"from": str, "n_samples": int, "ids": str}
    return isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())


def _is_methods(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(each, list) and [type(part) for part in each] == [str, dict] for each in found.values()
    )


LAYOUT: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda found: isinstance(found, str),
    "data": _is_data,
    "methods": _is_methods,
    "metrics": lambda found: isinstance(found, list) and all(isinstance(each, str) for each in found),
    "protocol": lambda found: isinstance(found, dict),
}
"""What a manifest's parts must be for the pages to read them."""


@dataclass(frozen=True)
class RunSample:
    """One image of a run.

    Attributes:
        position: In the run.
        disagreement: Between the best and the worst method by the run's first metric; NaN where undefined.
        wrong: Whether the model is; ``None`` where the data does not say.
        values: By metric and method.
    """

    id: str
    position: int
    target: int
    label: int | None
    wrong: bool | None
    disagreement: float
    values: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Explainable:
    """A run's images and model, as they were when it ran; ``reason`` says why there are none."""

    data: ImageData | None
    loaded: LoadedModel | None
    reason: str = ""

    def class_name(self, index: int | None) -> str:
        """A class's name, where the model is known."""
        if index is None:
            return "unknown"
        known = self.loaded is not None and 0 <= index < len(self.loaded.classes)
        return self.loaded.classes[index] if self.loaded and known else f"class {index}"

    def image(self, sample: RunSample) -> Image.Image | None:
        """The sample's image, if it can still be had."""
        if self.data is None or sample.id not in self.data.ids:
            return None
        try:
            return self.data[self.data.ids.index(sample.id)].image
        except SourceError:
            return None  # the caller shows that there is none


def open_evaluation(run: Path) -> Evaluation:
    """What an evaluation has measured so far.

    Raises:
        SourceError: the folder is not there, holds no evaluation, a newer one, or a broken one.
        InputError: it has not measured anything yet.
    """
    if not run.is_dir():
        raise SourceError(f"no run at {run}: there is no such folder")
    name = run.resolve().name
    if not (run / MANIFEST).is_file():
        raise SourceError(f"{name} holds no run: it has no {MANIFEST}; 'distillgrad evaluate' makes one")
    manifest = read_json(run / MANIFEST)
    missing = [] if not isinstance(manifest, dict) else [
        each for each in ("format", "model", "data", "methods", "metrics", "protocol") if each not in manifest
    ]  # fmt: skip
    if missing or not isinstance(manifest, dict):
        raise SourceError(
            f"{name} holds no evaluation: its manifest lacks {', '.join(missing) or 'everything'}"
        )
    if not isinstance(manifest["format"], int) or manifest["format"] > FORMAT:
        raise SourceError(
            f"{name} was written in format {manifest['format']}, this distillgrad reads up to {FORMAT}: "
            "upgrade it"
        )
    if not any((run / "parts").glob("*.json")):
        raise SourceError(f"{name} has no finished part yet: let 'distillgrad evaluate' go on")
    wrong = [each for each, is_right in LAYOUT.items() if not is_right(manifest[each])]
    if wrong:
        raise SourceError(f"{name} holds a manifest in another layout: {', '.join(wrong)}")
    found = read_evaluation(run)
    if not all(found.values.values()) or not found.values:
        raise SourceError(f"{name} holds no values: 'distillgrad evaluate' makes a run that does")
    return found


def samples_of(evaluation: Evaluation, order: str = "position") -> list[RunSample]:
    """The samples, in one of ``ORDERS``."""
    values = {
        metric: {name: per_sample(each) for name, each in evaluation.values[metric].items()}
        for metric in METRICS
        if metric in evaluation.values
    }
    found = []
    for place, (name, target, label) in enumerate(
        zip(evaluation.ids, evaluation.targets, evaluation.labels, strict=True)
    ):
        of_sample = {
            metric: {method: float(each[place]) for method, each in by_method.items()}
            for metric, by_method in values.items()
        }
        known = [each for each in next(iter(of_sample.values()), {}).values() if np.isfinite(each)]
        spread = max(known) - min(known) if known else float("nan")
        wrong = None if label is None else label != target
        found.append(RunSample(name, place, target, label, wrong, spread, of_sample))
    if order == "disagreement":
        found.sort(key=lambda each: -each.disagreement if np.isfinite(each.disagreement) else np.inf)
    elif order == "wrong":
        found.sort(key=lambda each: (not each.wrong, -np.nan_to_num(each.disagreement)))
    return found


def explainable(evaluation: Evaluation, model: str | None = None) -> Explainable:
    """The run's images and model, if they are still what they were.

    Args:
        model: The model's name as the user gave it; without, one that runs a module's code is not loaded,
            since a folder from elsewhere may name any.
    """
    manifest = evaluation.manifest
    spec = model or str(manifest["model"])
    try:
        data = open_data(str(manifest["data"]["from"]))
        ids = data.ids[: int(manifest["data"]["n_samples"])]
        if not set(evaluation.ids) <= set(data.ids):
            digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
            known = digest == manifest["data"]["ids"]
            raise SourceError("the images are not those of the run" if not known else "images are missing")
    except DistillgradError as error:
        return Explainable(None, None, f"The pictures are not shown: {error}")
    if model is None and not spec.startswith(NAMED_WEIGHTS):
        return Explainable(
            data, None, f"Maps are not shown: the run's model is {spec!r}; name it with --model to load it"
        )
    try:
        loaded = load_model(spec)
    except DistillgradError as error:
        return Explainable(data, None, f"Maps are not shown: {error}")
    if fingerprint(loaded.model) != manifest.get("weights"):
        return Explainable(
            data, None, f"Maps are not shown: {spec} has other weights than when the run was made"
        )
    return Explainable(data, loaded)


def maps_of(
    evaluation: Evaluation,
    loaded: LoadedModel,
    image: Image.Image,
    target: int,
    on_map: Callable[[], None] = lambda: None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the model sees of an image, ``(H, W, 3)``, and the attribution by each method of the run."""
    inputs = seen_by(loaded, image)
    found = {}
    for label, (name, settings) in evaluation.manifest["methods"].items():
        if name not in METHODS:
            continue  # of a newer distillgrad
        found[label] = create_method(name, loaded.model, **settings).attribute(inputs, target)[0].cpu()
        on_map()
    return loaded.displayable(inputs[0].cpu()).permute(1, 2, 0).expand(-1, -1, 3), found
