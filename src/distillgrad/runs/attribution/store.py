"""Attributions of a whole data set on disk: Zarr arrays, Parquet tables, and the checksums of both.

::

    manifest.json             the request and the circumstances
    entries.parquet           index, id and label of every image of the data, broken or not
    attributions.zarr/        Zarr v3: one array per method, (image, channel, height, width)
      dga/c.7.0.0.0           shard 7 of it; inside, one zstd-compressed chunk per image, with a CRC-32C
    shards/00000007.parquet   what became of each image of shard 7, and what methods said of their maps;
                              written last, so it vouches for the shard
    samples.parquet           all explained images: prediction, target, score, probability
    failures.parquet          all others, with the reason
    complete.json             counts, and the SHA-256 of every file; written when nothing is missing

Every file is written whole or not at all. An array's row is the image's index in the data; the rows of
images that failed are NaN, and so are those of shards that are not there yet.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from numpy.typing import NDArray

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.runs.attribution.arrays import Layout, chunk_of, descriptions
from distillgrad.runs.attribution.row_groups import ROWS_PER_GROUP, parquet_of
from distillgrad.runs.attribution.said import Said, said_from
from distillgrad.runs.folders import RunFolder

SHARDS = "shards"
PART = re.compile(r"shards/(\d{8,})\.parquet")
ENTRIES, SAMPLES, FAILURES = "entries.parquet", "samples.parquet", "failures.parquet"
COMPLETE = "complete.json"
CHECKSUMS, WORDS = b"checksums", b"said"


@dataclass(frozen=True)
class Entry:
    """The outcome of one image of the data.

    Attributes:
        index: Its place in the data, and its row in the arrays.
        label: As the data has it, ``None`` if it does not say; ``label_index``: among the model's classes.
        predicted, target: The class with the highest logit, and the explained one.
        score, probability: The target's logit and softmax probability.
        pixels: BLAKE2 of the decoded image.
        failed_at: ``None``, or the stage that failed: ``"decode"``, ``"label"`` or ``"attribute"``; then
            ``reason`` is why. Tables and records call it ``stage``.
    """

    index: int
    id: str
    label: str | None = None
    label_index: int | None = None
    predicted: int | None = None
    target: int | None = None
    score: float | None = None
    probability: float | None = None
    pixels: str | None = None
    failed_at: str | None = None
    reason: str | None = None

    def record(self) -> dict[str, Any]:
        """Return the values by the names of their columns."""
        return {column: getattr(self, FIELDS.get(column, column)) for column in _TYPES}


FIELDS = {"stage": "failed_at"}
"""Columns that are called otherwise than the fields of an :class:`Entry`."""

_TYPES = {
    "index": "int64",
    "id": "string",
    "label": "string",
    "label_index": "int32",
    "predicted": "int32",
    "target": "int32",
    "score": "float64",
    "probability": "float64",
    "pixels": "string",
    "stage": "string",
    "reason": "string",
}
_SAMPLE_COLUMNS = tuple(name for name in _TYPES if name not in ("stage", "reason"))
_FAILURE_COLUMNS = ("index", "id", "label", "stage", "reason")
_ENTRY_COLUMNS = ("index", "id", "label")


def sha256(content: bytes) -> str:
    """Return the checksum that the run's files are known by."""
    return hashlib.sha256(content).hexdigest()


def part_name(shard: int) -> str:
    """Return the file that vouches for a shard."""
    return f"{SHARDS}/{shard:08d}.parquet"


def finished_shards(folder: RunFolder) -> set[int]:
    """Return the shards that are there."""
    matches = map(PART.fullmatch, folder.names(SHARDS))
    return {int(each[1]) for each in matches if each}


def prepare(folder: RunFolder, layout: Layout, entries: Iterable[Entry]) -> None:
    """Write the frame of the shards, where it is not there or says something else.

    It is the table of entries and the arrays' descriptions.
    """
    for name, content in descriptions(layout).items():
        if not folder.has(name) or not _says_the_same(folder.get(name), content):
            folder.put(name, content)
    if not _has_entries(folder, layout):
        folder.put(ENTRIES, _parquet(_tables(entries, _ENTRY_COLUMNS), _ENTRY_COLUMNS))


def _says_the_same(content: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(content) == json.loads(other))
    except ValueError:
        return False


def _has_entries(folder: RunFolder, layout: Layout) -> bool:
    try:
        table = read_table(folder, ENTRIES)
    except SourceError:
        return False
    return len(table) == layout.n_entries and table.column_names == list(_ENTRY_COLUMNS)


