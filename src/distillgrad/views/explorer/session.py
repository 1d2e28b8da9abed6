"""What stands behind the explorer's page: uploads, models that may be named, one visitor's explanation."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from distillgrad.errors import InputError, SourceError, UnknownNameError
from distillgrad.explanations.explanation import Explanation, cost_in_passes, explain, seen_by
from distillgrad.methods import create_method
from distillgrad.methods.dga import Distillation
from distillgrad.metrics.perturbation_curves import MorfAndLerf, morf_and_lerf
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.images import decode_image, sample_photograph
from distillgrad.sources.models import load_model
from distillgrad.views.recipe import SAMPLE

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000
OPEN_KINDS = ("torchvision", "timm")
"""Libraries whose models a visitor may name: loading them never runs code that the name chooses."""
KEPT_MODELS = 3
KEPT_BYTES = 8 * 2**20
"""Of maps that a visitor's session remembers, beside those that are shown."""

Key: TypeAlias = tuple[str, str, str, int, int | None, str]
"""Of a map: picture, model, method, class, the class it is compared to, parameters."""


@dataclass(frozen=True)
class Picture:
    """A visitor's image as it came, since pixels would fill the memory; ``name`` of ``None`` is the sample."""

    content: bytes
    name: str | None

    @property
    def image(self) -> Image.Image:
        """The pixels. Cost: they are decoded each time."""
        return decode_image(self.content, self.name or SAMPLE, max_pixels=MAX_PIXELS)


@dataclass(frozen=True, eq=False)
class Displayed:
    """What one visitor looks at. Not compared by value: it is stored by identity.

    Attributes:
        explanation: Of the class, or of why it and not another one.
        sides: In the second case, of the first class and of the second, each alone.
        kept: Maps that need not be computed again.
    """

    picture: Picture
    model: str
    explanation: Explanation
    sides: tuple[Explanation, ...] = ()
    kept: Mapping[Key, Tensor] = field(default_factory=dict)


def picture_of(path: str | None) -> Picture:
    """The uploaded image, its first frame if it moves; without a path the sample photograph.

    Raises:
        SourceError: no image, a broken one, or one of more than ``MAX_BYTES`` or ``MAX_PIXELS``; the message
            names it as the visitor does, never where it lies here.
    """
    if path is None:
        return Picture(sample_photograph().read_bytes(), None)
    file = Path(path)
    name = file.name[:120] or "the image"
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise SourceError(f"{name} has {size / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are taken")
        content = file.read_bytes()
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{name} did not arrive; drop it again") from error
    found = Picture(content, name)
    _ = found.image  # what cannot be decoded is refused at once
    return found


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
        """The classifier that a visitor names.

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


@dataclass(frozen=True)
class Settings:
    """The page's settings, checked."""

    methods: tuple[str, ...]
    parameters: dict[str, dict[str, Any]]
    n_passes: int


def asked(methods: Sequence[str], n_steps: float, epc_quantile: float, negative_scale: float) -> Settings:
    """The request, checked before any work.

    Raises:
        InputError: no method is chosen.
        ParameterError, UnknownNameError: a parameter or a method that there is not.
    """
    methods = tuple(dict.fromkeys(methods or ()))  # a repeated one would only cost
    if not methods:
        raise InputError("choose at least one method")
    dga = {
        "n_steps": int(n_steps),
        "epc_quantile": float(epc_quantile),
        "negative_scale": float(negative_scale),
    }
    parameters = {"dga": dga} if "dga" in methods else {}
    return Settings(methods, parameters, cost_in_passes(methods, parameters))


def class_of(loaded: LoadedModel, words: str | None) -> int | None:
    """The class that a visitor chose, ``None`` for the predicted one."""
    if words is None or not str(words).strip():
        return None
    found = str(words).strip()
    number, colon, _ = found.partition(":")
    return loaded.class_index(number if colon and number.isdecimal() else found)


def class_choices(loaded: LoadedModel, found: Explanation) -> list[tuple[str, str]]:
    """Every class as the page lists it and as it answers, the most probable first; numbers tell namesakes apart."""
    said = found.prediction
    first = {
        index: f"{loaded.classes[index]} ({probability:.1%})"
        for index, probability in zip(said.classes, said.probabilities, strict=True)
    }
    every = {**first, **{index: name for index, name in enumerate(loaded.classes) if index not in first}}
    return [(words, f"{index}: {loaded.classes[index]}") for index, words in every.items()]


def explained(
    models: Models,
    picture: Picture,
    model: str,
    target: str | None,
    versus: str | None,
    request: Settings,
    on_pass: Callable[[], None],
    before: Displayed | None = None,
) -> Displayed:
    """The explanation that a visitor asked for; of two classes also each one's own.

    Args:
        before: What the visitor was shown; of its maps none is computed again.
    """
    loaded = models.load(model)
    image, wanted = picture.image, model.strip()
    digest = hashlib.sha256(picture.content).hexdigest()
    kept: dict[Key, Tensor] = dict(before.kept) if before is not None else {}
    used: dict[Key, Tensor] = {}

    def key(method: str, target: int, versus: int | None) -> Key:
        return digest, wanted, method, target, versus, repr(request.parameters.get(method, {}))

    def explain_class(target: int | None, versus: int | None) -> Explanation:
        found = explain(
            loaded, image, request.methods, target=target, versus=versus,
            parameters=request.parameters, on_pass=on_pass, recall=lambda *asked: kept.get(key(*asked)),
        )  # fmt: skip
        used.update({key(name, found.target, versus): each for name, each in found.attributions.items()})
        return found

    other = class_of(loaded, versus)
    found = explain_class(class_of(loaded, target), other)
    sides = () if other is None else (explain_class(found.target, None), explain_class(other, None))
    return Displayed(picture, wanted, found, sides, _remembered(kept, used))


def _remembered(kept: Mapping[Key, Tensor], used: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """What is used, last, and before it the latest others that ``KEPT_BYTES`` have room for."""
    others, room = [], KEPT_BYTES
    for key, values in reversed(list(kept.items())):
        room -= 0 if key in used else values.nbytes
        if room < 0:
            break
        if key not in used:
            others.append((key, values))
    return {**dict(reversed(others)), **used}


def sequence(loaded: LoadedModel, shown: Displayed, on_pass: Callable[[], None]) -> Distillation:
    """The distillation sequence behind the DGA map that is shown."""
    if "dga" not in shown.explanation.parameters:
        raise InputError("the sequence is DGA's: choose dga among the methods and explain again")

    def counted(*arguments: Any) -> Any:
        on_pass()
        return loaded.model(*arguments)

    method: Any = create_method("dga", counted, **shown.explanation.parameters["dga"])
    found: Distillation = method.distill(seen_by(loaded, shown.picture.image), shown.explanation.asked)
    return found


def faithfulness(
    loaded: LoadedModel, shown: Displayed, n_steps: int, on_rows: Callable[[int], None]
) -> dict[str, MorfAndLerf]:
    """MoRF and LeRF of the maps that are shown; of two classes, for the probability of the first."""

    def counted(inputs: torch.Tensor, *extra: Any) -> Any:
        on_rows(len(inputs))
        return loaded.model(inputs, *extra)

    attributions = {name: each[None] for name, each in shown.explanation.attributions.items()}
    return morf_and_lerf(
        counted, seen_by(loaded, shown.picture.image), shown.explanation.target, attributions, n_steps=n_steps
    )
