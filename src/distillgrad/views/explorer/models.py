"""The classifiers that visitors may name, and the classes of each."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from distillgrad.errors import SourceError, UnknownNameError
from distillgrad.explanations.explanation import Prediction
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.models import load_model

OPEN_KINDS = ("torchvision", "timm")
"""Libraries whose models a visitor may name: loading them never runs code that the name chooses."""
KEPT_MODELS = 3


class Models:
    """The classifiers of the page, loaded once for all visitors, the last few of them kept.

    Args:
        offered: Names that the command line gave; only among these are files and factories.
    """

    def __init__(self, offered: Sequence[str] = ()) -> None:
        self.offered = tuple(dict.fromkeys((*offered, "cifar10-cnn")))
        self._loaded: dict[str, LoadedModel] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> LoadedModel:
        """Return the classifier that a visitor names.

        Raises:
            UnknownNameError: no such model, or one that only the command line may name.
            SourceError: its weights are not to be had.
        """
        wanted = str(name or "").strip()
        kind, _, rest = wanted.partition(":")
        if wanted not in self.offered and (
            kind not in OPEN_KINDS or not rest or not rest.replace("_", "").replace(".", "").isalnum()
        ):
            raise UnknownNameError(
                "model on this page", wanted[:120], (*self.offered, "torchvision:NAME", "timm:NAME")
            )
        with self._lock:
            if wanted not in self._loaded:
                try:
                    self._loaded[wanted] = load_model(wanted)
                except SourceError as error:
                    if wanted in self.offered:
                        raise
                    raise SourceError(
                        f"the weights of {wanted} are not on this machine and cannot be downloaded; start with "
                        f"--model {wanted}@FILE"
                    ) from error
                for old in list(self._loaded)[:-KEPT_MODELS]:
                    del self._loaded[old]
            self._loaded[wanted] = self._loaded.pop(wanted)
            return self._loaded[wanted]


def class_of(loaded: LoadedModel, words: str | None) -> int | None:
    """Return the class that a visitor chose, ``None`` for the predicted one."""
    if words is None or not str(words).strip():
        return None
    name = str(words).strip()
    number, colon, _ = name.partition(":")
    return loaded.class_index(number if colon and number.isdecimal() else name)


def class_choices(loaded: LoadedModel, prediction: Prediction) -> list[tuple[str, str]]:
    """Return every class as the page lists it and as it answers; numbers tell namesakes apart.

    The most probable classes come first.
    """
    first = {
        index: f"{loaded.classes[index]} ({probability:.1%})"
        for index, probability in zip(prediction.classes, prediction.probabilities, strict=True)
    }
    every = {**first, **{index: name for index, name in enumerate(loaded.classes) if index not in first}}
    return [(words, f"{index}: {loaded.classes[index]}") for index, words in every.items()]
