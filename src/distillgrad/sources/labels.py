"""Which of a model's classes a label of the data is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distillgrad.core.optional import optional
from distillgrad.sources.classifier import LoadedModel

WORDNET_ID = re.compile(r"n\d{8}")


def label_index(label: str | int, loaded: LoadedModel, classes: Sequence[str] = ()) -> int:
    """Return the number of a label's class among those of a model.

    A number stands for itself. A name is one of the model's, with blanks or underscores, or up to its first
    comma. Where the data has as many classes as the model, a class's place decides between several of one
    name, and for a model that does not name its classes. WordNet ids mean ImageNet's classes.

    Args:
        label: As in the data.
        loaded: The model.
        classes: The data's own, ``ImageData.classes``.
    Raises:
        UnknownNameError: the model has no such class; names the nearest.
        TargetError: a number outside the model's classes, or a name that several of them share.
        MissingExtraError: a WordNet id of incomplete data, but timm, which knows all, is not installed.
    """
    if isinstance(label, int) or label.lstrip("-").isdecimal():
        return loaded.class_index(str(label))
    known = {name.lower() for name in loaded.classes}
    spellings = [label, label.replace("_", " "), label.partition(",")[0]]
    name = next((each for each in spellings if each.lower() in known), label)
    if label in classes and len(classes) == len(loaded.classes):
        place = list(classes).index(label)
        if loaded.classes[place].lower() in (name.lower(), f"class {place}"):
            return place
    if WORDNET_ID.fullmatch(label) and loaded.classes[0].lower() == "tench" and len(loaded.classes) == 1000:
        ids = _imagenet_ids(classes)
        if label in ids:
            return ids.index(label)
    return loaded.class_index(name)


def _imagenet_ids(classes: Sequence[str]) -> list[str]:
    """Return the WordNet ids of ImageNet's classes, which are in their order: the data's own if all."""
    if len(classes) == 1000 and all(map(WORDNET_ID.fullmatch, classes)):
        return sorted(classes)
    return list(optional("timm.data", "vision").ImageNetInfo("imagenet-1k").label_names())
