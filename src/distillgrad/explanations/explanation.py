"""One photograph explained by some methods: what the model saw, what it said, where it looked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from distillgrad.core.batch import TargetLike
from distillgrad.core.forward import logit_difference, logits_of
from distillgrad.core.profiling import Profile, profiled
from distillgrad.errors import InputError, TargetError
from distillgrad.methods import create_method, find_method
from distillgrad.sources.classifier import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """The five most probable classes with their softmax probabilities, highest first."""

    classes: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Explanation:
    """Attributions of one photograph.

    Attributes:
        shown: What the model saw, normalisation undone: ``(H, W, 3)`` in [0, 1].
        prediction: What the model said.
        target, target_name: The class that is explained.
        probability: The model's, for that class.
        attributions: By method, ``(C, H, W)`` or ``(1, H, W)``, on the CPU.
        parameters: By method, those that were set.
        profiles: By method, where the time went; nowhere for what was known already.
        versus, versus_name: The class against which ``target`` is explained, if any.
    """

    shown: Tensor
    prediction: Prediction
    target: int
    target_name: str
    probability: float
    attributions: Mapping[str, Tensor]
    parameters: Mapping[str, Mapping[str, Any]]
    profiles: Mapping[str, Profile]
    versus: int | None = None
    versus_name: str = ""

    @property
    def question(self) -> str:
        """What the maps answer."""
        against = f" and not {self.versus_name}" if self.versus is not None else ""
        return f"Why {self.target_name}{against}?"

    @property
    def score(self) -> str:
        """What is attributed."""
        against = f" minus that of {self.versus_name}" if self.versus is not None else ""
        return f"logit of {self.target_name}{against}"

    @property
    def asked(self) -> TargetLike:
        """The target as methods take it."""
        return _asked(self.target, self.versus)


def cost_in_passes(methods: Sequence[str], parameters: Mapping[str, Mapping[str, Any]]) -> int:
    """Passes through the model for one image; raises what a wrong method or parameter would."""
    made = [create_method(name, nn.Identity(), **parameters.get(name, {})) for name in methods]
    return sum(method.n_passes for method in made)


def seen_by(loaded: LoadedModel, image: Image.Image) -> Tensor:
    """The model's input for a photograph, ``(1, C, H, W)``, on the model's device."""
    inputs = loaded.preprocess(image)[None]
    if inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        raise InputError(
            f"{loaded.name} takes {tuple(inputs.shape[1:])}; only images (C, H, W) of one or three "
            "channels can be shown"
        )
    return inputs.to(loaded.device)


def predict(loaded: LoadedModel, inputs: Tensor) -> Tensor:
    """Softmax probabilities ``(classes,)`` of one input. Cost: one forward pass."""
    with torch.no_grad():
        return logits_of(loaded.model(inputs))[0].float().softmax(0).cpu()


def explain(
    loaded: LoadedModel,
    image: Image.Image,
    methods: Sequence[str] = ("dga",),
    *,
    target: int | None = None,
    versus: int | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    on_pass: Callable[[], None] = lambda: None,
    recall: Callable[[str, int, int | None], Tensor | None] = lambda *_: None,
) -> Explanation:
    """Why ``loaded`` sees ``target`` (by default what it predicts) in ``image``, by each method.

    Args:
        versus: Another class: explain what speaks for ``target`` rather than for it (difference of logits).
        parameters: Of the methods, by their names; what is not set has its default.
        on_pass: Called at each pass through the model, for a display of progress.
        recall: The attributions by a method of a target, and of its ``versus``, where they are known already.
    Raises:
        TargetError: ``versus`` is the explained class itself.
    """
    inputs = seen_by(loaded, image)
    probabilities = predict(loaded, inputs)
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
    asked = _asked(chosen, versus)

    def counted(*arguments: Any) -> Any:
        on_pass()
        return loaded.model(*arguments)

    used = {name: dict((parameters or {}).get(name, {})) for name in methods}
    attributions, profiles = {}, {}
    for name in methods:
        known = recall(name, chosen, versus)
        if known is not None:
            attributions[name], profiles[name] = known, Profile()
            continue
        whole = find_method(name).needs_module
        method = create_method(name, loaded.model if whole else counted, **used[name])
        with profiled() as profiles[name]:
            attributions[name] = method.attribute(inputs, target=asked)[0].cpu()
        for _ in range(method.n_passes if whole else 0):
            on_pass()
    return Explanation(
        shown=loaded.displayable(inputs[0].cpu()).permute(1, 2, 0).expand(-1, -1, 3),
        prediction=prediction,
        target=chosen,
        target_name=loaded.classes[chosen],
        probability=float(probabilities[chosen]),
        attributions=attributions,
        parameters=used,
        profiles=profiles,
        versus=versus,
        versus_name="" if versus is None else loaded.classes[versus],
    )


def _asked(target: int, versus: int | None) -> TargetLike:
    return target if versus is None else logit_difference(target, versus)
