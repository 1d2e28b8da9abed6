"""One batch of an evaluation: decoded, explained, measured, written; every engine computes it by this."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from distillgrad.core.forward import Model, logits_of
from distillgrad.errors import (
    DistillgradError,
    MissingExtraError,
    ModelError,
    SourceError,
    TargetError,
    UnknownNameError,
)
from distillgrad.methods import find_method, method_among
from distillgrad.methods.base import Method
from distillgrad.metrics.base import Measurement, MetricInput
from distillgrad.metrics.registry import find_metric, measure
from distillgrad.metrics.similarity import Attribute
from distillgrad.runs.engines.engine import Worker
from distillgrad.runs.evaluation.record import Request, listed, part_of
from distillgrad.runs.files import written_whole
from distillgrad.runs.model import equivalent_or_itself, loaded_for
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData, Sample, label_index


@dataclass(frozen=True)
class EvaluationJob:
    """What a worker must know to compute any batch.

    Attributes:
        model, weights: What ``load_model`` takes, and the SHA-256 of what it must load.
        out: Folder of the run.
        known: Methods of the request that ``find_method`` does not know.
    """

    model: str
    weights: str
    request: Request
    out: Path
    device: str
    threads: int
    known: Mapping[str, type[Method]]


@dataclass(frozen=True)
class Batch:
    """Its images, and their places in the whole data."""

    places: range
    data: ImageData


class BatchWorker(Worker[Batch, None]):
    """Computes batches, and writes their values.

    Args:
        loaded, fast: The job's model and the one for what does not look at layers, if they are here already.
        on_unit: Called with a number of images whenever a method or measurement is done with them.
    Raises:
        ParameterError: the model's weights are not those that the run was begun with.
    """

    def __init__(
        self,
        job: EvaluationJob,
        loaded: LoadedModel | None = None,
        fast: Model | None = None,
        on_unit: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._job, self._on_unit = job, on_unit
        self._loaded = loaded or loaded_for(job.model, job.weights, job.device, str(job.out), None)
        self._model: Model = fast or self._loaded.model
        if fast is None and job.request.accelerated:
            self._model = equivalent_or_itself(self._loaded, torch.device(job.device), job.request.precision)
        self._explainers = {
            label: _explainer(self._loaded, name, parameters, self._model, job.known)
            for label, (name, parameters) in job.request.methods.items()
        }
        super().__init__(job.threads)

    def compute(self, unit: Batch) -> None:
        """Evaluates a batch and writes what was found.

        Raises:
            ModelError: a method or metric failed; names it and the samples.
            SourceError: it cannot be written.
        """
        request = self._job.request
        part = _evaluated(self._loaded, unit.data, request, self._model, self._explainers, self._on_unit)
        with written_whole(part_of(self._job.out, unit.places)) as file:
            file.write(json.dumps(part, allow_nan=False).encode())


def measurements_of(metrics: Sequence[str]) -> list[Measurement]:
    """Each once, however many of its metrics are asked for.

    Raises:
        UnknownNameError: no such metric; names the nearest.
    """
    return list(dict.fromkeys(find_metric(name).measurement for name in metrics))


def _explainer(
    loaded: LoadedModel,
    name: str,
    parameters: Mapping[str, Any],
    fast: Model | None,
    known: Mapping[str, type[Method]],
) -> Callable[[Model], Attribute]:
    def of(model: Model) -> Attribute:
        # A method that looks at layers gets the network as it was made, not its faster equivalent.
        kind = known[name] if name in known else find_method(name)
        chosen = loaded.model if model is fast and kind.layerwise else model
        return method_among(known, name, chosen, parameters).attribute  # type: ignore[no-any-return]

    return of


def _evaluated(
    loaded: LoadedModel,
    data: ImageData,
    request: Request,
    model: Model,
    explainers: Mapping[str, Callable[[Model], Attribute]],
    on_unit: Callable[[int], None],
) -> dict[str, Any]:
    """One batch's samples and values, as they are written."""
    samples, skipped = _decoded(data)
    rows, inputs = _predicted(loaded, model, samples, request.only_correct, data.classes, skipped)
    part: dict[str, Any] = {"samples": rows, "skipped": skipped, "values": {}, "seconds": {}}
    n_parts = len(request.methods) + len(measurements_of(request.metrics))
    on_unit(n_parts * (len(data) - len(rows)))
    if not rows:
        return part
    target = torch.tensor([row["target"] for row in rows], device=inputs.device)
    attributions: dict[str, Tensor] = {}
    for name, explainer in explainers.items():
        began = time.perf_counter()
        attributions[name] = _named(name, rows, lambda: explainer(model)(inputs, target))  # noqa: B023
        if inputs.is_cuda:
            torch.cuda.synchronize()
        part["seconds"][name] = time.perf_counter() - began
        on_unit(len(rows))
    masks = _masks(loaded, samples, rows) if needs_masks(request.metrics) else None
    explained = MetricInput(model, loaded.model, inputs, target, attributions, explainers, masks)
    for measurement in measurements_of(request.metrics):
        names = [name for name in request.metrics if find_metric(name).measurement is measurement]
        found = _named("/".join(names), rows, lambda: measure(names, explained, request.protocol))  # noqa: B023
        for metric, values in found.items():
            part["values"][metric] = {
                "axis": list(values.axis),
                "methods": {name: listed(each) for name, each in values.by_method.items()},
            }
        on_unit(len(rows))
    return part


