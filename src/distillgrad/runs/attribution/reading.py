"""Runs of attributions as Python reads them, finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillgrad.errors import SourceError, UnknownNameError
from distillgrad.runs.attribution.arrays import ARRAYS, MEND, stored_maps
from distillgrad.runs.attribution.damage import all_but_maps, expect_sound
from distillgrad.runs.attribution.request import layout_of, read_manifest
from distillgrad.runs.attribution.said import Said, merged_words
from distillgrad.runs.attribution.store import (
    COMPLETE,
    ENTRIES,
    Entry,
    finished_shards,
    part_name,
    read_part,
    read_table,
)
from distillgrad.runs.folders import RunFolder, folder_at


@dataclass(frozen=True)
class AttributionRun:
    """A run by image: place ``i`` of every attribute is the data's image ``i``.

    Attributes:
        ids, labels: Those of every image, also of those that failed; labels as the data has them.
        explained: ``(N,)`` bool: whether there are maps of it.
        predicted, targets: ``(N,)`` class with the highest logit, and explained class; -1 if not explained.
        scores, probabilities: ``(N,)`` the target's logit and softmax probability; NaN if not explained.
        failures: The images that failed, with ``failed_at`` and ``reason``.
        attributions: By method's label, a Zarr array ``(N, C, H, W)`` that reads what it is asked for:
            ``run.attributions["dga"][3]``; NaN where not explained. A SourceError where it is damaged.
        classes: The model's.
        said: By method's label, its notes, and by place why a map of it is blank; only of those that said
            something.
        complete: True where nothing is missing.
        manifest: The request and the circumstances.
    """

    ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    explained: NDArray[np.bool_]
    predicted: NDArray[np.int64]
    targets: NDArray[np.int64]
    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    failures: tuple[Entry, ...]
    attributions: Mapping[str, Any]
    classes: tuple[str, ...]
    said: Mapping[str, Said]
    complete: bool
    manifest: Mapping[str, Any]

    def attribution(self, method: str, image: str | int) -> NDArray[Any]:
        """Return one map, ``(C, H, W)``, by the method's label and the image's id or place.

        Raises:
            UnknownNameError: no such method or image; names the nearest.
        """
        if method not in self.attributions:
            raise UnknownNameError("method of the run", method, self.attributions)
        if isinstance(image, str):
            if image not in self.ids:
                raise UnknownNameError("image", image, self.ids)
            image = self.ids.index(image)
        values: NDArray[Any] = self.attributions[method][range(len(self.ids))[image]]
        return values


def open_run(path: str | Path) -> AttributionRun:
    """Return the run at a path or URL; of the maps nothing is read yet.

    Raises:
        SourceError: no run of attributions is there, it is broken, or written by a newer distillgrad.
    Cost: reads every shard's table of predictions, some 100 bytes per image; of a finished run twice,
        once for its checksum.
    """
    folder = folder_at(path)
    return run_in(folder, read_manifest(folder))


def run_in(folder: RunFolder, manifest: Mapping[str, Any]) -> AttributionRun:
    """Return the run in a folder whose manifest has been read and checked.

    Raises:
        SourceError: the run is broken.
    Cost: as :func:`open_run`.
    """
    complete = folder.has(COMPLETE)  # before the shards are listed: those of a whole run are all there
    entries, layout = read_table(folder, ENTRIES), layout_of(manifest)
    n_entries = len(entries)
    if n_entries != layout.n_entries:
        raise SourceError(
            f"{folder.url}/{ENTRIES} has {n_entries} images, where {layout.n_entries} were asked for{MEND}"
        )
    if complete:
        expect_sound(folder, all_but_maps(folder, layout))
    files = set(folder.names(ARRAYS))
    whole = {name: np.full(n_entries, -1, np.int64) for name in ("predicted", "target")}
    real = {name: np.full(n_entries, np.nan) for name in ("score", "probability")}
    explained = np.zeros(n_entries, np.bool_)
    failures, words = [], []
    for shard in sorted(finished_shards(folder)):
        if shard >= layout.n_shards:
            continue  # not the run's
        part = read_part(folder, shard)
        if [each.index for each in part.entries] != list(layout.places(shard)):
            raise SourceError(f"{folder.url}/{part_name(shard)} was changed: it has other images{MEND}")
        lost = [name for name in part.checksums if name not in files]
        if lost:
            raise SourceError(f"{folder.url}/{lost[0]} is missing{MEND}")
        words.append(part.said)
        for entry in part.entries:
            if entry.failed_at:
                failures.append(entry)
                continue
            explained[entry.index] = True
            for name, values in (*whole.items(), *real.items()):
                values[entry.index] = getattr(entry, name)
    return AttributionRun(
        ids=tuple(entries["id"].to_pylist()),
        labels=tuple(entries["label"].to_pylist()),
        explained=explained,
        predicted=whole["predicted"],
        targets=whole["target"],
        scores=real["score"],
        probabilities=real["probability"],
        failures=tuple(failures),
        attributions=stored_maps(folder.zarr_store(), layout),
        classes=tuple(manifest["model"]["classes"]),
        said=merged_words(words),
        complete=complete,
        manifest=manifest,
    )
