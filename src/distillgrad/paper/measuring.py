"""The measurements of exhibits: an evaluation of some methods on the setting's images, kept and resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from distillgrad.errors import DistillgradError, InputError, ParameterError
from distillgrad.methods.base import Method
from distillgrad.methods.parsing import parse_methods
from distillgrad.metrics.base import Protocol
from distillgrad.metrics.registry import find_metric
from distillgrad.metrics.statistics import Comparison, compare
from distillgrad.paper import published
from distillgrad.paper.exhibit import Setting
from distillgrad.paper.variants import VARIANTS, class_of
from distillgrad.runs.evaluation.leaderboard import Leaderboard, groups_of, leaderboard_of, per_sample
from distillgrad.runs.evaluation.record import Evaluation, EvaluationRequest
from distillgrad.runs.evaluation.runner import run_evaluation
from distillgrad.sources.model_inputs import class_logits, model_input
from distillgrad.sources.open_data import ImageData
from distillgrad.views.leaderboard import save_leaderboard

Methods: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]
"""The methods by label: the name and the parameters of each."""

PAPERS = (
    "gradient_x_input,guided_backprop,integrated_gradients(n_steps=31),fullgrad,guided_ig(n_steps=31),dga"
)
"""The paper's six methods; those that average gradients have as many of them as DGA."""
FEATURES_AT_A_TIME = 4 * 3 * 224 * 224
SUBJECT = "dga"
FOR_SOME = ("guided_backprop",)
"""Methods that look at no layer, and yet are not defined for every model."""


@dataclass(frozen=True)
class Measurement:
    """An evaluation of some methods, and the comparison of them with DGA.

    Attributes:
        board: Everything compared to ``subject``.
        methods: The methods that could explain the model.
        subject: The label of DGA.
        left_out: By label, the reason why a method could not explain this model.
        unit: The independent samples in a word.
    """

    board: Leaderboard
    methods: Methods
    subject: str
    left_out: Mapping[str, str]
    unit: str

    @property
    def evaluation(self) -> Evaluation:
        """The values of every image."""
        return self.board.evaluation

    @property
    def n_images(self) -> int:
        """The number of explained images."""
        return len(self.evaluation.ids)

    def labels_of(self, names: Sequence[str]) -> list[str]:
        """Return the labels of the methods of these names, in the order of the request."""
        return [label for label, (name, _) in self.methods.items() if name in names]

    def comparison(self, metric: str, labels: Sequence[str], reference: str | None = None) -> Comparison:
        """Return the comparison of some methods; an exhibit corrects those of all its claims together."""
        values = self.evaluation.values[metric]
        return compare(
            {label: per_sample(values[label]) for label in labels},
            better=find_metric(metric).better,
            reference=reference or self.subject,
            groups=groups_of(self.evaluation),
            bounds=find_metric(metric).bounds,
        )


def methods_of(setting: Setting, default: str) -> Methods:
    """Return the setting's methods, or the default.

    Raises:
        ParameterError: DGA is not among them, though every claim is about it.
    """
    methods = parse_methods(setting.methods or default)
    if all(name != SUBJECT for name, _ in methods.values()):
        raise ParameterError("the paper's claims are about dga: name it among the methods")
    return methods


def measure(
    setting: Setting,
    exhibit: str,
    methods: Methods,
    metrics: tuple[str, ...],
    *,
    images: ImageData,
    subject: str | None = None,
    element: bool = False,
    run: str = "run",
) -> Measurement:
    """Evaluate those of the methods that can explain this model, into the exhibit's folder."""
    usable, left_out = explainable(setting, methods, images)
    n_features = int(np.prod(setting.loaded.input_size))
    request = EvaluationRequest(
        model=setting.model,
        data=setting.data,
        methods=usable,
        metrics=metrics,
        protocol=Protocol(
            n_steps=setting.n_steps, n_masks=setting.n_masks, element=element, seed=setting.seed
        ),
        batch_size=max(1, min(32, FEATURES_AT_A_TIME // n_features)),
        accelerated=setting.fast is not setting.loaded.model,
        precision=setting.precision,
    )
    out: Path = setting.folder(exhibit) / run
    evaluation = run_evaluation(setting.loaded, images, request, out, fast=setting.fast, known=VARIANTS)
    label = subject or next(each for each, (name, _) in usable.items() if name == SUBJECT)
    board = leaderboard_of(evaluation, reference=label)
    save_leaderboard(board, out)
    return Measurement(board, usable, label, left_out, setting.unit)


def explainable(setting: Setting, methods: Methods, images: ImageData) -> tuple[Methods, dict[str, str]]:
    """Return the methods that can explain this model, and by label the reason why the others cannot.

    Only methods that look at layers, or at activations, are tried, on one image: rules that do not reach
    a layer, or an extra that is not installed, should not cost the whole table.
    """
    looking = {
        label: (name, parameters)
        for label, (name, parameters) in methods.items()
        if class_of(name).needs_module or class_of(name).layerwise or name in FOR_SOME
    }
    left_out: dict[str, str] = {}
    if looking:
        _, inputs, target = first_images(setting, images, 1)
        for label, (name, parameters) in looking.items():
            try:
                class_of(name)(setting.loaded.model, **parameters).attribute(inputs, target)
            except DistillgradError as error:
                left_out[label] = str(error)
    return {label: each for label, each in methods.items() if label not in left_out}, left_out


def omissions(left_out: Mapping[str, str]) -> list[str]:
    """Return a finding for each method that could not explain the model."""
    return [f"{label} is left out: {why}" for label, why in left_out.items()]


def first_images(setting: Setting, images: ImageData, count: int) -> tuple[list[str], Tensor, Tensor]:
    """Return ids, inputs ``(B, C, H, W)`` and predicted classes of the first images that can be read.

    Raises:
        InputError: none can.
    """
    names: list[str] = []
    rows: list[Tensor] = []
    for place in range(len(images)):
        if len(rows) == count:
            break
        taken = model_input(setting.loaded, images, place)
        if taken.inputs is not None:  # evaluations name what they skip; a picture takes the next
            names.append(images.ids[place])
            rows.append(taken.inputs)
    if not rows:
        raise InputError(f"none of the {len(images)} images of {images.name} can be read")
    inputs = torch.stack(rows).to(setting.device)
    return names, inputs, class_logits(setting.loaded, setting.fast, inputs).argmax(1)


def method_for(setting: Setting, label: str, methods: Methods) -> Method:
    """Return the method of that label for the setting's model, on the fast equivalent where it may be."""
    name, parameters = methods[label]
    kind = class_of(name)
    whole = kind.layerwise or kind.needs_module
    return kind(setting.loaded.model if whole else setting.fast, **parameters)


def papers_labels(methods: Methods) -> dict[str, str]:
    """Return the label of each of the paper's six methods that is there, by its name in our registry."""
    labels: dict[str, str] = {}
    for label, (name, _) in methods.items():
        if name in published.METHODS:
            labels.setdefault(name, label)
    return labels
