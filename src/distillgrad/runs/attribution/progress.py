"""The progress of a run of attributions, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distillgrad.runs.attribution.said import Said
from distillgrad.runs.attribution.store import Entry


@dataclass(frozen=True)
class Progress:
    """The progress of a run: images that are done, those among them that failed, a shard's new failures."""

    n_done: int
    n_failed: int
    failures: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Summary:
    """The end of a run: complete, or stopped after a shard."""

    out: str
    n_entries: int
    n_explained: int
    n_failed: int
    complete: bool
    first_failures: tuple[Entry, ...] = field(default=())
    said: Mapping[str, Said] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the values as JSON has them; of what was said, the notes and how many maps are blank."""
        said = {
            label: {"notes": list(each.notes), "n_blank": len(each.blank)}
            for label, each in self.said.items()
        }
        return {**vars(self), "first_failures": [each.record() for each in self.first_failures], "said": said}
