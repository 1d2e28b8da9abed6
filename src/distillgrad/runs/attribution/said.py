"""The words of a run's methods on their maps: notes, and why a map is zero, or one number, everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Said:
    """The words of one method on the maps of a run, or of a part of it.

    Attributes:
        notes: What the reader of its maps must know, in sentences, each once.
        blank: By the image's index, why its map is blank.
    """

    notes: tuple[str, ...] = ()
    blank: Mapping[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.notes or self.blank)

    def of(self, index: int) -> tuple[str, ...]:
        """Return what was said of the map of one image."""
        how = self.blank.get(index)
        return self.notes if how is None else (*self.notes, f"The map is {how}.")

    def record(self) -> dict[str, Any]:
        """Return the words as JSON has them."""
        return {"notes": list(self.notes), "blank": {str(index): how for index, how in self.blank.items()}}


def said_from(record: Mapping[str, Any]) -> Said:
    """Return what :meth:`Said.record` made a record of."""
    return Said(tuple(record["notes"]), {int(index): how for index, how in record["blank"].items()})


def merged_words(parts: Iterable[Mapping[str, Said]]) -> dict[str, Said]:
    """Return the words of several parts by label, notes in the alphabet's order whatever the parts'."""
    notes: dict[str, set[str]] = {}
    blank: dict[str, dict[int, str]] = {}
    for part in parts:
        for label, said in part.items():
            notes.setdefault(label, set()).update(said.notes)
            blank.setdefault(label, {}).update(said.blank)
    return {
        label: Said(tuple(sorted(each)), dict(sorted(blank[label].items())))
        for label, each in notes.items()
        if each or blank[label]
    }
