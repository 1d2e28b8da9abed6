"""The worker of a ROAR run: it trains, explains and retrains, unit by unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from distillgrad.errors import DistillgradError, MissingExtraError, ModelError, ParameterError, SourceError
from distillgrad.methods import create_method
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.metrics.ensembles import Ensemble, new_network, train_ensemble
from distillgrad.metrics.pixel_ranks import ranks_to_store
from distillgrad.metrics.removal import Baseline
from distillgrad.metrics.roar import FRACTIONS, retrained_accuracy, with_random
from distillgrad.runs.engines.engine import Worker
from distillgrad.runs.files import file_name_of, written_whole
from distillgrad.runs.manifest import read_json
from distillgrad.runs.request import kept_at
from distillgrad.sources.roar_data import Subject, subject_of
from distillgrad.sources.value_range import ValueRange

ROWS_TO_EXPLAIN = 64

Split: TypeAlias = Literal["train", "test"]


@dataclass(frozen=True)
class RoarRequest:
    """A request of remove and retrain; the same one goes on where an interrupted run ended.

    Attributes:
        methods: By label, the method's name and parameters.
        fractions: Shares of the pixels, each in [0, 1).
        n_trials: Networks per unit.
        limit: The most train and test images, as for :func:`~distillgrad.sources.roar_data.subject_of`.
        seed: The first trial's; the next ones count on from it.
        n_epochs, learning_rate, batch_size: Settings of training; ``None``: as suits the data.
        replacement: The values of removed pixels.
        keep: Keep the top pixels instead of removing them (KAR).
        value_range: The values of a folder's files that are shown black and white.
        retrain: ``False``: measure the networks of plain training on changed test images (ROAD).
    """

    data: str = field(metadata=kept_at("data", "from"))
    methods: MethodSpecs
    fractions: tuple[float, ...] = FRACTIONS
    n_trials: int = 5
    seed: int = 0
    n_epochs: int | None = field(default=None, metadata=kept_at("training", "n_epochs"))
    learning_rate: float | None = field(default=None, metadata=kept_at("training", "learning_rate"))
    batch_size: int = field(default=64, metadata=kept_at("training", "batch_size"))
    replacement: Baseline = "mean"
    keep: bool = False
    retrain: bool = True
    bfloat16: bool = field(default=False, metadata=kept_at("training", "bfloat16"))
    value_range: ValueRange | None = field(default=None, metadata=kept_at("data", "value_range"))
    limit: int | None = field(default=None, metadata=kept_at())  # the fingerprint of the images says it

    def training(self, subject: Subject) -> dict[str, Any]:
        """Return the settings of training, those that suit the data where the request leaves them open."""
        return {
            "n_epochs": self.n_epochs or subject.n_epochs,
            "learning_rate": self.learning_rate or subject.learning_rate,
            "batch_size": self.batch_size,
            "bfloat16": self.bfloat16,
        }


@dataclass(frozen=True)
class RoarJob:
    """All that a worker must know to compute any unit.

    Attributes:
        request: The run's, its data by absolute paths.
        fingerprint: The SHA-256 of the images that the data must hold.
        out: The folder of the run.
        device: Trains and explains.
    """

    request: RoarRequest
    fingerprint: str
    out: Path
    device: str
    threads: int

    @property
    def plain(self) -> Path:
        """The file of the networks of the intact images."""
        return self.out / "plain.safetensors"

    def ranks(self, label: str, split: Split, rows: range | None = None) -> Path:
        """Return the file of a method's ranks of a split, or of some rows of it."""
        name = f"{file_name_of(label)}.{split}"
        if rows is None:
            return self.out / "ranks" / f"{name}.npy"
        return self.out / "parts" / f"{name}.{rows.start:08d}-{rows.stop:08d}.npy"

    def accuracies(self, label: str, fraction: float) -> Path:
        """Return the file of a unit's accuracies."""
        return self.out / "units" / f"{file_name_of(label)} {fraction}.json"


@dataclass(frozen=True)
class TrainingUnit:
    """The unit of the trials on intact images, the control ``"none"``; the first network is explained."""


@dataclass(frozen=True)
class ExplanationUnit:
    """A unit of explanations: some rows of a split, by one method."""

    label: str
    split: Split
    rows: range


@dataclass(frozen=True)
class RetrainingUnit:
    """A unit of retraining: one method's pixels removed, at one fraction."""

    label: str
    fraction: float


RoarUnit: TypeAlias = TrainingUnit | ExplanationUnit | RetrainingUnit


