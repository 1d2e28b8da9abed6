"""One shard of a data set: decoded, explained, written. Every engine computes it by this and nothing else."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillgrad.core.accelerate import accelerate
from distillgrad.core.forward import Model, logits_of
from distillgrad.errors import (
    DistillgradError,
    InputError,
    MissingExtraError,
    ModelError,
    ParameterError,
    SourceError,
)
from distillgrad.methods import METHODS, create_method
from distillgrad.runs.folders import folder_at
from distillgrad.runs.store import Entry, Layout, write_shard
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.datasets import ImageData, label_index, readable
from distillgrad.sources.models import load_model
from distillgrad.sources.weights import fingerprint

DECODERS = 2
"""Threads that decode ahead. Pillow lets go of the interpreter's lock while it decodes and resizes, so that
threads do what processes would, without sending each image from one to another."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Job:
    """What a worker must know to compute any shard; travels to other processes.

    Attributes:
        model: What :func:`~distillgrad.sources.models.load_model` takes; ``weights``: their SHA-256.
        methods: By label, the method's name and parameters.
        target: ``"predicted"``, ``"label"``, or a class's name or number.
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
class ShardReport:
    """What became of a shard that is now written."""

    number: int
    n_explained: int
    failures: tuple[Entry, ...]


@dataclass(frozen=True)
class _Decoded:
    entry: Entry
    inputs: Tensor | None


def _failed(entry: Entry, stage: str, reason: object) -> Entry:
    return replace(entry, stage=stage, reason=readable(ADDRESS.sub("", str(reason))))


def equivalent(loaded: LoadedModel, device: torch.device) -> Model:
    """An equivalent of the model that takes less time; the model itself, if there is none.

    Which layout is faster is not measured: it decides the last bits, and runs should repeat.

    Raises:
        ModelError, InputError: it cannot be made; the message says why.
    """
    convolutions = [each for each in loaded.model.modules() if isinstance(each, torch.nn.Conv2d)]
    example = torch.zeros(1, *loaded.input_size, device=device)
    return accelerate(loaded.model, example, channels_last=len(convolutions) > 1)


class ShardWorker:
    """Computes shards; holds the model, the threads that decode and, until it is closed, torch's settings.

    Raises:
        ParameterError: the model's weights are not those that the run was begun with.
    """

    def __init__(self, job: Job, loaded: LoadedModel | None = None) -> None:
        if loaded is None:
            loaded = load_model(job.model)
            loaded.model.to(job.device)
        found = fingerprint(loaded.model)
        if found != job.weights:
            raise ParameterError(
                f"the weights of {job.model} are not those that {job.out} was begun with "
                f"(SHA-256 {found[:12]}…, there {job.weights[:12]}…); give another folder"
            )
        self._job, self._loaded, self._device = job, loaded, torch.device(job.device)
        self._model: Model = loaded.model
        if job.accelerated:
            try:
                self._model = equivalent(loaded, self._device)
            except (ModelError, InputError):  # there is none: the same on every machine
                self._model = loaded.model
        self._methods = {
            label: create_method(name, loaded.model if METHODS[name].layerwise else self._model, **parameters)
            for label, (name, parameters) in job.methods.items()
        }
        self._fixed = None
        if job.target not in ("predicted", "label"):
            self._fixed = loaded.class_index(job.target)
        self._folder = folder_at(job.out)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._ahead: dict[int, deque[Future[_Decoded]]] = {}
        self._before = torch.get_num_threads(), torch.backends.cudnn.deterministic
        torch.set_num_threads(job.threads)
        torch.backends.cudnn.deterministic = True

    def __enter__(self) -> ShardWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def compute(
        self,
        shard: Shard,
        then: Shard | None = None,
        *,
        on_images: Callable[[int], None] = lambda _: None,
    ) -> ShardReport:
        """Computes and writes a shard; meanwhile decodes the beginning of the next one.

        Args:
            on_images: Called with a number of images when they are done.
        Raises:
            SourceError: the run cannot be written; ``strict``, and an image failed.
            ModelError: not one image of the run's first batch could be explained.
        """
        layout, places = self._job.layout, self._job.layout.places(shard.number)
        entries: list[Entry] = []
        maps = {
            label: np.full((len(places), *shape), np.nan, layout.dtype)
            for label, shape in layout.shapes.items()
        }
        batch: list[_Decoded] = []
        first = shard.first

        def finish() -> None:
            nonlocal first
            for entry, rows in self.explained(batch, all_or_error=first):
                entries.append(self._let_pass(entry))
                for label, row in rows.items():
                    maps[label][entry.index - places.start] = row
            first = False
            on_images(len(batch))
            batch.clear()

        for decoded in self._decoded(shard, then):
            if decoded.inputs is None:
                entries.append(self._let_pass(decoded.entry))
                on_images(1)
                continue
            batch.append(decoded)
            if len(batch) == self._job.batch_size:
                finish()
        if batch:
            finish()
        entries.sort(key=lambda each: each.index)
        write_shard(self._folder, layout, shard.number, entries, maps)
        failures = tuple(each for each in entries if each.stage)
        return ShardReport(shard.number, len(entries) - len(failures), failures)

    def close(self) -> None:
        """Lets the decoding threads go, and gives torch its settings back."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        n_threads, deterministic = self._before
        torch.set_num_threads(n_threads)
        torch.backends.cudnn.deterministic = deterministic

    def decoded_at(self, shard: Shard, indices: Sequence[int]) -> list[_Decoded]:
        """The images of these indices, to be explained."""
        start = self._job.layout.places(shard.number).start
        return [self._decode(shard.data, index - start, index) for index in indices]

    def explained(
        self, batch: Sequence[_Decoded], *, all_or_error: bool = False
    ) -> list[tuple[Entry, dict[str, NDArray[Any]]]]:
        """Each image's entry and maps; where the batch fails, its images are tried one by one.

        Raises:
            ModelError: ``all_or_error``, and all of them failed.
        """
        try:
            return self._explained_together(batch)
        except (MissingExtraError, ParameterError):
            raise
        except DistillgradError as error:
            if len(batch) == 1:
                if all_or_error:
                    raise ModelError(f"image {batch[0].entry.id}: {error}") from error
                return [(_failed(batch[0].entry, "attribute", error), {})]
        found = [self.explained([each])[0] for each in batch]
        if all_or_error and all(entry.stage for entry, _ in found):
            raise ModelError(f"none of the first {len(batch)} images can be explained: {found[0][0].reason}")
        return found

    def _explained_together(self, batch: Sequence[_Decoded]) -> list[tuple[Entry, dict[str, NDArray[Any]]]]:
        inputs = torch.stack([each.inputs for each in batch if each.inputs is not None]).to(self._device)
        torch.manual_seed(self._job.seed)  # for models that draw; methods have seeds of their own
        try:
            with torch.no_grad():
                logits = logits_of(self._model(inputs)).double()
        except DistillgradError:
            raise
        except Exception as error:  # the model's own code
            raise ModelError(f"the model fails: {type(error).__name__}: {error}") from error
        if logits.ndim != 2 or not bool(logits.isfinite().all()):
            raise ModelError("the model's logits are not finite numbers of several classes")
        predicted = logits.argmax(1)
        target = predicted.clone()
        if self._fixed is not None:
            target[:] = self._fixed
        elif self._job.target == "label":
            target = torch.tensor([each.entry.label_index for each in batch], device=self._device)
        probabilities = logits.softmax(1)
        maps = {label: self._map(label, inputs, target) for label in self._methods}
        found = []
        for row, decoded in enumerate(batch):
            chosen = int(target[row])
            entry = replace(
                decoded.entry,
                predicted=int(predicted[row]),
                target=chosen,
                score=float(logits[row, chosen]),
                probability=float(probabilities[row, chosen]),
            )
            found.append((entry, {label: values[row] for label, values in maps.items()}))
        return found

    def _map(self, label: str, inputs: Tensor, target: Tensor) -> NDArray[Any]:
        try:
            values = self._methods[label].attribute(inputs, target)
        except MissingExtraError:
            raise
        except DistillgradError as error:
            raise ModelError(f"{label}: {error}") from error
        stored: NDArray[Any] = values.detach().float().cpu().numpy().astype(self._job.layout.dtype)
        expected = self._job.layout.shapes[label]
        if stored.shape[1:] != expected:
            raise ModelError(f"{label}: maps of shape {stored.shape[1:]}, where {expected} was expected")
        if not np.isfinite(stored).all():
            raise ModelError(f"{label}: values beyond float16; ask for float32")
        return stored

    def _decoded(self, shard: Shard, then: Shard | None) -> Iterator[_Decoded]:
        """A shard's images in their order, decoded ahead of their use, but never more than two batches."""
        waiting = self._ahead.pop(shard.number, deque())
        most = 2 * self._job.batch_size
        start, n_images = self._job.layout.places(shard.number).start, len(shard.data)
        following: deque[Future[_Decoded]] = deque()
        asked = len(waiting)
        for _ in range(n_images):
            while asked < n_images and len(waiting) < most:
                waiting.append(self._decoders.submit(self._decode, shard.data, asked, start + asked))
                asked += 1
            if then is not None and asked == n_images:
                after = self._job.layout.places(then.number).start
                while len(waiting) + len(following) < most and len(following) < len(then.data):
                    place = len(following)
                    following.append(self._decoders.submit(self._decode, then.data, place, after + place))
            yield waiting.popleft().result()
        if then is not None:
            self._ahead = {then.number: following}

    def _decode(self, data: ImageData, place: int, index: int) -> _Decoded:
        entry = Entry(index, data.ids[place], None if data.labels[place] is None else str(data.labels[place]))
        try:
            image = data[place].image
        except SourceError as error:
            return _Decoded(_failed(entry, "decode", error), None)
        entry = replace(entry, pixels=hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest())
        label = data.labels[place]
        try:
            if label is None:
                raise InputError("it has no label")
            entry = replace(entry, label_index=label_index(label, self._loaded, data.classes))
        except MissingExtraError:
            if self._job.target == "label":
                raise
        except (DistillgradError, ValueError) as error:
            if self._job.target == "label":
                return _Decoded(_failed(entry, "label", error), None)
        try:
            inputs = self._loaded.preprocess(image)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001  # the model's own code
            return _Decoded(_failed(entry, "decode", f"cannot be preprocessed: {error}"), None)
        if tuple(inputs.shape) != tuple(self._loaded.input_size):
            reason = f"preprocessed to {tuple(inputs.shape)}, the model takes {self._loaded.input_size}"
            return _Decoded(_failed(entry, "decode", reason), None)
        return _Decoded(entry, inputs)

    def _let_pass(self, entry: Entry) -> Entry:
        if entry.stage and self._job.strict:
            raise SourceError(f"{entry.id}: {entry.reason} (--strict)")
        return entry
