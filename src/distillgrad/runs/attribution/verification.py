"""The verification of a run: no image missing or twice, no byte changed, maps that come out again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import SourceError
from distillgrad.runs.attribution.damage import damaged, vouched_for
from distillgrad.runs.attribution.job import AttributionJob, Shard, job_of
from distillgrad.runs.attribution.reading import AttributionRun, open_run
from distillgrad.runs.attribution.request import read_manifest
from distillgrad.runs.attribution.store import (
    COMPLETE,
    ENTRIES,
    finished_shards,
    read_part,
    read_table,
)
from distillgrad.runs.attribution.worker import ShardWorker
from distillgrad.runs.folders import RunFolder, folder_at
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData

LEAST_CORRELATION = 0.8
"""Least correlation of a map with itself, computed anew: other machines round otherwise, DGA amplifies."""

Part = tuple[list[int], dict[str, str]]
"""The images of a shard, and the checksums of its maps' files."""


@dataclass(frozen=True)
class Verification:
    """The outcome of a verification.

    Attributes:
        faults: Said in words; none means that all is well.
        n_files: The number of files whose checksums were recomputed.
        n_identical, n_maps: Maps that came out again byte for byte, of so many that were computed anew.
        least_correlation: The lowest correlation among them; 1 if none was computed.
    """

    faults: tuple[str, ...]
    n_files: int
    n_identical: int
    n_maps: int
    least_correlation: float


def verify(
    out: str,
    *,
    subject: Callable[[], tuple[LoadedModel, ImageData]] | None = None,
    n_samples: int = 8,
    seed: int = 0,
) -> Verification:
    """Recompute the checksums of all files, and the maps of a random sample's batches.

    Args:
        subject: Returns the model and the data, to explain anew; asked only once the files are found to be as
            they were written. Without it only they are checked.
        n_samples: Images that are drawn; the batch of each is explained, since a batch decides last bits.
    Raises:
        SourceError: no run is there. What is broken in one is a fault, and so is that it is not finished.
        ParameterError: the model has other weights.
    Cost: reads the whole run; explains up to ``n_samples`` batches.
    """
    folder = folder_at(out)
    job = job_of(read_manifest(folder), folder.url, False)
    try:
        ids = _ids(folder, job)
    except SourceError as error:  # without it the manifest may claim what it will
        return Verification((str(error),), 0, 0, 0, 1.0)
    parts, faults = _parts(folder, job)
    changed, n_files = _damaged(folder, job, parts)
    faults += changed + _miscounted(ids, job, parts)
    identical, correlations = 0, [1.0]
    if subject is not None and not faults:
        loaded, data = subject()
        run = open_run(out)
        if data.ids != run.ids:
            pairs = zip_longest(run.ids, data.ids)
            was, now = next((one, other) for one, other in pairs if one != other)
            faults.append(f"{data.name} has other images than the run: {now}, where {was} was")
        else:
            identical, correlations, differing = _again(folder, job, run, loaded, data, n_samples, seed)
            faults += differing
    return Verification(tuple(faults), n_files, identical, len(correlations) - 1, min(correlations))


def _parts(folder: RunFolder, job: AttributionJob) -> tuple[dict[int, Part], list[str]]:
    """Return the shards that are there, and as faults the broken and the missing ones."""
    parts, faults = {}, []
    shards = sorted(finished_shards(folder))
    for shard in shards:
        try:
            part = read_part(folder, shard)
            parts[shard] = [each.index for each in part.entries], part.checksums
        except SourceError as error:
            faults.append(str(error))
    n_shards = job.layout.n_shards
    missing = n_shards - sum(shard < n_shards for shard in shards)
    if missing:
        faults.append(f"{missing} of {n_shards} shards are missing: the run is not finished")
    elif not folder.has(COMPLETE):
        faults.append(f"{COMPLETE} is missing: the run is not finished")
    return parts, faults


def _damaged(folder: RunFolder, job: AttributionJob, parts: Mapping[int, Part]) -> tuple[list[str], int]:
    """Return as faults the files that are missing or changed, and the number of files."""
    expected = {name: each for _, checksums in parts.values() for name, each in checksums.items()}
    faults = []
    if folder.has(COMPLETE):
        try:
            expected = vouched_for(folder, job.layout)
        except SourceError as error:
            faults.append(str(error))
    faults += [words for _, words in damaged(folder, expected)]
    return faults, len(expected)


def _ids(folder: RunFolder, job: AttributionJob) -> list[str]:
    """Return the images' ids.

    Raises:
        SourceError: their table is broken, or has others than the manifest counts.
    """
    table = read_table(folder, ENTRIES)
    if "id" not in table.column_names or len(table) != job.layout.n_entries:
        raise SourceError(f"{ENTRIES} has {len(table)} images, where {job.layout.n_entries} were asked for")
    ids: list[str] = table["id"].to_pylist()
    return ids


def _miscounted(ids: Sequence[str], job: AttributionJob, parts: Mapping[int, Part]) -> list[str]:
    """Return as faults the images that are missing or twice in the shards that are there."""
    wanted = Counter(place for shard in parts for place in job.layout.places(shard))
    held = Counter(index for indices, _ in parts.values() for index in indices)
    faults = [f"image {ids[place]} is missing" for place in sorted(wanted - held)]
    return faults + [f"image {place} is there more than once" for place in sorted(held - wanted)]


def _again(
    folder: RunFolder,
    job: AttributionJob,
    run: AttributionRun,
    loaded: LoadedModel,
    data: ImageData,
    n_samples: int,
    seed: int,
) -> tuple[int, list[float], list[str]]:
    """Return how many of a sample's maps come out again, the correlations of all, and the faults."""
    explained = np.flatnonzero(run.explained).tolist()
    drawn = sorted(random.Random(seed).sample(explained, min(n_samples, len(explained))))  # noqa: S311
    identical, correlations, faults = 0, [1.0], []
    with ShardWorker(job, loaded) as worker:
        for index in drawn:
            number = index // job.layout.shard_size
            entries = {each.index: each for each in read_part(folder, number).entries}
            # What was decoded is what was cut into batches, whether or not it could be explained then.
            rows = [place for place, each in sorted(entries.items()) if each.failed_at in (None, "attribute")]
            start = rows.index(index) // job.batch_size * job.batch_size
            shard = Shard(number, data.part(job.layout.places(number)))
            batch = worker.decoded_at(shard, rows[start : start + job.batch_size])
            row = rows.index(index) - start
            if batch[row].entry.pixels != entries[index].pixels:
                faults.append(f"image {run.ids[index]} is another one than it was")
                continue
            if any(each.inputs is None for each in batch):
                faults.append(f"an image beside {run.ids[index]} cannot be read any more")
                continue
            entry, maps, _ = worker.explained(batch)[row]
            if entry.target != entries[index].target:
                faults.append(
                    f"image {run.ids[index]}: class {entry.target}, where {entries[index].target} was"
                )
                continue
            for label, again in maps.items():
                stored = run.attributions[label][index]
                identical += stored.tobytes() == again.tobytes()
                correlations.append(_correlation(stored, again))
                if correlations[-1] < LEAST_CORRELATION:
                    faults.append(
                        f"{label} of {run.ids[index]} is another map ({correlations[-1]:.2f} correlated)"
                    )
    return identical, correlations, faults


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    if np.array_equal(one, other):
        return 1.0
    a, b = (each.astype(np.float64).ravel() - each.mean(dtype=np.float64) for each in (one, other))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0
