"""The images of a shard as the model takes them, decoded in threads before they are needed."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from torch import Tensor

from distillgrad.errors import DistillgradError, InputError, MissingExtraError, SourceError
from distillgrad.runs.attribution.job import Job, Shard
from distillgrad.runs.attribution.store import Entry
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.open_data import ImageData, label_index, readable

DECODERS = 2
"""Threads that decode ahead. Pillow lets go of the interpreter's lock while it decodes and resizes, so that
threads do what processes would, without sending each image from one to another."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Decoded:
    """An image that can be explained, or one that cannot, without inputs."""

    entry: Entry
    inputs: Tensor | None


def failed(entry: Entry, stage: str, reason: object) -> Entry:
    """The entry of an image with which a stage failed; the reason says the same wherever it is computed."""
    return replace(entry, stage=stage, reason=readable(ADDRESS.sub("", str(reason))))


class Decoder:
    """Decodes images, and looks their labels up; holds its threads until it is closed."""

    def __init__(self, job: Job, loaded: LoadedModel) -> None:
        self._job, self._loaded = job, loaded
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._ahead: dict[int, deque[Future[Decoded]]] = {}

    def close(self) -> None:
        """Lets the threads go."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def shard(self, shard: Shard, then: Shard | None) -> Iterator[Decoded]:
        """A shard's images in their order, decoded ahead of their use, but never more than two batches.

        Args:
            then: The next shard, whose beginning is decoded meanwhile.
        """
        waiting = self._ahead.pop(shard.number, deque())
        most = 2 * self._job.batch_size
        start, n_images = self._job.layout.places(shard.number).start, len(shard.data)
        following: deque[Future[Decoded]] = deque()
        asked = len(waiting)
        for _ in range(n_images):
            while asked < n_images and len(waiting) < most:
                waiting.append(self._threads.submit(self.image, shard.data, asked, start + asked))
                asked += 1
            if then is not None and asked == n_images:
                after = self._job.layout.places(then.number).start
                while len(waiting) + len(following) < most and len(following) < len(then.data):
                    place = len(following)
                    following.append(self._threads.submit(self.image, then.data, place, after + place))
            yield waiting.popleft().result()
        if then is not None:
            self._ahead = {then.number: following}

    def image(self, data: ImageData, place: int, index: int) -> Decoded:
        """The image at a place of ``data``, which is ``index`` in the run.

        Raises:
            MissingExtraError: a package that every image, or every label, needs.
        """
        label = data.labels[place]
        entry = Entry(index, data.ids[place], None if label is None else str(label))
        try:
            image = data[place].image
        except SourceError as error:
            return Decoded(failed(entry, "decode", error), None)
        entry = replace(entry, pixels=hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest())
        try:
            if label is None:
                raise InputError("it has no label")
            entry = replace(entry, label_index=label_index(label, self._loaded, data.classes))
        except MissingExtraError:
            if self._job.target == "label":
                raise
        except (DistillgradError, ValueError) as error:
            if self._job.target == "label":
                return Decoded(failed(entry, "label", error), None)
        try:
            inputs = self._loaded.preprocess(image)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001  # the model's own code
            return Decoded(failed(entry, "decode", f"cannot be preprocessed: {error}"), None)
        if tuple(inputs.shape) != tuple(self._loaded.input_size):
            reason = f"preprocessed to {tuple(inputs.shape)}, the model takes {self._loaded.input_size}"
            return Decoded(failed(entry, "decode", reason), None)
        return Decoded(entry, inputs)
