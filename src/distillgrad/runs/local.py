"""The engine that is always there: shards one after the other in this process, decoding ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from distillgrad.runs.shards import Job, Shard, ShardReport, ShardWorker
from distillgrad.sources.classifier import LoadedModel


@dataclass(frozen=True)
class LocalEngine:
    """Computes shards with a model that is loaded already; afterwards torch has its threads back."""

    loaded: LoadedModel | None = None

    def __call__(
        self,
        job: Job,
        shards: Sequence[Shard],
        stopped: threading.Event,
        on_images: Callable[[int], None],
    ) -> Iterator[ShardReport]:
        with ShardWorker(job, self.loaded) as worker:
            for shard, then in zip_longest(shards, shards[1:]):
                if stopped.is_set():
                    return
                yield worker.compute(shard, then, on_images=on_images)