def write_shard(
    folder: RunFolder,
    layout: Layout,
    shard: int,
    entries: Sequence[Entry],
    maps: Mapping[str, NDArray[Any]],
    said: Mapping[str, Said],
) -> None:
    """Write a shard's maps, ``(n, …)`` by label, and last of all its part, with what was said of them."""
    checksums = {}
    for label, values in maps.items():
        name = layout.chunk_name(label, shard)
        content = chunk_of(layout, label, shard, values)
        checksums[name] = sha256(content)
        folder.put(name, content)
    vouched = {CHECKSUMS: json.dumps(checksums, sort_keys=True).encode()}
    if said:
        words = {label: each.record() for label, each in said.items()}
        vouched[WORDS] = json.dumps(words, sort_keys=True).encode()
    folder.put(part_name(shard), _parquet([_table(entries, tuple(_TYPES))], tuple(_TYPES), vouched))


class Part(NamedTuple):
    """A shard's table: its images' entries, the checksums of its maps' files, what was said of the maps."""

    entries: list[Entry]
    checksums: dict[str, str]
    said: dict[str, Said]


def read_part(folder: RunFolder, shard: int) -> Part:
    """Return a shard's table; one that was written before methods had words has none.

    Raises:
        SourceError: the part is not there, or broken.
    """
    table = read_table(folder, part_name(shard))
    try:
        metadata = table.schema.metadata
        words = json.loads(metadata.get(WORDS, b"{}"))
        return Part(
            [_entry(row) for row in table.to_pylist()],
            json.loads(metadata[CHECKSUMS]),
            {label: said_from(each) for label, each in words.items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{folder.url}/{part_name(shard)} is broken: {error!r}") from error


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(**{FIELDS.get(column, column): value for column, value in row.items()})


def read_table(folder: RunFolder, name: str) -> Any:
    """Return a table of the run as a ``pyarrow.Table``.

    Raises:
        SourceError: it is not there, or broken.
    """
    content, parquet = folder.get(name), optional("pyarrow.parquet", "scale")
    try:
        return parquet.read_table(io.BytesIO(content))
    except Exception as error:  # of torn files pyarrow raises almost anything
        raise SourceError(f"{folder.url}/{name} is broken: {error}") from error


def assemble(folder: RunFolder, layout: Layout) -> dict[str, Any]:
    """Write the tables of all shards, then the counts and checksums of the whole; return these.

    Cost: reads every part once; memory of one group of rows.
    """
    counts = {"n_entries": layout.n_entries, "n_explained": 0, "n_failed": 0}
    checksums: dict[str, str] = {}

    def selected(wanted: tuple[str, ...], failed: bool, count: str) -> Iterator[Any]:
        compute = optional("pyarrow.compute", "scale")
        for shard in range(layout.n_shards):
            table = read_table(folder, part_name(shard))
            checksums.update(json.loads(table.schema.metadata[CHECKSUMS]))
            chosen = compute.is_valid(table["stage"]) if failed else compute.is_null(table["stage"])
            part = table.filter(chosen).select(wanted)
            counts[count] += len(part)
            yield part

    folder.put(SAMPLES, _parquet(selected(_SAMPLE_COLUMNS, False, "n_explained"), _SAMPLE_COLUMNS))
    folder.put(FAILURES, _parquet(selected(_FAILURE_COLUMNS, True, "n_failed"), _FAILURE_COLUMNS))
    for name in folder.names():
        if name not in checksums and name != COMPLETE:
            checksums[name] = sha256(folder.get(name))
    complete = {**counts, "sha256": checksums}
    folder.put(COMPLETE, json.dumps(complete, indent=1, sort_keys=True).encode())
    return complete


def _schema(columns: Sequence[str], metadata: Mapping[bytes, bytes] | None = None) -> Any:
    arrow = optional("pyarrow", "scale")
    return arrow.schema([(name, getattr(arrow, _TYPES[name])()) for name in columns], metadata=metadata)


def _tables(entries: Iterable[Entry], columns: Sequence[str]) -> Iterator[Any]:
    rest = iter(entries)
    while some := list(islice(rest, ROWS_PER_GROUP)):
        yield _table(some, columns)


def _table(entries: Sequence[Entry], columns: Sequence[str]) -> Any:
    values = {name: [getattr(each, FIELDS.get(name, name)) for each in entries] for name in columns}
    return optional("pyarrow", "scale").Table.from_pydict(values, schema=_schema(columns))


def _parquet(
    tables: Iterable[Any], columns: Sequence[str], metadata: Mapping[bytes, bytes] | None = None
) -> bytes:
    return parquet_of(tables, _schema(columns, metadata))
