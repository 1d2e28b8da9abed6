"""The Zarr arrays of a run: a shard of images is one file of each method's array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.runs.files import file_name_of

ARRAYS = "attributions.zarr"
MEND = "; the command that made the run mends it"
"""The end of what is said of damage."""


@dataclass(frozen=True)
class Layout:
    """The division of a run's images into shards, and the shape of each map.

    Attributes:
        shapes: By method's label, the shape of one map.
        dtype: ``float32`` or ``float16``.
        checked: Whether each map carries a checksum, which is compared whenever it is read.
    """

    n_entries: int
    shard_size: int
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    checked: bool = True

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


class StoredMaps:
    """The maps of a method on disk: a Zarr array ``(N, C, H, W)`` that reads what it is asked for.

    It has all that the Zarr array has; where that fails to read, it says what is damaged.

    Args:
        array: The Zarr array.
        label: The method's.
    """

    def __init__(self, array: Any, label: str) -> None:
        self.array, self.label = array, label

    def __getitem__(self, places: Any) -> NDArray[Any]:
        """Return maps by their images' places.

        Raises:
            SourceError: their file was changed after it was written, or cannot be read.
        """
        try:
            values: NDArray[Any] = self.array[places]
        except IndexError:  # the place is no image's
            raise
        except Exception as error:  # of torn files zarr raises almost anything
            raise SourceError(
                f"the maps of {self.label} at {places} cannot be read: {error}{MEND}"
            ) from error
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype, copy=copy)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "array":  # a copy is asked for these before it has an array
            raise AttributeError(name)
        return getattr(self.array, name)


def stored_maps(store: Any, layout: Layout) -> dict[str, StoredMaps]:
    """Return a run's maps by method's label; nothing of them is read yet.

    Raises:
        SourceError: the store describes others than the layout.
    """
    maps = {}
    for label, shape in layout.shapes.items():
        name = f"{ARRAYS}/{file_name_of(label)}"
        try:
            array = optional("zarr", "scale").open_array(store, path=name, mode="r")
            found = array.shape, str(array.dtype)
        except Exception as error:  # of torn files zarr raises almost anything
            raise SourceError(f"{name} is broken: {error}{MEND}") from error
        if found != ((layout.n_entries, *shape), layout.dtype):
            raise SourceError(
                f"{name}/zarr.json was changed: it describes {found[1]} of shape {found[0]}{MEND}"
            )
        maps[label] = StoredMaps(array, label)
    return maps


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
        compressors=[zarr.codecs.ZstdCodec(level=3), *[zarr.codecs.Crc32cCodec()] * layout.checked],
        fill_value=float("nan"),
        attributes={"method": label},
        dimension_names=("image", *names),
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},  # a shard of failures is a file, too
    )
    return store, array
