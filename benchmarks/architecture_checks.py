"""What the sweep over architectures holds against each map: its shape, its rows, its sum, its gradient.

Nothing here knows a method's right map. These properties hold of every network, and each of them has found
maps that were wrong without a word.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import distillgrad as dg
from distillgrad.core.batch import checked_batch
from distillgrad.core.examination.doubts import coarsest_precision
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.logits import logits_of
from distillgrad.errors import DistillgradError
from distillgrad.testing.check import require

OK, REFUSED, WRONG, RAW = "OK", "refused", "WRONG", "RAW ERROR"

CHEAP: dict[str, dict[str, Any]] = {
    "dga": {"n_steps": 2},
    "stable_dga": {"n_steps": 2, "n_rankings": 2},
    "smoothgrad": {"n_samples": 2},
    "vargrad": {"n_samples": 2},
    "integrated_gradients": {"n_steps": 2},
    "guided_ig": {"n_steps": 2},
    "idgi": {"n_steps": 2},
    "samp": {"n_steps": 2},
    "spectral_ig": {"n_steps": 2},
    "agi": {"n_classes": 1, "max_steps": 1},
    "rise": {"n_masks": 2, "cells": 3},
    "lime": {"n_samples": 4, "cells": 2},
    "xrai": {"n_steps": 1},
}
"""Parameters with which each method takes a few passes; those of ``occlusion`` depend on the image."""
TARGETS = (1, 2)
TOLERANCE = 1e-8
STEPS = (1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1e-9, 1e-10, 1e-3, 1e-2, 1e-1)
"""The steps of finite differences, of which the best counts: deep random networks magnify by millions."""
LOOSER = {"lime": 1e-4}
"""Captum fits LIME's linear model in float32."""


@dataclass(frozen=True)
class Verdict:
    """What became of a method on a network.

    Attributes:
        outcome: ``OK``, ``REFUSED``, ``WRONG`` or ``RAW``.
        why: The refusal, the error, or what is wrong; for what is OK empty, or "blank".
        seconds: Processor time of all calls that were made for it.
    """

    outcome: str
    why: str
    seconds: float


