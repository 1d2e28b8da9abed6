"""A ROAR run: train, attribute, remove, retrain, compare; a unit is one method at one fraction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distillgrad.errors import DistillgradError, MissingExtraError, ModelError, SourceError
from distillgrad.methods import create_method
from distillgrad.metrics.pixel_ranks import ranks_to_store
from distillgrad.metrics.removal import Baseline
from distillgrad.metrics.retraining import Ensemble, new_network, train_ensemble
from distillgrad.metrics.roar import FRACTIONS, Labelled, Roar, check_request, retrained_accuracy, with_random
from distillgrad.runs.files import file_name_of, written_whole
from distillgrad.runs.manifest import begin, read_json
from distillgrad.sources.roar_data import Subject

FORMAT = 1
ROWS_TO_EXPLAIN = 64


@dataclass(frozen=True)
class RoarRequest:
    """What is asked for; the same request goes on where an interrupted one ended.

    Attributes:
        methods: By label, the method's name and parameters.
        fractions: Of the pixels, each in [0, 1).
        n_trials: Networks per unit.
        seed: Of the first trial; the next ones count on from it.
        n_epochs, learning_rate, batch_size: Of training; ``None``: as suits the data.
        replacement: What removed pixels become.
        keep: Keep the top pixels instead of removing them (KAR).
        retrain: ``False``: measure the networks of plain training on changed test images (ROAD).
    """

    data: str
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    fractions: tuple[float, ...] = FRACTIONS
    n_trials: int = 5
    seed: int = 0
    n_epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int = 64
    replacement: Baseline = "mean"
    keep: bool = False
    retrain: bool = True
    bfloat16: bool = False


def n_units(request: RoarRequest) -> int:
    """How often ``on_unit`` will be called: plain training, each method's attributions, each unit."""
    n_explanations = len({*request.methods, "random"})
    return 1 + len(request.methods) + n_explanations * len(request.fractions)


def roar(
    subject: Subject,
    request: RoarRequest,
    out: Path,
    *,
    device: torch.device | None = None,
    on_unit: Callable[[str], None] = lambda _: None,
) -> dict[str, Roar]:
    """Test accuracies by explanation, as :func:`~distillgrad.metrics.roar.remove_and_retrain` defines them.

    First the trials of plain training (the control ``"none"``), the first of which is the network that is
    explained, for what it predicts; then each method's ranks of all train and test images; then the units.
    Each is written when it is done, whole or not at all; a second call computes only what is not there.

    Args:
        device: To train and explain on; by default the CPU.
        on_unit: Called with what is done.
    Raises:
        ParameterError: ``out`` holds a run of another request; a setting outside its range.
        InputError: a class without a train image.
        ModelError: a method failed on the network; names it.
        SourceError: a file of the run is broken, or cannot be written.
    """
    train, test = ((images.to(device), labels.to(device)) for images, labels in (subject.train, subject.test))
    check_request(subject.make_network, train, test, {}, request.fractions, request.replacement)
    settings: dict[str, Any] = {
        "n_epochs": request.n_epochs or subject.n_epochs,
        "learning_rate": request.learning_rate or subject.learning_rate,
        "batch_size": request.batch_size,
        "bfloat16": request.bfloat16,
    }
    begin(out, _manifest(subject, request, settings))
    seeds = range(request.seed, request.seed + request.n_trials)
    learn = partial(train_ensemble, subject.make_network, seeds=seeds, **settings)
    plain = _plain_training(subject.make_network, learn, train, out / "plain.safetensors")
    found = {"none": Roar(torch.zeros(1, dtype=torch.float64), plain.accuracy(*test)[None])}
    on_unit("none")
    ranks: dict[str, tuple[Tensor, Tensor]] = {}
    for label, (name, parameters) in request.methods.items():
        explain = create_method(name, plain.network(0), **parameters).attribute
        paths = [out / "ranks" / f"{file_name_of(label)}.{split}.npy" for split in ("train", "test")]
        ranks[label] = (_ranks(explain, label, train[0], paths[0]), _ranks(explain, label, test[0], paths[1]))
        on_unit(label)
    train_network = learn if request.retrain else lambda _images, _labels: plain
    for label, both in with_random(ranks, train, test).items():
        accuracies = []
        for fraction in request.fractions:
            path = out / "units" / f"{file_name_of(label)} {fraction}.json"
            if not path.is_file():
                measured = retrained_accuracy(
                    train_network,
                    train,
                    test,
                    both,
                    fraction,
                    replacement=request.replacement,
                    keep=request.keep,
                )
                with written_whole(path) as file:
                    file.write(json.dumps({"accuracies": measured.tolist()}).encode())
            accuracies.append(_accuracies(path, request.n_trials))
            on_unit(f"{label}, {fraction:g}")
        found[label] = Roar(torch.tensor(request.fractions, dtype=torch.float64), torch.stack(accuracies))
    return found


def _manifest(subject: Subject, request: RoarRequest, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that the numbers depend on, as JSON reads it back."""
    manifest = {
        "format": FORMAT,
        "data": {"from": request.data, "images": subject.fingerprint},
        "methods": {label: [name, dict(used)] for label, (name, used) in request.methods.items()},
        "fractions": list(request.fractions),
        "n_trials": request.n_trials,
        "seed": request.seed,
        "training": dict(settings),
        "replacement": request.replacement,
        "keep": request.keep,
        "retrain": request.retrain,
    }
    same: dict[str, Any] = json.loads(json.dumps(manifest))
    return same


def _plain_training(
    make_network: Callable[[], nn.Module],
    learn: Callable[[Tensor, Tensor], Ensemble],
    train: Labelled,
    path: Path,
) -> Ensemble:
    """The networks of the intact images: trained, or read from where they were kept."""
    if not path.is_file():
        trained = learn(*train)
        with written_whole(path) as file:
            file.write(save({name: values.cpu().contiguous() for name, values in trained.state.items()}))
    try:
        state = {name: values.to(train[0].device) for name, values in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(f"cannot read {path}: {error}; remove it, to train again") from error
    return Ensemble(new_network(make_network, 0, train[0]), state, trials_at_a_time=1)


def _ranks(explain: Callable[[Tensor], Tensor], label: str, images: Tensor, path: Path) -> Tensor:
    """Each pixel's place in the order of removal, made, or read from where it was kept."""
    if not path.is_file():
        try:
            parts = [ranks_to_store(explain(rows)).cpu() for rows in torch.split(images, ROWS_TO_EXPLAIN)]
        except MissingExtraError:
            raise
        except DistillgradError as error:
            raise ModelError(f"{label} failed on the trained network: {error}") from error
        with written_whole(path) as file:
            np.save(file, torch.cat(parts).numpy(), allow_pickle=False)
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {error}; remove it, to explain again") from error


def _accuracies(path: Path, n_trials: int) -> Tensor:
    values = read_json(path).get("accuracies")
    if not isinstance(values, list) or len(values) != n_trials:
        raise SourceError(f"{path} does not hold {n_trials} accuracies; remove it, to train again")
    return torch.tensor(values, dtype=torch.float64)
