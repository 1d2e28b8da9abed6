"""The worker of an evaluation: it decodes, explains, measures and writes one batch after the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from distillgrad.core.forward import Model
from distillgrad.core.profiling import stopwatch
from distillgrad.errors import (
    DistillgradError,
    MissingExtraError,
    ModelError,
)
from distillgrad.methods import find_method, method_among
from distillgrad.methods.base import Method
from distillgrad.metrics.base import Measurement, MetricInput
from distillgrad.metrics.registry import find_metric, measure
from distillgrad.metrics.similarity import Attribute
from distillgrad.runs.engines.engine import Worker
from distillgrad.runs.evaluation.record import EvaluationRequest, part_of
from distillgrad.runs.files import written_whole
from distillgrad.runs.model import equivalent_or_itself, loaded_for
from distillgrad.runs.request import json_list
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.model_inputs import ModelInput, class_probabilities, model_input
from distillgrad.sources.open_data import ImageData


@dataclass(frozen=True)
class EvaluationJob:
    """All that a worker must know to compute any batch.

    Attributes:
        request: The run's, its model by an absolute path.
        weights: The SHA-256 of the model's weights.
        out: The folder of the run.
        known: Methods of the request that ``find_method`` does not know.
    """

    request: EvaluationRequest
    weights: str
    out: Path
    device: str
    threads: int
    known: Mapping[str, type[Method]]


@dataclass(frozen=True)
class EvaluationUnit:
    """A batch's images, and their places in the whole data."""

    places: range
    data: ImageData


class EvaluationWorker(Worker[EvaluationUnit, None]):
    """The worker that computes batches and writes their values.

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
        self._loaded = loaded or loaded_for(job.request.model, job.weights, job.device, str(job.out), None)
        self._model: Model = self._loaded.model
        if job.request.accelerated:
            device = torch.device(job.device)
            self._model = fast or equivalent_or_itself(self._loaded, device, job.request.precision)
        self._explainers = {
            label: _explainer(self._loaded, name, parameters, self._model, job.known)
            for label, (name, parameters) in job.request.methods.items()
        }
        super().__init__(job.threads)

    def compute(self, unit: EvaluationUnit) -> None:
        """Evaluate a batch and write its values.

        Raises:
            ModelError: a method or metric failed; names it and the samples.
            SourceError: it cannot be written.
        """
        request = self._job.request
        part = _evaluated(self._loaded, unit.data, request, self._model, self._explainers, self._on_unit)
        with written_whole(part_of(self._job.out, unit.places)) as file:
            file.write(json.dumps(part, allow_nan=False).encode())


def measurements_of(metrics: Sequence[str]) -> list[Measurement]:
    """Return each measurement once, however many of its metrics are requested.

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
    def explainer(model: Model) -> Attribute:
        # A method that looks at layers gets the network as it was made, not its faster equivalent.
        kind = known[name] if name in known else find_method(name)
        chosen = loaded.model if model is fast and kind.layerwise else model
        return method_among(known, name, chosen, parameters).attribute  # type: ignore[no-any-return]

    return explainer


def _evaluated(
    loaded: LoadedModel,
    data: ImageData,
    request: EvaluationRequest,
    model: Model,
    explainers: Mapping[str, Callable[[Model], Attribute]],
    on_unit: Callable[[int], None],
) -> dict[str, Any]:
    """Return one batch's samples and values, as they are written."""
    taken = [model_input(loaded, data, place) for place in range(len(data))]
    skipped = [(name, str(each.error)) for name, each in zip(data.ids, taken, strict=True) if each.error]
    rows, inputs = _predicted(loaded, model, data, taken, request.only_correct, skipped)
    part: dict[str, Any] = {"samples": rows, "skipped": skipped, "values": {}, "seconds": {}}
    n_parts = len(request.methods) + len(measurements_of(request.metrics))
    on_unit(n_parts * (len(data) - len(rows)))
    if not rows:
        return part
    target = torch.tensor([row["target"] for row in rows], device=inputs.device)
    attributions: dict[str, Tensor] = {}
    for name, explainer in explainers.items():
        with stopwatch(inputs.device) as watch:
            attributions[name] = _named(name, rows, lambda: explainer(model)(inputs, target))  # noqa: B023
        part["seconds"][name] = watch.seconds
        on_unit(len(rows))
    masks = _masks(loaded, data, taken, rows) if needs_masks(request.metrics) else None
    explained = MetricInput(model, loaded.model, inputs, target, attributions, explainers, masks)
    for measurement in measurements_of(request.metrics):
        names = [name for name in request.metrics if find_metric(name).measurement is measurement]
        measured = _named("/".join(names), rows, lambda: measure(names, explained, request.protocol))  # noqa: B023
        for metric, values in measured.items():
            part["values"][metric] = {
                "axis": list(values.axis),
                "methods": {name: json_list(each) for name, each in values.by_method.items()},
            }
        on_unit(len(rows))
    return part


def _predicted(
    loaded: LoadedModel,
    model: Model,
    data: ImageData,
    taken: Sequence[ModelInput],
    only_correct: bool,
    skipped: list[tuple[str, str]],
) -> tuple[list[dict[str, Any]], Tensor]:
    """Return each sample's prediction, and all inputs; with ``only_correct`` wrong ones go to ``skipped``."""
    whole = [(place, each) for place, each in enumerate(taken) if each.inputs is not None]
    if not whole:
        return [], torch.empty(0, device=loaded.device)
    inputs = torch.stack([each.inputs for _, each in whole if each.inputs is not None]).to(loaded.device)
    probabilities = class_probabilities(loaded, model, inputs)
    rows, kept = [], []
    for row, (place, each) in enumerate(whole):
        if only_correct and data.labels[place] is not None and each.label_error is not None:
            raise each.label_error
        target = int(probabilities[row].argmax())
        if only_correct and each.label_index != target:
            known = each.label_index is not None
            reason = f"predicted as {loaded.classes[target]}" if known else "without a label"
            skipped.append((data.ids[place], reason))
            continue
        probability = float(probabilities[row, target])
        rows.append(
            {"id": data.ids[place], "label": each.label_index, "target": target, "probability": probability}
        )
        kept.append(row)
    return rows, inputs[kept]


def _named(name: str, rows: Sequence[Mapping[str, Any]], work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns; an error says which method or metric failed, and on which samples."""
    try:
        return work()
    except MissingExtraError:
        raise
    except DistillgradError as error:
        ids = ", ".join(str(row["id"]) for row in rows[:3]) + (", …" if len(rows) > 3 else "")
        raise ModelError(f"{name} failed at {ids}: {error}") from error


def needs_masks(metrics: Sequence[str]) -> bool:
    """Return whether any of the metrics compares with the place of the object."""
    return any(find_metric(name).needs == "masks" for name in metrics)


def _masks(
    loaded: LoadedModel, data: ImageData, taken: Sequence[ModelInput], rows: Sequence[Mapping[str, Any]]
) -> Tensor:
    """Return the boxes in the inputs, bool ``(B, H, W)``: drawn, and preprocessed as the images."""
    places = {name: place for place, name in enumerate(data.ids)}
    masks = []
    for row in rows:
        place = places[row["id"]]
        image, box = taken[place].image, data.boxes[place]
        drawn = Image.new("RGB", (0, 0) if image is None else image.size)
        if box is not None:
            x0, y0, x1, y1 = box
            ImageDraw.Draw(drawn).rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), fill="white")
        drawn = drawn if image is None else drawn.convert(image.mode)
        masks.append(loaded.displayable(loaded.preprocess(drawn)).mean(0) > 0.5)
    return torch.stack(masks)
