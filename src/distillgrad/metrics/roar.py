"""ROAR: what a network can still learn once the pixels that an explanation names are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.ensembles import Ensemble, n_classes_of, new_network, train_ensemble
from distillgrad.metrics.labelled_images import check_classes, check_labelled
from distillgrad.metrics.pixel_ranks import check_ranks, random_ranks, without_top
from distillgrad.metrics.removal import Baseline

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Images ``(N, C, H, W)``, model-normalised, and their classes ``(N,)``."""

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Roar:
    """The test accuracies of networks trained on what is left of the images.

    Attributes:
        fractions: The share of the pixels that was removed (with ``keep``: kept), ``(F,)``.
        accuracies: Of each trial, ``(F, T)`` float64; trial t has the same seed everywhere, so two
            explanations may be compared trial by trial.
    """

    fractions: Tensor
    accuracies: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean over the trials, ``(F,)``. After removal lower is better, with ``keep`` higher."""
        return self.accuracies.mean(1)

    @property
    def standard_error(self) -> Tensor:
        """The standard error of the mean, ``(F,)``; NaN for a single trial."""
        n_trials = self.accuracies.shape[1]
        squares = (self.accuracies - self.mean[:, None]).square().sum(1)
        return (squares / (n_trials - 1) / n_trials).sqrt() if n_trials > 1 else squares * torch.nan


def retrained_accuracy(
    train_network: Callable[[Tensor, Tensor], Ensemble],
    train: Labelled,
    test: Labelled,
    ranks: tuple[Tensor, Tensor],
    fraction: float,
    *,
    replacement: Baseline = "mean",
    keep: bool = False,
) -> Tensor:
    """Return a unit of ROAR: the test accuracies ``(T,)`` of networks trained without a share of the pixels.

    Args:
        train_network: From images and labels to the trained trials: :func:`train_ensemble` with its settings.
        ranks: Of the pixels of the train and of the test images.
    """
    remove = partial(without_top, fraction=fraction, replacement=replacement, keep=keep)
    ensemble = train_network(remove(train[0], ranks[0]), train[1])
    return ensemble.accuracy(remove(test[0], ranks[1]), test[1])


def remove_and_retrain(
    make_network: Callable[[], nn.Module],
    train: Labelled,
    test: Labelled,
    ranks: Mapping[str, tuple[Tensor, Tensor]],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    n_epochs: int = 100,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    replacement: Baseline = "mean",
    keep: bool = False,
    retrain: bool = True,
    trials_at_a_time: int | None = None,
    bfloat16: bool = False,
    on_unit: Callable[[str, float, Tensor], None] | None = None,
) -> dict[str, Roar]:
    """Return test accuracies by explanation, its most relevant pixels removed and networks retrained.

    Pixels are removed from train and test images alike. Trial t begins with the parameters and follows
    the order of the data that its seed fixes, whatever was removed. Two controls come along: ``"none"``,
    plain training, at fraction 0 alone; ``"random"``, an order drawn for each image, unless it is given.

    An explanation of the labels, not of predictions, can write the label into the hole that it leaves, and
    a network can learn to read it: so explain what a model predicts, for train and test images.

    Args:
        make_network: Makes a new network, such as ``CifarNetwork``.
        train, test: Images ``(N, C, H, W)``, model-normalised, on the device to train on; classes ``(N,)``.
        ranks: By explanation, ``ranks_to_store`` of the train and of the test images.
        fractions: Of the pixels, each in [0, 1).
        seeds: One per trial; also n_epochs, batch_size, learning_rate, trials_at_a_time, bfloat16: as for
            :func:`train_ensemble`.
        replacement: As for ``without_top``; the same for all images.
        keep: Keep these pixels and remove all others (KAR): higher accuracy is then better.
        retrain: ``False`` measures the networks of ``"none"`` on the changed test images (ROAD, whose
            authors replace by ``"road"``).
        on_unit: Called with explanation, fraction and accuracies ``(T,)`` when a unit is done.
    Raises:
        InputError: images, labels or ranks that do not belong together; a class without a train image.
        TargetError: a label that the network has no logit for.
        ParameterError: a fraction outside [0, 1), or another setting outside its range.
        ModelError: as for :func:`train_ensemble`.
    Cost: (explanations + 1)·F + 1 times T trainings; without retraining T.
    Source: Hooker et al. 2019 (ROAR, KAR); Jeon et al. 2022, §4.3; Rong et al. 2022 (ROAD).
    """
    check_request(make_network, train, test, ranks, fractions, replacement)
    train_network = partial(
        train_ensemble,
        make_network,
        seeds=seeds,
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        trials_at_a_time=trials_at_a_time,
        bfloat16=bfloat16,
    )
    clean = train_network(*train)

    def measured(name: str, fraction: float) -> Tensor:
        if name == "none":
            accuracies = clean.accuracy(*test)
        else:
            learn = train_network if retrain else lambda _images, _labels: clean
            accuracies = retrained_accuracy(
                learn, train, test, rankings[name], fraction, replacement=replacement, keep=keep
            )
        if on_unit is not None:
            on_unit(name, fraction, accuracies)
        return accuracies

    rankings = with_random(ranks, train, test)
    units = {"none": (0.0,), **dict.fromkeys(rankings, tuple(fractions))}
    return {
        name: Roar(
            torch.tensor(each, dtype=torch.float64, device="cpu"),
            torch.stack([measured(name, fraction) for fraction in each]),
        )
        for name, each in units.items()
    }


def with_random(
    ranks: Mapping[str, tuple[Tensor, Tensor]], train: Labelled, test: Labelled
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the explanations' ranks, and those of the control ``"random"`` if they are not among them."""
    sizes = [(len(images), *images.shape[2:]) for images, _ in (train, test)]
    drawn = [random_ranks(*size, seed=seed) for seed, size in enumerate(sizes)]
    return {**ranks, "random": ranks.get("random", (drawn[0], drawn[1]))}


