"""The estimate of a run's time and size, from a few batches of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from distillgrad.core.profiling import stopwatch
from distillgrad.errors import InputError
from distillgrad.runs.attribution.job import Shard, job_of
from distillgrad.runs.attribution.request import AttributionRequest, attribution_manifest, layout_of
from distillgrad.runs.attribution.store import prepare
from distillgrad.runs.attribution.worker import ShardWorker
from distillgrad.runs.folders import folder_at
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData

BATCHES = 3


@dataclass(frozen=True)
class Estimate:
    """The time and the size of a whole run, by one worker.

    Attributes:
        n_images: The images of the whole data.
        n_timed: The images that were explained for it.
        seconds_per_image: For decoding, explaining by all methods and writing.
        total_bytes: The size of arrays and tables, compressed as far as those images' are.
    """

    n_images: int
    n_timed: int
    batch_size: int
    shard_size: int
    threads: int
    seconds_per_image: float
    total_bytes: int

    @property
    def hours(self) -> float:
        """The time of the whole run."""
        return self.n_images * self.seconds_per_image / 3600

    def record(self) -> Mapping[str, float]:
        """Return the values as JSON has them."""
        return {**vars(self), "hours": self.hours}


def estimate(
    loaded: LoadedModel,
    data: ImageData,
    request: AttributionRequest,
    default_threads: int,
    *,
    fast: nn.Module | None = None,
) -> Estimate:
    """Explain a few batches as the run would, into a folder that is thrown away.

    Raises:
        InputError: none of those images can be explained.
    """
    manifest = attribution_manifest(loaded, data, request, fast or loaded.model, default_threads)
    size = manifest["batch_size"]
    n_timed = min(len(data), BATCHES * size)
    with tempfile.TemporaryDirectory() as out:
        layout = replace(layout_of(manifest), n_entries=n_timed, shard_size=size)
        prepare(folder_at(out), layout, ())
        shards = [Shard(number, data.part(layout.places(number))) for number in range(layout.n_shards)]
        with ShardWorker(replace(job_of(manifest, out, False), layout=layout), loaded, fast) as worker:
            worker.compute(shards[0])  # what libraries set up once is not to be counted
            with stopwatch() as watch:
                reports = list(worker.compute_all(shards, threading.Event()))
        folder = folder_at(out)
        n_bytes = sum(len(folder.get(name)) for name in folder.names())
    n_explained = sum(report.n_explained for report in reports)
    if not n_explained:
        failure = reports[0].failures[0]
        raise InputError(f"none of the first {n_timed} images can be explained: {failure.reason}")
    return Estimate(
        n_images=len(data),
        n_timed=n_timed,
        batch_size=size,
        shard_size=manifest["shard_size"],
        threads=manifest["threads"],
        seconds_per_image=watch.seconds / n_timed,
        total_bytes=round(n_bytes / n_timed * len(data)),
    )
