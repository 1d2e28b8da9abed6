"""The work that is sent to whatever computes shards of a data set, and the report that comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from distillgrad.runs.attribution.arrays import Layout
from distillgrad.runs.attribution.request import AttributionRequest, layout_of
from distillgrad.runs.attribution.said import Said
from distillgrad.runs.attribution.store import Entry
from distillgrad.runs.request import from_manifest
from distillgrad.sources.models import portable_spec
from distillgrad.sources.open_data import ImageData


@dataclass(frozen=True)
class AttributionJob:
    """All that a worker must know to compute any shard.

    Attributes:
        request: The run's, read from its manifest, its model by an absolute path.
        weights: The SHA-256 of the model's weights.
        threads: Those that a shard is computed with: sums of floats depend on how they are cut.
        out: The run's place, as :func:`~distillgrad.runs.folders.folder_at` takes it.
        strict: End the run at the first image that fails.
    """

    request: AttributionRequest
    weights: str
    layout: Layout
    batch_size: int
    threads: int
    out: str
    strict: bool = False


def job_of(manifest: Mapping[str, Any], out: str, strict: bool) -> AttributionJob:
    """Return what workers need of a run's manifest."""
    request = from_manifest(AttributionRequest, manifest)
    return AttributionJob(
        request=replace(request, model=portable_spec(request.model)),
        weights=manifest["model"]["weights"],
        layout=layout_of(manifest),
        batch_size=manifest["batch_size"],
        threads=manifest["threads"],
        out=out,
        strict=strict,
    )


@dataclass(frozen=True)
class Shard:
    """A shard's number and images; ``first``: whether the run has nothing yet."""

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
    """The outcome of a shard that is now written; by label what was said of its maps."""

    number: int
    n_explained: int
    failures: tuple[Entry, ...]
    said: Mapping[str, Said] = field(default_factory=dict)