def _predicted(
    loaded: LoadedModel,
    model: Model,
    samples: Sequence[Sample],
    only_correct: bool,
    classes: Sequence[str],
    skipped: list[tuple[str, str]],
) -> tuple[list[dict[str, Any]], Tensor]:
    """What the model says about each sample, and its inputs; wrong ones go to ``skipped`` if asked for."""
    if not samples:
        return [], torch.empty(0, device=loaded.device)
    inputs = torch.stack([loaded.preprocess(each.image) for each in samples]).to(loaded.device)
    with torch.no_grad():
        probabilities = logits_of(model(inputs)).float().softmax(1)
    rows, kept = [], []
    for place, sample in enumerate(samples):
        label = _known_label(sample, loaded, classes, needed=only_correct)
        target = int(probabilities[place].argmax())
        if only_correct and label != target:
            said = f"predicted as {loaded.classes[target]}" if label is not None else "without a label"
            skipped.append((sample.id, said))
            continue
        probability = float(probabilities[place, target])
        rows.append({"id": sample.id, "label": label, "target": target, "probability": probability})
        kept.append(place)
    return rows, inputs[kept]


def _known_label(sample: Sample, loaded: LoadedModel, classes: Sequence[str], *, needed: bool) -> int | None:
    """The model's class for the sample's label; one that it does not know matters only where it is needed."""
    if sample.label is None:
        return None
    try:
        return label_index(sample.label, loaded, classes)
    except (UnknownNameError, TargetError):
        if needed:
            raise
        return None


def _decoded(data: ImageData) -> tuple[list[Sample], list[tuple[str, str]]]:
    samples, skipped = [], []
    for place in range(len(data)):
        try:
            samples.append(data[place])
        except SourceError as error:
            skipped.append((data.ids[place], str(error)))
    return samples, skipped


def _named(name: str, rows: Sequence[Mapping[str, Any]], work: Callable[[], Any]) -> Any:
    """``work``; an error says which method or metric failed, and on which samples."""
    try:
        return work()
    except MissingExtraError:
        raise
    except DistillgradError as error:
        ids = ", ".join(str(row["id"]) for row in rows[:3]) + (", …" if len(rows) > 3 else "")
        raise ModelError(f"{name} failed at {ids}: {error}") from error


def needs_masks(metrics: Sequence[str]) -> bool:
    """Whether any of the metrics compares with where the object is."""
    return any(find_metric(name).needs == "masks" for name in metrics)


def _masks(loaded: LoadedModel, samples: Sequence[Sample], rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """Where the boxes are in the inputs, bool ``(B, H, W)``: drawn, and preprocessed as the images."""
    by_id = {sample.id: sample for sample in samples}
    masks = []
    for row in rows:
        sample = by_id[row["id"]]
        drawn = Image.new("RGB", sample.image.size)
        if sample.box is not None:
            x0, y0, x1, y1 = sample.box
            ImageDraw.Draw(drawn).rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), fill="white")
        masks.append(loaded.displayable(loaded.preprocess(drawn)).mean(0) > 0.5)
    return torch.stack(masks)