class RoarWorker(Worker[RoarUnit, None]):
    """The worker that computes units, of which each needs the files of those before, and writes theirs.

    Args:
        subject: The job's data, where they are loaded already.
    Raises:
        ParameterError: the data are not those that the run was begun with.
    """

    def __init__(self, job: RoarJob, subject: Subject | None = None) -> None:
        if subject is None:
            subject = subject_of(
                job.request.data, limit=job.request.limit, value_range=job.request.value_range
            )
            if subject.fingerprint != job.fingerprint:
                raise ParameterError(
                    f"{job.request.data} does not hold the images that {job.out} was begun with"
                )
        self._job, self._subject = job, subject
        self._train, self._test = (
            (images.to(job.device), labels.to(job.device)) for images, labels in (subject.train, subject.test)
        )
        self._ranks: tuple[str, tuple[Tensor, Tensor]] | None = None
        seeds = range(job.request.seed, job.request.seed + job.request.n_trials)
        self._learn: Callable[[Tensor, Tensor], Ensemble] = partial(
            train_ensemble, subject.make_network, seeds=seeds, **job.request.training(subject)
        )
        super().__init__(job.threads)

    def compute(self, unit: RoarUnit) -> None:
        """Compute a unit and write its file.

        Raises:
            ModelError: a method failed on the network; names it.
            SourceError: a file of the run is broken, or cannot be written.
        """
        if isinstance(unit, TrainingUnit):
            self._train_plainly()
        elif isinstance(unit, ExplanationUnit):
            self._explain(unit)
        else:
            measured = retrained_accuracy(
                self._learn if self._job.request.retrain else lambda _images, _labels: self.plain,
                self._train,
                self._test,
                self._ranks_of(unit.label),
                unit.fraction,
                replacement=self._job.request.replacement,
                keep=self._job.request.keep,
            )
            self._keep(unit.label, unit.fraction, measured)

    def _train_plainly(self) -> None:
        if not self._job.plain.is_file():
            trained = self._learn(*self._train)
            with written_whole(self._job.plain) as file:
                file.write(save({name: each.cpu().contiguous() for name, each in trained.state.items()}))
        self._keep("none", 0.0, self.plain.accuracy(*self._test))

    def _keep(self, label: str, fraction: float, accuracies: Tensor) -> None:
        with written_whole(self._job.accuracies(label, fraction)) as file:
            file.write(json.dumps({"accuracies": accuracies.tolist()}).encode())

    @cached_property
    def plain(self) -> Ensemble:
        """The networks of the intact images.

        Raises:
            SourceError: their file is broken.
        """
        path = self._job.plain
        try:
            state = {name: values.to(self._train[0].device) for name, values in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise SourceError(f"cannot read {path}: {error}; remove it, to train again") from error
        template = new_network(self._subject.make_network, 0, self._train[0])
        return Ensemble(template, state, trials_at_a_time=1)

    def _explain(self, unit: ExplanationUnit) -> None:
        images = (self._train if unit.split == "train" else self._test)[0][unit.rows.start : unit.rows.stop]
        name, parameters = self._job.request.methods[unit.label]
        explain = create_method(name, self.plain.network(0), **parameters).attribute
        try:
            parts = [ranks_to_store(explain(rows)).cpu() for rows in torch.split(images, ROWS_TO_EXPLAIN)]
        except MissingExtraError:
            raise
        except DistillgradError as error:
            raise ModelError(f"{unit.label} failed on the trained network: {error}") from error
        with written_whole(self._job.ranks(unit.label, unit.split, unit.rows)) as file:
            np.save(file, torch.cat(parts).numpy(), allow_pickle=False)

    def _ranks_of(self, label: str) -> tuple[Tensor, Tensor]:
        """Return a method's ranks of the train and the test images; those of one method are kept."""
        if self._ranks is None or self._ranks[0] != label:
            if label in self._job.request.methods:
                both = read_ranks(self._job.ranks(label, "train")), read_ranks(self._job.ranks(label, "test"))
            else:
                both = with_random({}, self._train, self._test)["random"]
            self._ranks = label, both
        return self._ranks[1]


def read_ranks(path: Path) -> Tensor:
    """Return ranks as they were written.

    Raises:
        SourceError: the file is missing or broken.
    """
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {error}; remove it, to explain again") from error


def read_accuracies(path: Path, n_trials: int) -> Tensor:
    """Return a unit's accuracies ``(T,)`` as they were written.

    Raises:
        SourceError: the file is missing or broken.
    """
    values = read_json(path).get("accuracies")
    if not isinstance(values, list) or len(values) != n_trials:
        raise SourceError(f"{path} does not hold {n_trials} accuracies; remove it, to train again")
    return torch.tensor(values, dtype=torch.float64, device="cpu")
