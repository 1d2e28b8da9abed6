"""What travels to whatever computes a shard of a data set, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.runs.attribution.store import Entry, Layout
from distillgrad.sources.open_data import ImageData


@dataclass(frozen=True)
class Job:
    """What a worker must know to compute any shard.

    Attributes:
        model: What :func:`~distillgrad.sources.models.load_model` takes; ``weights``: their SHA-256.
        methods: By label, the method's name and parameters.
        target: ``"predicted"``, ``"label"``, or a class's name or number.
        precision: Of the faster model, if ``accelerated``.
        threads: That a shard is computed with: sums of floats depend on how they are cut.
        out: Of the run, as :func:`~distillgrad.runs.folders.folder_at` takes it.
        strict: Whether an image that fails ends the run.
    """

    model: str
    weights: str
    methods: Mapping[str, tuple[str, Mapping[str, Any]]]
    target: str
    layout: Layout
    batch_size: int
    threads: int
    seed: int
    accelerated: bool
    precision: Precision
    device: str
    out: str
    strict: bool = False


@dataclass(frozen=True)
class Shard:
    """Its number, and its images; ``first``: whether the run has nothing yet."""

    number: int
    data: ImageData
    first: bool = False


@dataclass(frozen=True)
class Shards(Sequence[Shard]):
    """The shards of some numbers, each cut from the data when it is asked for; all at once would copy it."""

    numbers: tuple[int, ...]
    layout: Layout
    data: ImageData

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Shard: ...

    @overload
    def __getitem__(self, place: slice) -> Shards: ...

    def __getitem__(self, place: int | slice) -> Shard | Shards:
        if isinstance(place, slice):
            return replace(self, numbers=self.numbers[place])
        number = self.numbers[place]
        return Shard(number, self.data.part(self.layout.places(number)), first=not number)


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard that is now written."""

    number: int
    n_explained: int
    failures: tuple[Entry, ...]
