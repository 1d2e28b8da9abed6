"""The worker of a run of attributions: it decodes, explains and writes one shard after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distillgrad.core.logits import logits_of
from distillgrad.errors import (
    DistillgradError,
    MissingExtraError,
    ModelError,
    ParameterError,
    SourceError,
)
from distillgrad.methods import create_method, find_method
from distillgrad.methods.blank_maps import as_notes
from distillgrad.runs.attribution.decoding import Decoded, Decoder, failed
from distillgrad.runs.attribution.job import AttributionJob, Shard, ShardReport
from distillgrad.runs.attribution.said import Said, merged_words
from distillgrad.runs.attribution.store import Entry, write_shard
from distillgrad.runs.engines.engine import Worker
from distillgrad.runs.folders import folder_at
from distillgrad.runs.model import equivalent_or_itself, loaded_for
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.model_inputs import class_logits, expect_class_logits

MANY_PASSES = 10
"""The passes, each forward and backward, of which one forward pass more is a twenty-fifth at most."""


class Outcome(NamedTuple):
    """The entry of an image, its maps by label, and what was said of them."""

    entry: Entry
    maps: Mapping[str, NDArray[Any]]
    said: Mapping[str, Said]


class ShardWorker(Worker[Shard, ShardReport]):
    """The worker that computes shards; it holds the model, threads that decode and write, torch's settings.

    Args:
        loaded: The job's model, where it is loaded already.
        fast: Its equivalent, where the job is accelerated and it is made already.
        on_images: Called with a number of images when they are done.
    Raises:
        ParameterError: the model's weights are not those that the run was begun with.
    """

    def __init__(
        self,
        job: AttributionJob,
        loaded: LoadedModel | None = None,
        fast: nn.Module | None = None,
        on_images: Callable[[int], None] = lambda _: None,
    ) -> None:
        request = job.request
        loaded = loaded_for(request.model, job.weights, request.device, job.out, loaded)
        self._job, self._loaded, self._on_images = job, loaded, on_images
        self._device = torch.device(request.device)
        self._model = loaded.model
        if request.accelerated:
            self._model = fast or equivalent_or_itself(loaded, self._device, request.precision)
        self._methods = {
            label: create_method(
                name, loaded.model if find_method(name).layerwise else self._model, **parameters
            )
            for label, (name, parameters) in request.methods.items()
        }
        self._first = next(
            (label for label, (name, _) in request.methods.items() if not find_method(name).layerwise), None
        )
        self._fixed = None
        if request.target not in ("predicted", "label"):
            self._fixed = loaded.class_index(request.target)
        self._folder = folder_at(job.out)
        self._decoder = Decoder(job, loaded)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        super().__init__(job.threads)
        self._deterministic_before = torch.backends.cudnn.deterministic
        torch.backends.cudnn.deterministic = True

    def close(self) -> None:
        """Write what is in hand, let the threads go, and give torch its settings back."""
        self._writer.shutdown(wait=True)
        self._decoder.close()
        torch.backends.cudnn.deterministic = self._deterministic_before
        super().close()

    def compute(self, shard: Shard) -> ShardReport:
        """Compute and write a shard.

        Raises:
            SourceError: the run cannot be written; ``strict``, and an image failed.
            ModelError: not one image of the run's first batch could be explained.
        """
        return self._writing(shard, None).result()

    def compute_all(self, units: Sequence[Shard], stopped: threading.Event) -> Iterator[ShardReport]:
        """Yield each shard's report; during one, the one before is written and the next one is read."""
        before: Future[ShardReport] | None = None
        for shard, then in zip_longest(units, units[1:]):
            if stopped.is_set():
                break
            writing = self._writing(shard, then)
            if before is not None:
                yield before.result()
            before = writing
        if before is not None:
            yield before.result()

    def _writing(self, shard: Shard, then: Shard | None) -> Future[ShardReport]:
        """Return the report to come of a shard that is computed, and is being written."""
        layout, places = self._job.layout, self._job.layout.places(shard.number)
        entries: list[Entry] = []
        maps = {
            label: np.full((len(places), *shape), np.nan, layout.dtype)
            for label, shape in layout.shapes.items()
        }
        batch: list[Decoded] = []
        words: list[Mapping[str, Said]] = []
        first = shard.first

        def finish() -> None:
            nonlocal first
            for entry, rows, said in self.explained(batch, all_or_error=first):
                entries.append(self._let_pass(entry))
                words.append(said)
                for label, row in rows.items():
                    maps[label][entry.index - places.start] = row
            first = False
            self._on_images(len(batch))
            batch.clear()

        for decoded in self._decoder.shard(shard, then):
            if decoded.inputs is None:
                entries.append(self._let_pass(decoded.entry))
                self._on_images(1)
                continue
            batch.append(decoded)
            if len(batch) == self._job.batch_size:
                finish()
        if batch:
            finish()
        entries.sort(key=lambda each: each.index)

        def write() -> ShardReport:
            said = merged_words(words)
            write_shard(self._folder, layout, shard.number, entries, maps, said)
            failures = tuple(each for each in entries if each.failed_at)
            return ShardReport(shard.number, len(entries) - len(failures), failures, said)

        return self._writer.submit(write)

    def decoded_at(self, shard: Shard, indices: Sequence[int]) -> list[Decoded]:
        """Return the images of these indices, to be explained."""
        start = self._job.layout.places(shard.number).start
        return [self._decoder.image(shard.data, index - start, index) for index in indices]

    def explained(self, batch: Sequence[Decoded], *, all_or_error: bool = False) -> list[Outcome]:
        """Return each image's outcome; where the batch fails, its images are tried one by one.

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
                return [Outcome(failed(batch[0].entry, "attribute", error), {}, {})]
        singly = [self.explained([each])[0] for each in batch]
        if all_or_error and all(each.entry.failed_at for each in singly):
            reason = singly[0].entry.reason
            raise ModelError(f"none of the first {len(batch)} images can be explained: {reason}")
        return singly

    def _explained_together(self, batch: Sequence[Decoded]) -> list[Outcome]:
        inputs = torch.stack([each.inputs for each in batch if each.inputs is not None]).to(self._device)
        torch.manual_seed(self._job.request.seed)  # for models that draw; methods have seeds of their own
        target = None
        if self._fixed is not None:
            target = torch.full((len(batch),), self._fixed, device=self._device)
        elif self._job.request.target == "label":
            target = torch.tensor([each.entry.label_index for each in batch], device=self._device)
        maps: dict[str, NDArray[Any]] = {}
        logits = None
        watched = self._watched(inputs)
        if watched is not None:  # it calls the model on the inputs themselves, at least if untargeted
            with _logits_at(self._model, inputs) as watched_logits:
                try:
                    maps[watched] = self._map(watched, inputs, target)
                except DistillgradError:
                    raise
                except Exception:
                    self._logits(inputs)  # raises what concerns these images, if it is the model that fails
                    raise
            logits = watched_logits[0] if watched_logits else None
        logits = self._logits(inputs) if logits is None else logits
        expect_class_logits(self._loaded, logits)
        if not bool(logits.isfinite().all()):
            raise ModelError("the model's logits are not finite numbers")
        predicted = logits.argmax(1)
        target = predicted if target is None else target
        probabilities = logits.softmax(1)
        for label in self._methods:
            if label not in maps:
                maps[label] = self._map(label, inputs, target)
        outcomes = []
        for row, decoded in enumerate(batch):
            chosen = int(target[row])
            entry = replace(
                decoded.entry,
                predicted=int(predicted[row]),
                target=chosen,
                score=float(logits[row, chosen]),
                probability=float(probabilities[row, chosen]),
            )
            rows = {label: values[row] for label, values in maps.items()}
            outcomes.append(Outcome(entry, rows, self._said(entry.index, row, len(batch))))
        return outcomes

    def _watched(self, inputs: Tensor) -> str | None:
        """Return the method off whose passes the predictions are read, if they are to cost none of their own.

        A hook keeps a method's rows in one thread (:func:`~distillgrad.core.plan.plan_rows`): of many passes
        that costs more than the one it saves.
        """
        if self._first is None or not inputs.is_cpu or len(inputs) == 1:
            return self._first
        return self._first if self._methods[self._first].n_passes < MANY_PASSES else None

    def _logits(self, inputs: Tensor) -> Tensor:
        try:
            return class_logits(self._loaded, self._model, inputs).double()
        except DistillgradError:
            raise
        except Exception as error:  # the model's own code
            raise ModelError(f"the model fails: {type(error).__name__}: {error}") from error

    def _map(self, label: str, inputs: Tensor, target: Tensor | None) -> NDArray[Any]:
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

    def _said(self, index: int, row: int, n_rows: int) -> dict[str, Said]:
        """Return what each method said, at its last call of so many rows, of the image in this one."""
        said = {}
        for label, method in self._methods.items():
            of_rows = as_notes(method.blank, n_rows)  # which has them by their place in the batch
            notes = tuple(each for each in method.notes if each not in of_rows)
            said[label] = Said(notes, {index: method.blank[row]} if row in method.blank else {})
        return said

    def _let_pass(self, entry: Entry) -> Entry:
        if entry.failed_at and self._job.strict:
            raise SourceError(f"{entry.id}: {entry.reason} (--strict)")
        return entry


@contextmanager
def _logits_at(model: nn.Module, inputs: Tensor) -> Iterator[list[Tensor]]:
    """Collect the model's logits at ``inputs`` when something calls it there: no pass is made for them."""
    logits: list[Tensor] = []

    def watch(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if logits or not arguments or arguments[0].dtype != inputs.dtype:
            return
        if torch.equal(arguments[0], inputs):
            logits.append(logits_of(output).detach().double())

    handle = model.register_forward_hook(watch)
    try:
        yield logits
    finally:
        handle.remove()
