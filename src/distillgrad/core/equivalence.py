"""The comparison of two models: of their logits, and of their gradients away from kinks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, scores, value_and_gradient
from distillgrad.core.logits import logits_of
from distillgrad.errors import ModelError

MOST_ROWS = 4
EXACT = 1e-9
"""Relative: a right change that is compared in float64 differs by some 1e-14, a wrong one by far more."""


@dataclass(frozen=True)
class Response:
    """A model's answer to a probe: logits ``(N, K)``, the chosen one of each row, its gradient."""

    logits: Tensor
    chosen: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Difference:
    """The distance of two responses.

    Attributes:
        logits: The largest difference, relative to the largest logit.
        gradient: The median over rows of the relative L2 difference: one row may sit on a kink, where the
            last bit of a sum switches a ReLU; where a function differs, most rows do.
    """

    logits: float
    gradient: float

    def within(self, logits: float, gradient: float) -> bool:
        """Return whether both are at most so far apart; false for NaN."""
        return self.logits <= logits and self.gradient <= gradient

    def __str__(self) -> str:
        return f"logits differ by {self.logits:.1g} of the largest, gradients by {self.gradient:.1g}"


def probe_of(batch: Batch) -> Batch:
    """Return the batch's first rows, and the first one with little and with much noise, seeded."""
    n = min(len(batch), MOST_ROWS)
    rows = batch.rows(torch.tensor([*range(n), 0, 0], device=batch.inputs.device))
    noise = torch.randn(
        2, *batch.inputs.shape[1:], generator=torch.Generator().manual_seed(0), device="cpu"
    ).to(rows.inputs)
    spread = batch.inputs[0].std(correction=0)
    noise *= torch.where(spread > 0, spread, 1)
    noise *= torch.tensor([0.01, 0.5], device="cpu").to(noise).view(2, *(1,) * (noise.ndim - 1))
    return replace(rows, inputs=torch.cat([rows.inputs[:n], rows.inputs[n:] + noise]))


def in_float64(probe: Batch) -> Batch:
    """Return the first row of a probe and its two noisy ones, in float64: enough for what is exact."""
    rows = probe.rows(torch.tensor([0, len(probe) - 2, len(probe) - 1], device=probe.inputs.device))
    extra = tuple(each.double() if each.is_floating_point() else each for each in rows.extra)
    return replace(rows, inputs=rows.inputs.double(), extra=extra)


def response(model: Model, probe: Batch, chosen: Tensor | None = None) -> Response:
    """Return logits, and the gradient of each row's ``chosen`` one, by default the largest."""
    seen: list[Tensor] = []

    def score(output: Any) -> Tensor:
        logits = _flat(output, probe)
        which = logits.detach().argmax(1) if chosen is None else chosen
        seen.extend((logits.detach(), which))
        return logits.gather(1, which[:, None])[:, 0]

    _, gradient, _ = value_and_gradient(model, probe.inputs, score, probe.extra)
    logits, which = seen
    return Response(logits, which, gradient)


def _flat(output: Any, probe: Batch) -> Tensor:
    try:
        logits = logits_of(output)
    except ModelError:
        if not callable(probe.target):
            raise
        logits = probe.target(output)  # which finds its way in an output that we do not know
    if logits.shape[:1] != (len(probe),):
        raise ModelError(
            f"the model's output has shape {tuple(logits.shape)} for {len(probe)} samples, not (N, …)"
        )
    return logits.reshape(len(logits), -1)


def row_logits(model: Model, probe: Batch) -> Tensor:
    """Return the logits ``(N, K)`` of a probe. Cost: one forward pass."""
    seen: list[Tensor] = []

    def score(output: Any) -> Tensor:
        seen.append(_flat(output, probe))
        return seen[0][:, 0]

    scores(model, probe.inputs, score, probe.extra)
    return seen[0]


def difference(actual: Response, expected: Response) -> Difference:
    """Return the difference of two models' responses to one probe."""
    one, other = actual.gradient.flatten(1).double(), expected.gradient.flatten(1).double()
    apart = (one - other).norm(dim=1) / other.norm(dim=1).clamp(1e-30)
    return Difference(
        logits_apart(actual.logits, expected.logits), float(apart.nan_to_num(torch.inf).median())
    )


def logits_apart(logits: Tensor, expected: Tensor) -> float:
    """Return their largest difference, relative to the largest; infinite for NaN and for other shapes."""
    if logits.shape != expected.shape:
        return float("inf")
    largest = expected.double().abs().max().clamp(1e-30)
    return float(((logits.double() - expected.double()).abs().max() / largest).nan_to_num(torch.inf))


def rounding(inputs: Tensor) -> float:
    """Return the relative precision of one operation on such inputs."""
    eps = torch.finfo(inputs.dtype).eps
    tf32 = inputs.is_cuda and inputs.dtype == torch.float32
    return max(eps, 1e-3) if tf32 else eps


def sound_response(model: nn.Module, probe: Batch) -> Response:
    """Return the response of a model whose answer depends on the row alone.

    Raises:
        ModelError: it answers otherwise when asked twice, or when a row comes without the others.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"batch norm {name!r} has no running statistics, so a row's output depends on the other rows "
                "of its batch; give it running statistics (track_running_stats=True)"
            )
    tolerance = rounding(probe.inputs) ** 0.5
    expected = response(model, probe)
    if not bool(torch.isfinite(expected.logits).all()):
        raise ModelError(
            "the model's logits are not finite on the examples; give it inputs as it expects them"
        )
    again = logits_apart(row_logits(model, probe), expected.logits)
    if again > tolerance:
        raise ModelError(
            f"the model answers otherwise when asked twice (logits differ by {again:.1g} of the largest): it "
            "draws random numbers (dropout with training=True?) or changes itself; make it deterministic"
        )
    last = len(probe) - 1
    alone = torch.cat([row_logits(model, probe.rows(slice(row, row + 1))) for row in (0, last)])
    apart = logits_apart(alone, expected.logits[[0, last]])
    if apart > tolerance:
        raise ModelError(
            f"a row's logits depend on the other rows of its batch (alone they differ by {apart:.1g} of the "
            "largest); let the model normalise with running statistics"
        )
    return expected
