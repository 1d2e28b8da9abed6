"""An evaluation: images, explained by methods, measured by metrics; resumable, every sample's values kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from distillgrad.core.forward import Model, logits_of
from distillgrad.errors import (
    DistillgradError,
    InputError,
    MissingExtraError,
    ModelError,
    ParameterError,
    SourceError,
    TargetError,
    UnknownNameError,
)
from distillgrad.methods import METHODS, method_among
from distillgrad.methods.base import Method
from distillgrad.metrics.registry import METRICS, Explained, Measurement
from distillgrad.metrics.similarity import Attribute
from distillgrad.runs.evaluation_record import (
    Evaluation,
    Request,
    assembled,
    listed,
    manifest_of,
    part_of,
)
from distillgrad.runs.files import written_whole
from distillgrad.runs.manifest import begin
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.datasets import ImageData, Sample, label_index


def n_units(request: Request, n_samples: int) -> int:
    """How often ``on_unit`` will be called with one image each: for each method and measurement."""
    return n_samples * (len(request.methods) + len(_measurements(request.metrics)))


def evaluate(
    loaded: LoadedModel,
    data: ImageData,
    request: Request,
    out: Path,
    *,
    fast: Model | None = None,
    known: Mapping[str, type[Method]] = METHODS,
    on_unit: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Explains the images of ``data`` and measures the explanations, batch by batch, into ``out``.

    The explained class is the predicted one. A batch's values are written when it is done, whole or not at
    all; a second call with the same request computes only the batches that are not there.

    Args:
        fast: An equivalent of ``loaded.model`` for whatever does not look at its layers.
        known: Where the request's methods are looked up: ``METHODS``, and perhaps your own beside them.
        on_unit: Called with a number of images whenever a method or measurement is done with them.
    Raises:
        ParameterError: ``out`` holds a run of another request; says what differs.
        InputError: labels or masks that the data does not have; no sample left.
        ModelError: a method or metric failed; names it and the samples.
    """
    _check(request, data)
    manifest = manifest_of(loaded, data, request)
    begin(out, manifest)
    explainers = {
        label: _explainer(loaded, name, parameters, fast, known)
        for label, (name, parameters) in request.methods.items()
    }
    parts = []
    for start in range(0, len(data), request.batch_size):
        places = range(start, min(start + request.batch_size, len(data)))
        path = part_of(out, places)
        if not path.is_file():
            part = _evaluated(loaded, data, places, request, fast or loaded.model, explainers, on_unit)
            with written_whole(path) as file:
                file.write(json.dumps(part, allow_nan=False).encode())
        else:
            on_unit(n_units(request, len(places)))
        parts.append(path)
    return assembled(parts, manifest)


def _check(request: Request, data: ImageData) -> None:
    if not request.methods:
        raise ParameterError("no method is asked for")
    if not _measurements(request.metrics):
        raise ParameterError("no metric is asked for")
    if request.batch_size < 1:
        raise ParameterError(f"batch_size must be at least 1, not {request.batch_size}")
    if not len(data):
        raise InputError(f"{data.name} holds no image")
    if request.only_correct and all(label is None for label in data.labels):
        raise InputError(
            f"{data.name} has no labels, by which the model could be right: sort the images into class "
            "folders, add an index.csv, or evaluate all of them"
        )
    if _needs_masks(request.metrics):
        without = [each for each, box in zip(data.ids, data.boxes, strict=True) if box is None]
        if without:
            raise InputError(
                f"{data.name} has no box for {len(without)} of {len(data)} images (the first: {without[0]}), "
                "which 'pointing_game' and 'mass_inside' need: add x0, y0, x1, y1 to its index.csv"
            )


def _measurements(metrics: Sequence[str]) -> list[Measurement]:
    """Each once, however many of its metrics are asked for.

    Raises:
        UnknownNameError: no such metric; names the nearest.
    """
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
    return list(dict.fromkeys(METRICS[name].measurement for name in metrics))


def _explainer(
    loaded: LoadedModel,
    name: str,
    parameters: Mapping[str, Any],
    fast: Model | None,
    known: Mapping[str, type[Method]],
) -> Callable[[Model], Attribute]:
    def of(model: Model) -> Attribute:
        # A method that looks at layers gets the network as it was made, not its faster equivalent.
        chosen = loaded.model if model is fast and name in known and known[name].layerwise else model
        return method_among(known, name, chosen, parameters).attribute  # type: ignore[no-any-return]

    return of


def _evaluated(
    loaded: LoadedModel,
    data: ImageData,
    places: range,
    request: Request,
    model: Model,
    explainers: Mapping[str, Callable[[Model], Attribute]],
    on_unit: Callable[[int], None],
) -> dict[str, Any]:
    """One batch's samples and values, as they are written."""
    samples, skipped = _decoded(data, places)
    rows, inputs = _predicted(loaded, model, samples, request.only_correct, data.classes, skipped)
    part: dict[str, Any] = {"samples": rows, "skipped": skipped, "values": {}, "seconds": {}}
    on_unit(n_units(request, len(places) - len(rows)))
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
    masks = _masks(loaded, samples, rows) if _needs_masks(request.metrics) else None
    explained = Explained(model, loaded.model, inputs, target, attributions, explainers, masks)
    for measurement in _measurements(request.metrics):
        asked = "/".join(name for name in request.metrics if METRICS[name].measurement is measurement)
        found = _named(asked, rows, lambda: measurement(explained, request.protocol))  # noqa: B023
        for metric, values in found.items():
            if metric in METRICS and metric not in request.metrics:
                continue
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
    device = next((each.device for each in loaded.model.parameters()), torch.device("cpu"))
    if not samples:
        return [], torch.empty(0, device=device)
    inputs = torch.stack([loaded.preprocess(each.image) for each in samples]).to(device)
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


def _decoded(data: ImageData, places: range) -> tuple[list[Sample], list[tuple[str, str]]]:
    samples, skipped = [], []
    for place in places:
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


def _needs_masks(metrics: Sequence[str]) -> bool:
    return any(METRICS[name].needs == "masks" for name in metrics)


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