def check_request(
    make_network: Callable[[], nn.Module],
    train: Labelled,
    test: Labelled,
    ranks: Mapping[str, tuple[Tensor, Tensor]],
    fractions: Iterable[float],
    replacement: Baseline = "mean",
) -> None:
    """Check that ROAR can be computed of this, before hours are spent.

    Raises:
        InputError, TargetError, ParameterError, ModelError: as for :func:`remove_and_retrain`.
        UnknownNameError: a replacement that does not exist.
    """
    check_labelled(*train)
    check_labelled(*test)
    images, unseen = train[0], test[0]
    if images.shape[1:] != unseen.shape[1:] or images.dtype != unseen.dtype or images.device != unseen.device:
        raise InputError(
            f"train images are {tuple(images.shape[1:])}, {images.dtype} on {images.device}, test images "
            f"{tuple(unseen.shape[1:])}, {unseen.dtype} on {unseen.device}; make them alike"
        )
    n_classes = n_classes_of(new_network(make_network, 0, images), images)
    check_classes(test[1], n_classes)
    counts = check_classes(train[1], n_classes).bincount(minlength=n_classes)
    missing = (counts == 0).nonzero()[:, 0].tolist()
    if missing:
        raise InputError(
            f"no train image of class{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}: the "
            f"network has {n_classes} classes; give images of each, or a network with fewer"
        )
    if "none" in ranks:
        raise ParameterError("'none' is the control without removal; call the explanation something else")
    for name, pair in ranks.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InputError(f"give {name!r} as two tensors, the ranks of train and of test images")
        check_ranks(pair[0], images, f"the train ranks of {name!r}")
        check_ranks(pair[1], unseen, f"the test ranks of {name!r}")
    fractions = tuple(fractions)
    if not fractions:
        raise ParameterError("give at least one fraction of the pixels to remove")
    tried = random_ranks(1, *images.shape[2:], seed=0)
    for fraction in fractions:
        without_top(images[:1], tried, fraction, replacement=replacement)
