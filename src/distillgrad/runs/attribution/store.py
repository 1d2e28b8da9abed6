"""Attributions of a whole data set on disk: Zarr arrays, Parquet tables, and what says that they are whole.

::

    manifest.json             the request and the circumstances
    entries.parquet           index, id and label of every image of the data, broken or not
    attributions.zarr/        Zarr v3: one array per method, (image, channel, height, width)
      dga/c.7.0.0.0           shard 7 of it; inside, one zstd-compressed chunk per image
    shards/00000007.parquet   what became of each image of shard 7; written last, so it vouches for the shard
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
from typing import Any

from numpy.typing import NDArray

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.runs.files import file_name_of
from distillgrad.runs.folders import RunFolder

ARRAYS = "attributions.zarr"
SHARDS = "shards"
PART = re.compile(r"shards/(\d{8,})\.parquet")
ENTRIES, SAMPLES, FAILURES = "entries.parquet", "samples.parquet", "failures.parquet"
COMPLETE = "complete.json"
CHECKSUMS = b"checksums"
ROWS_PER_GROUP = 1_024
"""Few: what is open of a table, as Python objects, in Arrow and in its writer, is as long as a group."""


@dataclass(frozen=True)
class Layout:
    """How the images of a run are cut into shards, and what an image's map looks like.

    Attributes:
        shapes: By method's label, the shape of one map.
        dtype: ``float32`` or ``float16``.
    """

    n_entries: int
    shard_size: int
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str

    @property
    def n_shards(self) -> int:
        return -(-self.n_entries // self.shard_size)

    def places(self, shard: int) -> range:
        """The indices of a shard's images."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_entries))

    def chunk_name(self, label: str, shard: int) -> str:
        """The file of a method's maps of a shard."""
        zeros = ".0" * len(self.shapes[label])
        return f"{ARRAYS}/{file_name_of(label)}/c.{shard}{zeros}"


@dataclass(frozen=True)
class Entry:
    """What became of one image of the data.

    Attributes:
        index: Its place in the data, and its row in the arrays.
        label: As the data has it, ``None`` if it does not say; ``label_index``: among the model's classes.
        predicted, target: The class with the highest logit, and the explained one.
        score, probability: The target's logit and softmax probability.
        pixels: BLAKE2 of the decoded image.
        stage: ``None``, or what failed: ``"decode"``, ``"label"`` or ``"attribute"``; then ``reason`` is why.
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
    stage: str | None = None
    reason: str | None = None


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
_OF_SAMPLES = tuple(name for name in _TYPES if name not in ("stage", "reason"))
_OF_FAILURES = ("index", "id", "label", "stage", "reason")
_OF_ENTRIES = ("index", "id", "label")


def sha256(content: bytes) -> str:
    """The checksum that the run's files are known by."""
    return hashlib.sha256(content).hexdigest()


def part_name(shard: int) -> str:
    """The file that vouches for a shard."""
    return f"{SHARDS}/{shard:08d}.parquet"


def finished_shards(folder: RunFolder) -> set[int]:
    """The shards that are there."""
    found = map(PART.fullmatch, folder.names(SHARDS))
    return {int(each[1]) for each in found if each}


def prepare(folder: RunFolder, layout: Layout, entries: Iterable[Entry]) -> None:
    """Writes what the shards stand in: the table of entries and the arrays' descriptions."""
    contents = _descriptions(layout)
    if not folder.has(ENTRIES):
        contents[ENTRIES] = _parquet(_tables(entries, _OF_ENTRIES), _OF_ENTRIES)
    for name, content in contents.items():
        if not folder.has(name):
            folder.put(name, content)


def write_shard(
    folder: RunFolder,
    layout: Layout,
    shard: int,
    entries: Sequence[Entry],
    maps: Mapping[str, NDArray[Any]],
) -> None:
    """Writes a shard's maps, ``(n, …)`` by label, and last of all its part."""
    checksums = {}
    for label, values in maps.items():
        name = layout.chunk_name(label, shard)
        content = _chunk(layout, label, shard, values)
        checksums[name] = sha256(content)
        folder.put(name, content)
    vouched = {CHECKSUMS: json.dumps(checksums, sort_keys=True).encode()}
    folder.put(part_name(shard), _parquet([_table(entries, tuple(_TYPES))], tuple(_TYPES), vouched))


def read_part(folder: RunFolder, shard: int) -> tuple[list[Entry], dict[str, str]]:
    """What became of a shard's images, and the checksums of its maps' files.

    Raises:
        SourceError: the part is not there, or broken.
    """
    table = read_table(folder, part_name(shard))
    try:
        checksums: dict[str, str] = json.loads(table.schema.metadata[CHECKSUMS])
        return [Entry(**row) for row in table.to_pylist()], checksums
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{folder.url}/{part_name(shard)} is broken: {error!r}") from error


