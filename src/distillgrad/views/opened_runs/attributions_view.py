"""The view of a run of ``attribute``: its counts, its failures, its images and their maps."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from distillgrad.errors import InputError, SourceError
from distillgrad.explanations.explanation import Map
from distillgrad.runs.attribution.reading import AttributionRun, run_in
from distillgrad.runs.attribution.request import check_manifest
from distillgrad.runs.attribution.store import Entry, finished_shards, read_part
from distillgrad.runs.folders import RunFolder, folder_at
from distillgrad.runs.kinds import OpenedRun
from distillgrad.sources.open_data import ImageData
from distillgrad.views.html.page import Cell, facts, table, text
from distillgrad.views.opened_runs.run_images import RunSample, RunView, as_maps, data_of_run, explainable_of

FAILURES_SHOWN = 200
STAGES = {"decode": "reading it", "label": "finding its class", "attribute": "explaining it"}


def attributions_view(run: OpenedRun, model: str | None = None, named: Collection[str] = ()) -> RunView:
    """Return the view of a run of attributions, finished or not.

    Raises:
        SourceError: it is broken, newer, or in another layout.
        InputError: it has not explained anything yet.
    """
    name, folder, manifest = run.folder.resolve().name, folder_at(run.folder), run.manifest
    try:
        check_manifest(manifest, folder.url)
        opened = run_in(folder, manifest)
        entries = _entries(folder)
        made = _facts(manifest)
        methods = {
            label: (str(each["name"]), dict(each["parameters"]))
            for label, each in manifest["methods"].items()
        }
        spec, weights = str(manifest["model"]["from"]), manifest["model"]["weights"]
        data = str(manifest["data"]["from"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise SourceError(f"{name} holds attributions in another layout: {error!r}") from error
    if not opened.explained.any():
        raise InputError(
            f"{name} has explained no image yet: let 'distillgrad attribute' go on with it"
            if not opened.complete
            else f"{name} holds no map: all of its {len(opened.ids)} images failed"
        )
    explainable = explainable_of(
        partial(_images, opened, data), spec, weights, "Maps are not laid over the images",
        model=model, named=named, classes=opened.classes,
    )  # fmt: skip
    samples = tuple(_sample(each) for each in entries if each.failed_at is None)
    return RunView(
        name=name,
        model=spec,
        question=f"What did {spec.partition('@')[0]} look at?",
        count=_count(opened, samples),
        above="",
        below=f"{_failures(opened)}{_said(opened)}<h2>How it was made</h2>{facts(made)}",
        samples=samples,
        methods=methods,
        maps=partial(_stored_maps, opened),
        orders=("disagreement", "wrong", "position"),
        explainable=explainable,
    )


def _entries(folder: RunFolder) -> list[Entry]:
    return [each for shard in sorted(finished_shards(folder)) for each in read_part(folder, shard).entries]


def _sample(entry: Entry) -> RunSample:
    predicted, target = entry.predicted, entry.target
    if predicted is None or target is None:
        raise SourceError(f"image {entry.id} has a map but no class")
    return RunSample(
        id=entry.id,
        position=entry.index,
        target=target,
        predicted=predicted,
        probability=math.nan if entry.probability is None else entry.probability,
        label=entry.label,
        wrong=None if entry.label_index is None else entry.label_index != predicted,
        pixels=entry.pixels,
    )


def _images(opened: AttributionRun, place: str) -> ImageData:
    shown_from = opened.manifest["data"].get("value_range")
    data = data_of_run(place, limit=len(opened.ids), keep_broken=True, value_range=shown_from)
    if not set(opened.ids) <= set(data.ids):
        raise SourceError("the images are not those of the run")
    return data


def _stored_maps(opened: AttributionRun, sample: RunSample) -> dict[str, Map]:
    try:
        arrays = {label: each[sample.position] for label, each in opened.attributions.items()}
    except Exception as error:  # of torn files Zarr and its codecs raise almost anything
        raise SourceError(
            f"the maps of {sample.id} cannot be read ({type(error).__name__}); 'distillgrad verify' says more"
        ) from error
    maps = as_maps(arrays)
    if not maps:
        raise SourceError(f"the maps of {sample.id} are not there; 'distillgrad verify' says more")
    return {
        label: Map(values, opened.said[label].of(sample.position) if label in opened.said else ())
        for label, values in maps.items()
    }


def _count(opened: AttributionRun, samples: Collection[RunSample]) -> str:
    n_images, n_failed = len(opened.ids), len(opened.failures)
    words = f"{len(samples)} of {n_images} images explained"
    words += f", {n_failed} failed" if n_failed else ""
    n_waiting = n_images - len(samples) - n_failed
    if not opened.complete:
        words += f", {n_waiting} not yet: the run is not finished"
    known = [each for each in samples if each.wrong is not None]
    if known:
        n_right = sum(not each.wrong for each in known)
        words += f"; the model is right about {n_right} of the {len(known)} whose class is known"
    return words


def _failures(opened: AttributionRun) -> str:
    if not opened.failures:
        return ""
    rows = [
        [
            Cell(text(each.id)),
            Cell(text(STAGES.get(each.failed_at or "", each.failed_at))),
            Cell(text(each.reason)),
        ]
        for each in opened.failures[:FAILURES_SHOWN]
    ]
    n_more = len(opened.failures) - len(rows)
    more = f'<p class="quiet">and {n_more} more, in failures.parquet</p>' if n_more else ""
    return f"<h2>What failed</h2>{table(('image', 'while', 'because'), rows, 'Failures')}{more}"


def _said(opened: AttributionRun) -> str:
    """Return what the methods said of their maps, and which maps are blank, "" where that is nothing."""
    body = ""
    for label, each in opened.said.items():
        body += f"<h3>{text(label)}</h3>" + "".join(f"<p>{text(note)}</p>" for note in each.notes)
        rows = [
            [Cell(text(opened.ids[index])), Cell(text(how))]
            for index, how in list(each.blank.items())[:FAILURES_SHOWN]
        ]
        if rows:
            n_more = len(each.blank) - len(rows)
            more = f" {len(rows)} of them are named here; Python has all: open_run(…).said." if n_more else ""
            n_blank, n_maps = len(each.blank), int(opened.explained.sum())
            body += f"<p>{n_blank} of {n_maps} maps are one number everywhere.{more}</p>"
            body += table(("image", "its map is"), rows, f"Blank maps of {label}")
    return f"<h2>What the methods say of their maps</h2>{body}" if body else ""


def _facts(manifest: Mapping[str, Any]) -> dict[str, object]:
    settings = {
        label: ", ".join(f"{key}={value}" for key, value in each["parameters"].items()) or "as by default"
        for label, each in manifest["methods"].items()
    }
    return {
        "data": manifest["data"]["from"],
        "explained class": manifest["target"],
        **settings,
        "precision of the maps": manifest["dtype"],
        "accelerated": manifest.get("precision", "float32") if manifest["accelerated"] else "no",
        "seed": manifest["seed"],
        "device": manifest["device"],
        "SHA-256 of the weights": manifest["model"]["weights"],
        **{name: version for name, version in manifest["versions"].items() if version != "absent"},
    }
