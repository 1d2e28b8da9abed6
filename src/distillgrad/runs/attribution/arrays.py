"""The Zarr arrays of a run: a shard of images is one file of each method's array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from distillgrad.core.optional import optional
from distillgrad.runs.files import file_name_of

ARRAYS = "attributions.zarr"


@dataclass(frozen=True)
class Layout:
    """The division of a run's images into shards, and the shape of each map.

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
        """The number of shards."""
        return -(-self.n_entries // self.shard_size)

    def places(self, shard: int) -> range:
        """Return the indices of a shard's images."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.n_entries))

    def chunk_name(self, label: str, shard: int) -> str:
        """Return the file of a method's maps of a shard."""
        zeros = ".0" * len(self.shapes[label])
        return f"{ARRAYS}/{file_name_of(label)}/c.{shard}{zeros}"


def descriptions(layout: Layout) -> dict[str, bytes]:
    """Return the files by which Zarr describes the arrays."""
    descriptions: dict[str, bytes] = {}
    for label in layout.shapes:
        store = _array(layout, label)[0]
        descriptions |= {f"{ARRAYS}/{key}": each.to_bytes() for key, each in store.items()}
    return descriptions


def chunk_of(layout: Layout, label: str, shard: int, values: NDArray[Any]) -> bytes:
    """Return a shard of an array as Zarr keeps it in one file."""
    store, array = _array(layout, label)
    places = layout.places(shard)
    array[places.start : places.stop] = values
    key = layout.chunk_name(label, shard).removeprefix(f"{ARRAYS}/")
    content: bytes = store[key].to_bytes()
    return content


def _array(layout: Layout, label: str) -> tuple[dict[str, Any], Any]:
    """Return a method's whole array in memory, of which only what is written takes any."""
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
