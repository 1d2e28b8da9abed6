"""The explanation of one photograph by some methods: the model's input, its prediction, the maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor, nn

from distillgrad.core.acceleration.accelerated import Accelerated
from distillgrad.core.batch import TargetLike
from distillgrad.core.forward import counted
from distillgrad.core.logits import logit_difference
from distillgrad.core.profiling import Profile, profiled
from distillgrad.errors import InputError, TargetError
from distillgrad.methods import create_method, find_method
from distillgrad.methods.base import Method
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.model_inputs import class_probabilities, preprocessed


@dataclass(frozen=True)
class Prediction:
    """The five most probable classes with their softmax probabilities, highest first."""

    classes: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]


class Map(NamedTuple):
    """A method's attributions of an image ``(C, H, W)``, and its notes: what their reader must know."""

    values: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """The attributions of one photograph by some methods.

    Attributes:
        picture: The model's input with its normalisation undone: ``(H, W, 3)`` in [0, 1].
        prediction: The classes that the model predicts.
        target, target_name: The explained class.
        probability: The model's, for that class.
        methods: By label, the method's name and the parameters that were set.
        attributions: By label, ``(C, H, W)`` or ``(1, H, W)``, on the CPU.
        profiles: By label, where the time went; empty for attributions that were recalled.
        versus, versus_name: The class against which ``target`` is explained, if any.
        notes: By label, what the reader of the method's map must know, in sentences, if it has any.
        acceleration: The settings of ``dg.accelerate`` where a faster equivalent was explained.
    """

    picture: Tensor
    prediction: Prediction
    target: int
    target_name: str
    probability: float
    methods: MethodSpecs
    attributions: Mapping[str, Tensor]
    profiles: Mapping[str, Profile]
    versus: int | None = None
    versus_name: str = ""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    acceleration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The question that the maps answer."""
        against = f" and not {self.versus_name}" if self.versus is not None else ""
        return f"Why {self.target_name}{against}?"

    @property
    def score(self) -> str:
        """The words for the quantity that is attributed."""
        against = f" minus that of {self.versus_name}" if self.versus is not None else ""
        return f"logit of {self.target_name}{against}"

    @property
    def scored_target(self) -> TargetLike:
        """The target as methods take it: the class, or its logit minus that of ``versus``."""
        return _scored_target(self.target, self.versus)


def cost_in_passes(methods: MethodSpecs) -> int:
    """Return the number of passes through the model for one image.

    Raises:
        UnknownNameError, ParameterError: a method or parameter that there is not.
    """
    return sum(
        create_method(name, nn.Identity(), **parameters).n_passes for name, parameters in methods.values()
    )


def seen_by(loaded: LoadedModel, image: Image.Image) -> Tensor:
    """Return the model's input for a photograph, ``(1, C, H, W)``, on the model's device."""
    inputs = preprocessed(loaded, image)[None]
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3, 4):
        raise InputError(
            f"{loaded.name} takes {tuple(inputs.shape[1:])}; only images (C, H, W) of one, three or four "
            "channels can be shown"
        )
    return inputs.to(loaded.device)


def explain(
    loaded: LoadedModel,
    image: Image.Image,
    methods: MethodSpecs,
    *,
    target: int | None = None,
    versus: int | None = None,
    fast: nn.Module | None = None,
    on_pass: Callable[[], None] = lambda: None,
    recall: Callable[[str, int, int | None], Map | None] = lambda *_: None,
) -> Explanation:
    """Return each method's map of why ``loaded`` sees ``target`` (by default its prediction) in ``image``.

    Args:
        methods: By label, the method's name and parameters.
        versus: Another class: explain what speaks for ``target`` rather than for it (difference of logits).
        fast: An equivalent of the model for the methods that do not look at layers.
        on_pass: Called at each pass through the model, for a display of progress.
        recall: Returns the known map of a label, target and ``versus``, ``None`` for unknown ones.
    Raises:
        TargetError: ``versus`` is the explained class itself.
    """
    inputs = seen_by(loaded, image)
    probabilities = class_probabilities(loaded, loaded.model, inputs)[0].cpu()
    top = probabilities.topk(min(5, len(probabilities)))
    prediction = Prediction(
        classes=tuple(top.indices.tolist()),
        names=tuple(loaded.classes[index] for index in top.indices.tolist()),
        probabilities=tuple(top.values.tolist()),
    )
    chosen = prediction.classes[0] if target is None else target
    if versus == chosen:
        raise TargetError(
            f"{loaded.classes[chosen]} cannot be explained against itself; choose another class"
        )
    scored = _scored_target(chosen, versus)
    maps: dict[str, Map] = {}
    profiles = {}
    for label, (name, parameters) in methods.items():
        known = recall(label, chosen, versus)
        if known is not None:
            maps[label], profiles[label] = known, Profile()
            continue
        kind = find_method(name)
        whole, model = kind.needs_module, model_for(kind, loaded, fast)
        method = create_method(name, model if whole else counted(model, on_pass), **parameters)
        with profiled() as profiles[label]:
            maps[label] = map_by(method, inputs, scored)
        for _ in range(method.n_passes if whole else 0):
            on_pass()
    return Explanation(
        picture=loaded.displayable(inputs[0].cpu()).permute(1, 2, 0).expand(-1, -1, 3),
        prediction=prediction,
        target=chosen,
        target_name=loaded.classes[chosen],
        probability=float(probabilities[chosen]),
        methods=methods,
        attributions={label: each.values for label, each in maps.items()},
        profiles=profiles,
        versus=versus,
        versus_name="" if versus is None else loaded.classes[versus],
        notes=notes_of(maps),
        acceleration=fast.settings if isinstance(fast, Accelerated) else {},
    )


def map_by(method: Method, inputs: Tensor, target: TargetLike) -> Map:
    """Return a method's map of one image, ``(1, C, H, W)``, on the CPU."""
    values = method.attribute(inputs, target=target)[0].cpu()
    return Map(values, method.notes)


def notes_of(maps: Mapping[str, Map]) -> dict[str, tuple[str, ...]]:
    """Return by label the notes of the maps that have some."""
    return {label: each.notes for label, each in maps.items() if each.notes}


def model_for(method: type[Method], loaded: LoadedModel, fast: nn.Module | None) -> nn.Module:
    """Return the faster equivalent, or for a method that looks at layers the model as it was made."""
    return loaded.model if fast is None or method.layerwise else fast


def _scored_target(target: int, versus: int | None) -> TargetLike:
    return target if versus is None else logit_difference(target, versus)
