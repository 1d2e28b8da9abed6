"""The files of an explanation: a figure, the raw arrays, and a record of how they were made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import distillgrad
from distillgrad.explanations.distillation import Distilled
from distillgrad.explanations.explanation import Explanation
from distillgrad.runs.files import file_name_of, written_whole
from distillgrad.views.figures.explanation_figures import distillation_figure, explanation_figure, save_figure


def save_explanation(
    explanation: Explanation, folder: Path, name: str, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``NAME.png``, ``NAME.METHOD.npy`` and ``NAME.json`` into ``folder``; return the record.

    A method's file has its label where that can name a file, or else its letters and a digest of it.

    Args:
        request: The image, model, seed and device, kept in the record.
    """
    arrays = {method: folder / f"{name}.{file_name_of(method)}.npy" for method in explanation.attributions}
    figure = folder / f"{name}.png"
    for method, attribution in explanation.attributions.items():
        with written_whole(arrays[method]) as file:
            np.save(file, attribution.numpy(), allow_pickle=False)
    save_figure(explanation_figure(explanation), figure)
    prediction = explanation.prediction
    record = {
        **request,
        "prediction": [
            {"class": index, "name": class_name, "probability": probability}
            for index, class_name, probability in zip(
                prediction.classes, prediction.names, prediction.probabilities, strict=True
            )
        ],
        "target": {
            "class": explanation.target,
            "name": explanation.target_name,
            "probability": explanation.probability,
        },
        "versus": None
        if explanation.versus is None
        else {"class": explanation.versus, "name": explanation.versus_name},
        "methods": {method: dict(used) for method, (_, used) in explanation.methods.items()},
        "notes": {method: list(notes) for method, notes in explanation.notes.items()},
        "seconds": {method: dict(profiles.seconds) for method, profiles in explanation.profiles.items()},
        "files": {
            "figure": str(figure),
            "attributions": {method: str(path) for method, path in arrays.items()},
        },
        "versions": versions(),
    }
    _save_json(record, folder / f"{name}.json")
    return record


def save_distillation(
    distilled: Distilled, folder: Path, name: str, request: Mapping[str, Any], columns: int
) -> dict[str, Any]:
    """Write ``NAME.distillation.png`` and ``.json`` into ``folder``; return the record."""
    base = f"{name}.distillation"
    figure = folder / f"{base}.png"
    settings = ", ".join(f"{key}={value}" for key, value in distilled.parameters.items())
    save_figure(
        distillation_figure(
            distilled.sequences,
            distilled.display,
            columns,
            f"Distilling {distilled.target_name} ({settings})",
        ),
        figure,
    )
    record = {
        **request,
        "target": {"class": distilled.target, "name": distilled.target_name},
        "parameters": dict(distilled.parameters),
        "scores": {sequence: steps.scores[:, 0].tolist() for sequence, steps in distilled.sequences.items()},
        "files": {"figure": str(figure)},
        "versions": versions(),
    }
    _save_json(record, folder / f"{base}.json")
    return record


def versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "captum", "numpy", "pillow")}
    return {
        "distillgrad": distillgrad.__version__,
        "python": platform.python_version(),
        **packages,
    }


def _save_json(content: Mapping[str, Any], path: Path) -> None:
    with written_whole(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