@dataclass(frozen=True)
class Subject:
    """A network in float64 and eval mode, and two images for it."""

    model: nn.Module
    inputs: Tensor

    def scores(self, inputs: Tensor) -> Tensor:
        """Return the score of each row's class, ``(N,)``."""
        with torch.no_grad():
            logits = logits_of(self.model(inputs.clone()))
        return logits.gather(1, torch.tensor(TARGETS)[: len(inputs)][:, None])[:, 0]

    def explain(self, name: str, rows: slice = slice(None)) -> Tensor:
        """Return the attributions of rows by a method that is made anew."""
        parameters = CHEAP.get(name, {})
        if name == "occlusion":
            parameters = {"window": self.inputs.shape[-1] // 2, "stride": self.inputs.shape[-1] // 2}
        method = dg.create_method(name, self.model, **parameters)
        attributions: Tensor = method.attribute(self.inputs[rows], torch.tensor(TARGETS)[rows])
        return attributions


def judged(name: str, subject: Subject) -> Verdict:
    """Return what becomes of a method, or of ``"accelerate"``, on a network."""
    began = time.process_time()
    try:
        outcome, why = _accelerated(subject) if name == "accelerate" else _explained(name, subject)
    except AssertionError as error:
        outcome, why = WRONG, str(error)
    except DistillgradError as error:
        outcome, why = REFUSED, str(error)
    except Exception as error:  # noqa: BLE001  # that any may come is what is looked for
        outcome, why = RAW, f"{type(error).__name__}: {error}"
    return Verdict(outcome, why, round(time.process_time() - began, 2))


def _explained(name: str, subject: Subject) -> tuple[str, str]:
    before = _traces(subject.model)
    try:
        whole = subject.explain(name)
    finally:
        _require_no_traces(before, subject.model)
    inputs = subject.inputs
    pixels = dg.METHODS[name].result == "pixels"
    shape = (len(inputs), 1, *inputs.shape[2:]) if pixels else tuple(inputs.shape)
    require(tuple(whole.shape) == shape, f"shape {tuple(whole.shape)}, not {shape}")
    require(bool(whole.isfinite().all()), "not finite")
    try:
        alone, again = (subject.explain(name, slice(1)) for _ in range(2))
    except DistillgradError as error:
        return WRONG, f"refuses of one row what it does of two: {error}"
    require(torch.equal(alone, again), f"the second call differs by {_apart(again, alone):.1g}")
    apart, allowed = _apart(whole[:1], alone), LOOSER.get(name, TOLERANCE)
    if apart > allowed:  # so may the image's last bit take it
        nearly = copy.copy(subject)
        object.__setattr__(nearly, "inputs", inputs * (1 + 4 * torch.finfo(inputs.dtype).eps))
        allowed = 10 * _apart(nearly.explain(name, slice(1)), alone)
    require(apart <= allowed, f"a row alone differs by {apart:.1g} from it in a batch")
    for check in PROMISES.get(name, ()):
        check(subject, whole)
    _require_no_traces(before, subject.model)
    return OK, "" if bool(whole.flatten(1).count_nonzero(1).all()) else "blank"


def _traces(model: nn.Module) -> dict[str, Any]:
    tensors = [*model.parameters(), *model.buffers()]
    modules = list(model.modules())
    return {
        "values": [(each._version, float(each.detach().sum())) for each in tensors],
        "flags of gradients": [each.requires_grad for each in tensors],
        "gradients": [id(each.grad) for each in tensors],
        "training modes": [each.training for each in modules],
        "attributes": [sorted(vars(each)) for each in modules],
        "hooks": [
            len(each._forward_hooks) + len(each._forward_pre_hooks) + len(each._backward_hooks)
            for each in modules
        ],
    }


def _require_no_traces(before: dict[str, Any], model: nn.Module) -> None:
    for what, value in _traces(model).items():
        require(value == before[what], f"{what} of the model have changed")


def _apart(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value; of two zero maps 0."""
    if actual.shape != expected.shape:
        return float("inf")
    largest, apart = expected.abs().max(), (actual - expected).abs().max()
    return float(apart / largest) if largest > 0 else float(apart)


def _is_the_gradient(subject: Subject, gradient: Tensor) -> None:
    """Check that a gradient is what finite differences say, along one direction, by the best step."""
    norm = gradient.flatten(1).norm(dim=1)
    drawn = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(2)).double()
    unit = drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    direction = unit + gradient / norm.clamp(1e-300).view(-1, 1, 1, 1)
    slope = (gradient * direction).flatten(1).sum(1)
    apart = torch.full_like(slope, torch.inf)
    for step in STEPS:
        there, back = (subject.scores(subject.inputs + sign * step * direction) for sign in (1, -1))
        found = (there - back) / (2 * step)
        apart = torch.minimum(apart, (found - slope).abs() / torch.maximum(norm, found.abs()).clamp(1e-9))
        if bool((apart <= 1e-5).all()):
            return
    worst, eps = float(apart.max()), coarsest_precision(subject.model, checked_batch(subject.inputs, 0))
    limit = 1e-4 if eps < 1e-9 else 1e-2  # some round to float32 in between
    require(worst <= limit, f"the gradient differs by {worst:.1g} from finite differences")


def _gradient_times_input(subject: Subject, attributions: Tensor) -> None:
    _is_the_gradient(subject, attributions / subject.inputs)


def _magnitude(subject: Subject, attributions: Tensor) -> None:
    gradient = subject.explain("gradient_x_input") / subject.inputs
    apart = _apart(attributions, gradient.abs())
    require(apart <= TOLERANCE, f"not the magnitude of the gradient, by {apart:.1g}")


def _sums_to(expected: Callable[[Subject], Tensor], tolerance: float) -> Callable[[Subject, Tensor], None]:
    def check(subject: Subject, attributions: Tensor) -> None:
        score = expected(subject)
        apart = (attributions.flatten(1).sum(1) - score).abs()
        size = torch.maximum(attributions.flatten(1).abs().sum(1), score.abs())
        worst = float((apart / size.clamp(1e-12)).max())
        require(worst <= tolerance, f"the sum is off by {worst:.1g} of the map's magnitude")

    return check


def _gain(subject: Subject) -> Tensor:
    return subject.scores(subject.inputs) - subject.scores(torch.zeros_like(subject.inputs))


def _gain_with_gradient(subject: Subject) -> Tensor:
    """Return what the score gains on IDGI's steps but those that begin where the gradient is zero."""
    n_steps = CHEAP["idgi"]["n_steps"]
    points = [subject.inputs * step / n_steps for step in range(n_steps + 1)]
    gain = torch.zeros(len(subject.inputs), dtype=torch.float64)
    for here, there in pairwise(points):
        score, gradient, _ = value_and_gradient(subject.model, here, torch.tensor(TARGETS))
        gain += (subject.scores(there) - score) * (gradient.flatten(1).abs().amax(1) > 0)
    return gain


def _leaves_no_bias_out(subject: Subject, _: Tensor) -> None:
    """Check that FullGrad's terms sum to the score, where the network is made of piecewise-linear parts."""
    if not _piecewise_linear(subject):
        return
    method = dg.FullGrad(subject.model)
    score = subject.scores(subject.inputs)
    left = method.residual(subject.inputs, list(TARGETS)).abs() / score.abs()
    require(float(left.max()) <= 1e-6, f"terms of {float(left.max()):.1g} of the score are left out")


_NODES = """
Convolution MkldnnConvolution Addmm Mm Relu NativeBatchNorm MaxPool2DWithIndices AvgPool2D Mean Sum Add Sub
Mul Div Cat Stack View UnsafeView ReshapeAlias Transpose T Permute Expand Slice Select Split SplitWithSizes
Squeeze Unsqueeze Clone Hardtanh LeakyRelu Threshold Clamp ClampMin ConstantPadNd ReflectionPad2D
MkldnnAdaptiveAvgPool2D AdaptiveAvgPool2D AsStrided Copy Alias AccumulateGrad
"""
LINEAR_NODES = frozenset(_NODES.split())
"""What autograd calls the steps that a piecewise-linear network may have, of which no two activations enter
a product or quotient."""


def _piecewise_linear(subject: Subject) -> bool:
    """Return whether the score's graph, in which only the image has a gradient, has such steps alone."""
    frozen = copy.deepcopy(subject.model).requires_grad_(False)
    inputs = subject.inputs.clone().requires_grad_()
    waiting: list[Any] = [logits_of(frozen(inputs.clone())).grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        kind = node.name().partition("Backward")[0].rpartition("::")[2]
        nexts = [each for each, _ in node.next_functions if each is not None]
        if kind not in LINEAR_NODES or (kind in ("Mul", "Div") and len(nexts) > 1):
            return False
        waiting += [each for each in nexts if each not in seen]
        seen.update(nexts)
    return True


PROMISES: dict[str, tuple[Callable[[Subject, Tensor], None], ...]] = {
    "gradient_x_input": (_gradient_times_input,),
    "saliency": (_magnitude,),
    "uniform_fullgrad": (_sums_to(lambda subject: subject.scores(subject.inputs), 1e-9),),
    "idgi": (_sums_to(_gain_with_gradient, 1e-9),),
    "deep_lift": (_sums_to(_gain, 1e-5),),
    "fullgrad": (_leaves_no_bias_out,),
}
"""What a method promises of its map beyond what holds of all, or of what it is made of."""


def _accelerated(subject: Subject) -> tuple[str, str]:
    """Hold the accelerated model, in float32, against the original in float64, on one row and on two."""
    before = _traces(subject.model)
    original = copy.deepcopy(subject.model).float()
    faster = dg.accelerate(original, subject.inputs.float())
    _require_no_traces(before, subject.model)
    for rows in (slice(1), slice(None)):
        exact = _response(subject.model, subject.inputs[rows])
        plain, fast = (_response(each, subject.inputs[rows].float()) for each in (original, faster))
        for what, expected, rounded, found in zip(("logits", "gradients"), exact, plain, fast, strict=True):
            # Rounding switches ReLUs near their kinks: a little of the gradient may be another.
            allowed = 20 * _apart(rounded, expected) + (1e-3 if what == "logits" else 0.05)
            apart = _apart(found, expected)
            require(apart <= allowed, f"accelerated, {what} of {len(found)} rows differ by {apart:.1g}")
    return OK, ""


def _response(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        logits = logits_of(model(inputs.clone()))
    _, gradient, _ = value_and_gradient(model, inputs, torch.tensor(TARGETS)[: len(inputs)])
    return logits.double(), gradient.double()


def used_once(model: nn.Module, inputs: Tensor) -> None:
    """Call a model on one and on two rows, so that what it makes at its first use is made.

    Raises:
        ValueError: its answer is not one of the row alone, or not the same twice: no method can explain it.
    """
    with torch.no_grad():
        both, again, alone = (logits_of(model(each.clone())) for each in (inputs, inputs, inputs[:1]))
    if not torch.equal(both, again) or _apart(alone, both[:1]) > 1e-10:
        raise ValueError("its logits are not the same twice, or depend on the other row")
