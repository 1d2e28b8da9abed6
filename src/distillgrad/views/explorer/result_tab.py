"""The common form of the tabs beside the maps, each of which answers one question about what is displayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distillgrad.errors import InputError
from distillgrad.views.explorer.session import Displayed

QUIET = '<div class="dg"><p class="quiet">{}</p></div>'
AGAIN = QUIET.format("Press the button above for the maps that are shown now.")
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
"""The keywords of an event that asks something of a model: it waits for the others that do."""


@dataclass(frozen=True)
class ResultTab:
    """The values that an explanation gives to a tab's components.

    Attributes:
        empty: Without an explanation, by component.
        filled: Returns them for an explanation that has just been made.
    """

    empty: Mapping[Any, Any]
    filled: Callable[[Displayed], Mapping[Any, Any]]


class PassProgress:
    """A count of passes that gradio shows as progress."""

    def __init__(self, progress: Any, total: int, words: str) -> None:
        self._progress, self._total, self._words, self._done = progress, max(total, 1), words, 0

    def __call__(self, amount: int = 1) -> None:
        self._done += amount
        self._progress((min(self._done, self._total), self._total), desc=self._words, unit="passes")


def required(displayed: Displayed | None) -> Displayed:
    """Return what is displayed.

    Raises:
        InputError: nothing is.
    """
    if displayed is None:
        raise InputError("there is no explanation yet: drop a picture first")
    return displayed
