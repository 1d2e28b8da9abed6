"""Data to retrain on: digits, CIFAR-10 or a folder, as inputs of the network that learns them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from distillgrad.errors import ParameterError, SourceError, UnknownNameError
from distillgrad.metrics.roar_networks import CifarNetwork, DigitsNetwork
from distillgrad.sources import bundled
from distillgrad.sources.digits import normalised_digits, read_digits
from distillgrad.sources.open_data import open_data
from distillgrad.sources.parquet import LabelledImages, read_cifar10
from distillgrad.sources.preprocess import ResizeAndCrop
from distillgrad.sources.value_range import ValueRange

FORMS = {
    "digits": "scikit-learn's handwritten digits, 8×8: always there",
    "cifar10:FOLDER": "CIFAR-10's train.parquet and test.parquet",
    "FOLDER": "its train and test folders of class folders, seen at 32×32",
}


@dataclass(frozen=True)
class Subject:
    """The data that are learned, and the networks that learn them.

    Attributes:
        train, test: Images ``(N, C, H, W)`` float32, normalised, and classes ``(N,)``.
        classes: Their names.
        make_network: The network that learns them.
        n_epochs, learning_rate: That suit it, unless others are asked for.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: tuple[str, ...]
    make_network: Callable[[], nn.Module]
    n_epochs: int
    learning_rate: float

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all images and labels."""
        digest = hashlib.sha256()
        for values in (*self.train, *self.test):
            digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()


def has_files(spec: str) -> bool:
    """Return whether the data are a folder of image files."""
    kind, _, rest = spec.partition(":")
    return spec != "digits" and not (kind == "cifar10" and rest)


def subject_of(spec: str, *, limit: int | None = None, value_range: ValueRange | None = None) -> Subject:
    """Return the data that ``spec`` names, one of ``FORMS``.

    Args:
        limit: Only so many train images, and at most so many test images.
        value_range: The values of a folder's files that are shown black and white.
    Raises:
        SourceError: nothing is there, or it is in another layout.
        UnknownNameError: no such form.
        ParameterError: ``limit`` below 1; a range for data without image files.
        MissingExtraError: scikit-learn or pyarrow is not installed.
    """
    if limit is not None and limit < 1:
        raise ParameterError(f"limit must be at least 1, not {limit}")
    if value_range is not None and not has_files(spec):
        raise ParameterError(f"a value range does nothing here: {spec} holds no image files; leave it out")
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        parts = [normalised_digits(part) for part in read_digits()]
        classes: tuple[str, ...] = tuple(map(str, range(10)))
        train, test = ((images[:limit], labels[:limit]) for images, labels in parts)
        return Subject(train, test, classes, DigitsNetwork, 10, 5e-3)
    if kind == "cifar10" and rest:
        train, test = (_cifar_inputs(read_cifar10(rest, split, limit=limit)) for split in ("train", "test"))
        return Subject(train, test, bundled.CLASSES, CifarNetwork, 100, 3e-4)
    if not Path(spec).is_dir():
        raise UnknownNameError("data set", spec, FORMS)
    folders = [
        open_data(Path(spec) / split, limit=limit, value_range=value_range) for split in ("train", "test")
    ]
    names = tuple(sorted({str(label) for label in folders[0].labels if label is not None}))
    if not names or any(
        label is None or str(label) not in names for part in folders for label in part.labels
    ):
        raise SourceError(
            f"{spec}/train and {spec}/test must hold the same class folders, and images in each"
        )
    crop = ResizeAndCrop(32, 32, bundled.MEAN, bundled.STD)
    train, test = (
        (
            torch.stack([crop(sample.image) for sample in part]),
            torch.tensor([names.index(str(label)) for label in part.labels], device="cpu"),
        )
        for part in folders
    )
    return Subject(train, test, names, lambda: CifarNetwork(len(names)), 100, 3e-4)


def portable_data(spec: str) -> str:
    """Return the spec as another process reads it, which works in another folder."""
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        return spec
    return f"cifar10:{Path(rest).absolute()}" if kind == "cifar10" and rest else str(Path(spec).absolute())


def _cifar_inputs(part: LabelledImages) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(part.images).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(each, device="cpu").view(3, 1, 1) for each in (bundled.MEAN, bundled.STD))
    return images.sub_(mean).div_(std).contiguous(), torch.from_numpy(part.labels)
