"""The images of a shard as the model takes them, decoded in threads before they are needed."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from torch import Tensor

from distillgrad.errors import MissingExtraError
from distillgrad.runs.attribution.job import AttributionJob, Shard
from distillgrad.runs.attribution.store import Entry
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.model_inputs import model_input
from distillgrad.sources.open_data import ImageData, readable

DECODERS = 2
"""Threads that decode ahead. Pillow lets go of the interpreter's lock while it decodes and resizes, so that
threads do what processes would, without sending each image from one to another."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Decoded:
    """An image's entry and its inputs; no inputs where it cannot be explained."""

    entry: Entry
    inputs: Tensor | None


def failed(entry: Entry, stage: str, reason: object) -> Entry:
    """Return the entry of an image that failed at a stage; its reason reads the same on any machine."""
    return replace(entry, failed_at=stage, reason=readable(ADDRESS.sub("", str(reason))))


class Decoder:
    """A pool of threads that decode images and look their labels up, until it is closed."""

    def __init__(self, job: AttributionJob, loaded: LoadedModel) -> None:
        self._job, self._loaded = job, loaded
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._ahead: dict[int, deque[Future[Decoded]]] = {}

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def shard(self, shard: Shard, then: Shard | None) -> Iterator[Decoded]:
        """Yield a shard's images in their order, decoded ahead of their use, but never more than two batches.

        Args:
            then: The next shard, whose beginning is decoded meanwhile.
        """
        waiting = self._ahead.pop(shard.number, deque())
        most = 2 * self._job.batch_size
        start, n_images = self._job.layout.places(shard.number).start, len(shard.data)
        following: deque[Future[Decoded]] = deque()
        n_submitted = len(waiting)
        for _ in range(n_images):
            while n_submitted < n_images and len(waiting) < most:
                waiting.append(self._threads.submit(self.image, shard.data, n_submitted, start + n_submitted))
                n_submitted += 1
            if then is not None and n_submitted == n_images:
                after = self._job.layout.places(then.number).start
                while len(waiting) + len(following) < most and len(following) < len(then.data):
                    place = len(following)
                    following.append(self._threads.submit(self.image, then.data, place, after + place))
            yield waiting.popleft().result()
        if then is not None:
            self._ahead = {then.number: following}

    def image(self, data: ImageData, place: int, index: int) -> Decoded:
        """Return the image at a place of ``data``, which is ``index`` in the run.

        Raises:
            MissingExtraError: a package that every image, or every label, needs.
        """
        label = data.labels[place]
        entry = Entry(index, data.ids[place], None if label is None else str(label))
        taken = model_input(self._loaded, data, place)
        if taken.image is None:
            return Decoded(failed(entry, "decode", taken.error), None)
        pixels = hashlib.blake2b(taken.image.tobytes(), digest_size=16).hexdigest()
        entry = replace(entry, pixels=pixels, label_index=taken.label_index)
        if taken.label_error is not None and self._job.request.target == "label":
            if isinstance(taken.label_error, MissingExtraError):
                raise taken.label_error
            return Decoded(failed(entry, "label", taken.label_error), None)
        if taken.inputs is None:
            return Decoded(failed(entry, "decode", taken.error), None)
        return Decoded(entry, taken.inputs)