def read_table(folder: RunFolder, name: str) -> Any:
    """A ``pyarrow.Table`` of the run.

    Raises:
        SourceError: it is not there, or broken.
    """
    content, parquet = folder.get(name), optional("pyarrow.parquet", "scale")
    try:
        return parquet.read_table(io.BytesIO(content))
    except Exception as error:  # of torn files pyarrow raises almost anything
        raise SourceError(f"{folder.url}/{name} is broken: {error}") from error


def assemble(folder: RunFolder, layout: Layout) -> dict[str, Any]:
    """Writes the tables of all shards, and what vouches for the whole; returns that.

    Cost: reads every part once; memory of one group of rows.
    """
    counts = {"n_entries": layout.n_entries, "n_explained": 0, "n_failed": 0}
    checksums: dict[str, str] = {}

    def of(wanted: tuple[str, ...], failed: bool, count: str) -> Iterator[Any]:
        compute = optional("pyarrow.compute", "scale")
        for shard in range(layout.n_shards):
            table = read_table(folder, part_name(shard))
            checksums.update(json.loads(table.schema.metadata[CHECKSUMS]))
            chosen = compute.is_valid(table["stage"]) if failed else compute.is_null(table["stage"])
            found = table.filter(chosen).select(wanted)
            counts[count] += len(found)
            yield found

    folder.put(SAMPLES, _parquet(of(_OF_SAMPLES, False, "n_explained"), _OF_SAMPLES))
    folder.put(FAILURES, _parquet(of(_OF_FAILURES, True, "n_failed"), _OF_FAILURES))
    for name in folder.names():
        if name not in checksums and name != COMPLETE:
            checksums[name] = sha256(folder.get(name))
    complete = {**counts, "sha256": checksums}
    folder.put(COMPLETE, json.dumps(complete, indent=1, sort_keys=True).encode())
    return complete


def _descriptions(layout: Layout) -> dict[str, bytes]:
    """The files in which Zarr says what the arrays are."""
    found: dict[str, bytes] = {}
    for label in layout.shapes:
        store = _array(layout, label)[0]
        found |= {f"{ARRAYS}/{key}": each.to_bytes() for key, each in store.items()}
    return found


def _chunk(layout: Layout, label: str, shard: int, values: NDArray[Any]) -> bytes:
    """A shard of an array as Zarr keeps it in one file."""
    store, array = _array(layout, label)
    places = layout.places(shard)
    array[places.start : places.stop] = values
    key = layout.chunk_name(label, shard).removeprefix(f"{ARRAYS}/")
    content: bytes = store[key].to_bytes()
    return content


def _array(layout: Layout, label: str) -> tuple[dict[str, Any], Any]:
    """A method's whole array in memory, of which only what is written takes any."""
    zarr = optional("zarr", "scale")
    shape = layout.shapes[label]
    store: dict[str, Any] = {}
    names = ("channel", "height", "width") if len(shape) == 3 else [f"axis {n}" for n in range(len(shape))]
    array = zarr.create_array(
        store=zarr.storage.MemoryStore(store),
        name=file_name_of(label),
        shape=(layout.n_entries, *shape),
        dtype=layout.dtype,
        chunks=(1, *shape),
        shards=(layout.shard_size, *shape),
        compressors=[zarr.codecs.ZstdCodec(level=3)],
        fill_value=float("nan"),
        attributes={"method": label},
        dimension_names=("image", *names),
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},  # a shard of failures is a file, too
    )
    return store, array


def _schema(columns: Sequence[str], metadata: Mapping[bytes, bytes] | None = None) -> Any:
    arrow = optional("pyarrow", "scale")
    return arrow.schema([(name, getattr(arrow, _TYPES[name])()) for name in columns], metadata=metadata)


def _tables(entries: Iterable[Entry], columns: Sequence[str]) -> Iterator[Any]:
    rest = iter(entries)
    while some := list(islice(rest, ROWS_PER_GROUP)):
        yield _table(some, columns)


def _table(entries: Sequence[Entry], columns: Sequence[str]) -> Any:
    values = {name: [getattr(each, name) for each in entries] for name in columns}
    return optional("pyarrow", "scale").Table.from_pydict(values, schema=_schema(columns))


def _parquet(
    tables: Iterable[Any], columns: Sequence[str], metadata: Mapping[bytes, bytes] | None = None
) -> bytes:
    """The tables end to end as a Parquet file, in row groups that do not depend on where they were cut."""
    arrow, parquet = optional("pyarrow", "scale"), optional("pyarrow.parquet", "scale")
    schema, file = _schema(columns, metadata), io.BytesIO()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting = schema.empty_table()
        for table in tables:
            waiting = arrow.concat_tables([waiting, table.replace_schema_metadata(metadata)])
            whole = len(waiting) // ROWS_PER_GROUP * ROWS_PER_GROUP
            if whole:
                writer.write_table(waiting[:whole].combine_chunks(), row_group_size=ROWS_PER_GROUP)
                waiting = waiting[whole:]
        if len(waiting):
            writer.write_table(waiting.combine_chunks())
    return file.getvalue()
