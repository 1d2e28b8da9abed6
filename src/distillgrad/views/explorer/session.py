"""One visitor's explanation: the settings of the page, the maps that answer them, the maps remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from distillgrad.errors import InputError, UnknownNameError
from distillgrad.explanations.explanation import Explanation, Map, cost_in_passes, explain
from distillgrad.methods import METHODS
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.views.explorer.models import Models, class_of
from distillgrad.views.explorer.uploads import Picture

REMEMBERED_BYTES = 8 * 2**20
"""The room for maps that a visitor's session remembers, beside those that are displayed."""

Key: TypeAlias = tuple[str, str, str, int, int | None, str]
"""A map's picture, model, method, class, the class it is compared to, parameters."""


@dataclass(frozen=True)
class Settings:
    """The methods of the page, checked, and their passes through the model for one explanation."""

    methods: MethodSpecs
    n_passes: int


@dataclass(frozen=True, eq=False)
class Displayed:
    """The explanation that one visitor looks at. Not compared by value: it is stored by identity.

    Attributes:
        explanation: The explained class's, or why it and not another one.
        sides: In the second case, the explanations of the first class and of the second, each alone.
        remembered: Maps that need not be computed again.
    """

    picture: Picture
    model: str
    explanation: Explanation
    sides: tuple[Explanation, ...] = ()
    remembered: Mapping[Key, Map] = field(default_factory=dict)


def checked_settings(
    methods: Sequence[str] | None, n_steps: float, epc_quantile: float, negative_scale: float
) -> Settings:
    """Return the settings, checked before any work.

    Raises:
        InputError: no method is chosen.
        ParameterError, UnknownNameError: a parameter or a method that there is not.
    """
    names = tuple(dict.fromkeys(methods or ()))  # a repeated one would only cost
    if not names:
        raise InputError("choose at least one method")
    for name in names:
        if name not in METHODS:  # nor is code imported that a visitor names
            raise UnknownNameError("method", name[:120], METHODS)
    dga = {
        "n_steps": int(n_steps),
        "epc_quantile": float(epc_quantile),
        "negative_scale": float(negative_scale),
    }
    specs: MethodSpecs = {name: (name, dga if name == "dga" else {}) for name in names}
    return Settings(specs, cost_in_passes(specs))


def explain_picture(
    models: Models,
    picture: Picture,
    model: str,
    target: str | None,
    versus: str | None,
    settings: Settings,
    on_pass: Callable[[], None],
    before: Displayed | None = None,
) -> Displayed:
    """Return the explanation that a visitor asks for; of two classes also each one's own.

    Args:
        before: The explanation displayed until now; none of its maps is computed again.
    """
    loaded = models.load(model)
    image, name = picture.image, model.strip()
    digest = hashlib.sha256(picture.content).hexdigest()
    remembered: dict[Key, Map] = dict(before.remembered) if before is not None else {}
    used: dict[Key, Map] = {}

    def key(method: str, target: int, versus: int | None) -> Key:
        return digest, name, method, target, versus, repr(settings.methods[method][1])

    def explain_class(target: int | None, versus: int | None) -> Explanation:
        explanation = explain(
            loaded, image, settings.methods, target=target, versus=versus, on_pass=on_pass,
            recall=lambda method, target, versus: remembered.get(key(method, target, versus)),
        )  # fmt: skip
        for method, values in explanation.attributions.items():
            used[key(method, explanation.target, versus)] = Map(values, explanation.notes.get(method, ()))
        return explanation

    other = class_of(loaded, versus)
    explanation = explain_class(class_of(loaded, target), other)
    sides = () if other is None else (explain_class(explanation.target, None), explain_class(other, None))
    return Displayed(picture, name, explanation, sides, _within_room(remembered, used))


def _within_room(remembered: Mapping[Key, Map], used: Mapping[Key, Map]) -> dict[Key, Map]:
    """Return the used maps, last, and before them the latest others that ``REMEMBERED_BYTES`` have room for."""
    others, room = [], REMEMBERED_BYTES
    for key, known in reversed(list(remembered.items())):
        room -= 0 if key in used else known.values.nbytes
        if room < 0:
            break
        if key not in used:
            others.append((key, known))
    return {**dict(reversed(others)), **used}
