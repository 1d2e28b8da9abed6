"""The damage of a run: files that are missing, or are not as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from distillgrad.errors import SourceError
from distillgrad.runs.attribution.arrays import MEND, Layout, descriptions
from distillgrad.runs.attribution.store import (
    COMPLETE,
    ENTRIES,
    FAILURES,
    SAMPLES,
    part_name,
    sha256,
)
from distillgrad.runs.folders import RunFolder
from distillgrad.runs.manifest import MANIFEST, parsed_json

CHECKSUM = re.compile(r"[0-9a-f]{64}")


def vouched_for(folder: RunFolder, layout: Layout) -> dict[str, str]:
    """Return the checksums by name that ``complete.json`` holds, one for each file of the run.

    Raises:
        SourceError: it is not there, broken, or leaves a file out.
    """
    try:
        found = parsed_json(folder.get(COMPLETE), COMPLETE)
        checksums = {str(name): str(each) for name, each in found["sha256"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{COMPLETE} is broken: {error!r}") from error
    wrong = [name for name, each in checksums.items() if not CHECKSUM.fullmatch(each)]
    left_out = [name for name in _names(layout) if name not in checksums]
    if wrong or left_out:
        name, how = (wrong[0], "no checksum") if wrong else (left_out[0], "nothing")
        raise SourceError(f"{COMPLETE} is broken: it has {how} for {name}")
    if found.get("n_entries") != layout.n_entries:
        raise SourceError(f"{COMPLETE} is broken: it counts {found.get('n_entries')!r} images")
    return checksums


def _names(layout: Layout) -> Iterator[str]:
    """Yield the names of a whole run's files."""
    yield from (MANIFEST, ENTRIES, SAMPLES, FAILURES, *descriptions(layout))
    for shard in range(layout.n_shards):
        yield part_name(shard)
        for label in layout.shapes:
            yield layout.chunk_name(label, shard)


def damaged(folder: RunFolder, checksums: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the files that are not as they were written, each with what has become of it, in words.

    Cost: reads all of them.
    """
    for name, checksum in checksums.items():
        try:
            changed = sha256(folder.get(name)) != checksum
        except SourceError:
            yield name, f"{name} is missing"
            continue
        if changed:
            yield name, f"{name} was changed after it was written"


def expect_sound(folder: RunFolder, checksums: Mapping[str, str]) -> None:
    """Check that files are as they were written.

    Raises:
        SourceError: one is not.
    """
    for _, words in damaged(folder, checksums):
        raise SourceError(f"{folder.url}: {words}{MEND}")


def all_but_maps(folder: RunFolder, layout: Layout) -> dict[str, str]:
    """Return the checksums by name of a finished run's tables and descriptions.

    Raises:
        SourceError: as :func:`vouched_for`.
    """
    maps = {layout.chunk_name(label, shard) for shard in range(layout.n_shards) for label in layout.shapes}
    return {name: each for name, each in vouched_for(folder, layout).items() if name not in maps}


def take_back(folder: RunFolder, layout: Layout) -> list[str]:
    """Make a finished run one that can be gone on with, where it is damaged; return the damage in words.

    What is damaged goes, as does ``complete.json``, which vouched for it. Maps are left to their shard's
    table, which knows their checksums; the manifest is what the request was compared with.

    Cost: reads the run's tables.
    """
    if not folder.has(COMPLETE):
        return []
    try:
        found = list(damaged(folder, all_but_maps(folder, layout)))
    except SourceError as error:
        folder.remove(COMPLETE)
        return [str(error)]
    if found:
        folder.remove(COMPLETE)  # first: a run without it is not finished, whatever else is missing
    for name, _ in found:
        if name != MANIFEST:
            folder.remove(name)
    return [words for _, words in found]
