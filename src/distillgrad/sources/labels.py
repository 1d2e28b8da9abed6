"""The class of a model that a label of the data names: by name, number or WordNet id; last by its place."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache

from distillgrad.core.optional import optional
from distillgrad.errors import DistillgradError, InputError, MissingExtraError, TargetError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.image_data import ImageData

WORDNET_ID = re.compile(r"(n\d{8})(?:[-_ ].*)?")
SHOWN = 3
MEND = "name the classes as the model does, or by its numbers from 0"


def label_index(label: str | int, loaded: LoadedModel, classes: Sequence[str] = ()) -> int:
    """Return the number of a label's class among those of a model.

    A name is one of the model's, whatever its case, with blanks, hyphens or underscores, or up to its first
    comma; where several classes share it and the data has as many as the model, its place decides. A number
    stands for itself; of class folders with numbers for names all must be classes. WordNet ids mean the
    classes that ImageNet has for them. A model that does not name its classes takes as many classes, none of
    which has one of its numbers, by their place; :func:`check_labels` says so.

    Args:
        label: As in the data.
        loaded: The model.
        classes: The data's own, ``ImageData.classes``.
    Raises:
        UnknownNameError: the model has no such class; names the nearest.
        TargetError: a number outside the model's classes, or a name that several of them share.
        MissingExtraError: a WordNet id of incomplete data, but timm, which knows all, is not installed.
    """
    if isinstance(label, int):
        return loaded.class_index(str(label))
    named = _named(label, loaded.classes)
    place = list(classes).index(label) if label in classes else None
    if len(named) > 1 and len(classes) == len(loaded.classes) and place is not None and place in named:
        return place
    if len(named) > 1:
        raise TargetError(f"several classes are named {label!r}; give a number of {list(named)}")
    if named:
        return named[0]
    if label.lstrip("-").isdecimal():
        if place is not None:
            _refuse_foreign_numbers(classes, loaded)
        return loaded.class_index(label)
    if place is not None and by_place(loaded.classes, tuple(classes)):
        return place
    found = _by_wordnet_id(label, loaded, classes)
    return loaded.class_index(label) if found is None else found


def by_place(known: tuple[str, ...], classes: tuple[str, ...]) -> bool:
    """Return whether the data's classes are a model's by nothing but their order."""
    return (
        len(classes) == len(known)
        and _nameless(known)
        and not any(each.isdecimal() or _named(each, known) for each in classes)
    )


def check_labels(loaded: LoadedModel, data: ImageData, *, needed: bool) -> None:
    """Warn of labels that the model does not know, and of classes that are its own by their place alone.

    Args:
        needed: Whether labels decide what is done, so that an image whose label is not known fails by itself.
    Raises:
        InputError: they are needed, and the model knows none of them.
        MissingExtraError: they are needed, and timm, which knows them, is not installed.
    """
    labels = [each for each in dict.fromkeys(data.labels) if each is not None]
    known: dict[str | int, int] = {}
    unknown: dict[str | int, DistillgradError] = {}
    for each in labels:
        try:
            known[each] = label_index(each, loaded, data.classes)
        except MissingExtraError as error:
            if needed:
                raise
            unknown[each] = error
        except DistillgradError as error:
            unknown[each] = error
    model = loaded.name or "the model"
    if unknown:
        words = (
            f"{model} does not know {len(unknown)} of the {len(labels)} classes of {data.name} "
            f"({_head(list(unknown))}; its own are {_head(loaded.classes)}): {next(iter(unknown.values()))}"
        )
        if needed and not known:
            raise InputError(f"{words}; {MEND}")
        if not needed:
            warnings.warn(f"{words}. Their images count as unlabelled; {MEND}", stacklevel=2)
    if known and by_place(loaded.classes, data.classes):
        pairs = _head([f"{name} is {own}" for name, own in zip(data.classes, loaded.classes, strict=True)])
        warnings.warn(
            f"{model} does not name its classes, so those of {data.name} are matched by their place: "
            f"{pairs}; if that is wrong, {MEND}",
            stacklevel=2,
        )


def _named(label: str, known: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of the classes of this name, by the first spelling that any of them has."""
    for spelling in (label, label.partition(",")[0]):
        for names in _by_name(known):
            found = names.get(spelling.casefold()) or names.get(_plain(spelling))
            if found:
                return found
    return ()


@lru_cache(maxsize=8)
def _by_name(known: tuple[str, ...]) -> tuple[Mapping[str, tuple[int, ...]], ...]:
    """Return the classes by name in lower case, with blanks alone, and up to the first comma."""
    spellings = (str.casefold, _plain, lambda name: _plain(name.partition(",")[0]))
    tables: list[dict[str, tuple[int, ...]]] = []
    for spelled in spellings:
        table: dict[str, tuple[int, ...]] = {}
        for index, name in enumerate(known):
            table[spelled(name)] = (*table.get(spelled(name), ()), index)
        tables.append(table)
    return tuple(tables)


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


@lru_cache(maxsize=8)
def _nameless(known: tuple[str, ...]) -> bool:
    """Return whether the classes are called by their numbers, as where nobody named them."""
    return all(_plain(name) in (f"class {index}", f"label {index}") for index, name in enumerate(known))


def _refuse_foreign_numbers(classes: Sequence[str], loaded: LoadedModel) -> None:
    """Check that numbers which are classes' names are all the model's: otherwise none is what it says."""
    outside = [each for each in classes if each.isdecimal() and int(each) >= len(loaded.classes)]
    if outside:
        raise TargetError(
            f"the data's classes are numbers, of which {outside[0]} is outside the {len(loaded.classes)} "
            f"classes of {loaded.name}, numbered from 0"
        )


def _by_wordnet_id(label: str, loaded: LoadedModel, classes: Sequence[str]) -> int | None:
    found = WORDNET_ID.fullmatch(label)
    if found is None or _nameless(loaded.classes):
        return None
    is_imagenet = len(loaded.classes) == 1000 and loaded.classes[0].lower() == "tench"
    if is_imagenet and len(classes) == 1000 and all(map(WORDNET_ID.fullmatch, classes)):
        return sorted(classes).index(label) if label in classes else None
    info = optional("timm.data", "vision").ImageNetInfo("imagenet-1k")
    ids = list(info.label_names())
    if found[1] not in ids:
        return None
    place = ids.index(found[1])
    if is_imagenet:
        return place
    named = [_named(each.strip(), loaded.classes) for each in info.label_descriptions()[place].split(",")]
    return next((each[0] for each in named if len(each) == 1), None)


def _head(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
