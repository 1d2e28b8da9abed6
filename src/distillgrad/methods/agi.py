"""Adversarial Gradient Integration: gradients along paths on which other classes win."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, accumulation_dtype, scores, value_and_gradient
from distillgrad.core.logits import logits_of, within_classes
from distillgrad.errors import ModelError, ParameterError, TargetError
from distillgrad.methods.base import GradientMethod, whole_number


class AGI(GradientMethod):
    """The target's loss of probability, feature by feature, on the way to inputs of other classes.

    For each false class ``c``: ``x₀ = x``, ``xₖ₊₁ = clamp(xₖ + ε·sign ∇p_c(xₖ))`` until ``c`` is predicted;
    the result is the mean over ``c`` of ``−Σ ∇p_t(xₖ) ⊙ (xₖ₊₁ − xₖ)``, in units of probability: positive
    where the target needs the feature. No baseline. Sums to the mean of ``p_t(x) − p_t(x_end)`` up to the
    error of the Riemann sum. Every row has its own false classes, path and end.

    Args:
        model: Must return ``(N, classes)`` logits.
        epsilon: ε as a fraction of the clamp's range; positive.
        max_steps: Steps after which a path ends although its class has not won; at least 1.
        n_classes: False classes, in one random order for all rows; all of them if there are fewer.
        seed: Of that order.
        clamp: Lowest and highest value of a feature; by default the row's own.

    Raises:
        ParameterError: a parameter outside its range.
        TargetError: a callable target, which names no class.
        ModelError: an output that is not ``(N, classes)`` of at least two.
    Cost: At most 2·max_steps·n_classes gradient passes, of the rows still on their way only, and a forward
        pass; the memory of one pass, whatever max_steps and n_classes.
    Source: Pan et al. 2021, "Explaining deep neural network models with adversarial gradient integration".
        Departures: inputs are model-normalised, so their range stands for the image's [0, 1]; a mean over
        the false classes, not a sum; steps go on from ``xₖ``, the authors' program takes each from ``x``.
    """

    signed = True
    cost = "up to 2·max_steps·n_classes gradient passes (600)"
    source = "Pan et al. 2021"

    def __init__(
        self,
        model: Model,
        epsilon: float = 0.05,
        max_steps: int = 20,
        n_classes: int = 15,
        seed: int = 0,
        clamp: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(model)
        if not 0 < epsilon < math.inf:
            raise ParameterError(f"epsilon must be finite and positive, not {epsilon}")
        if clamp is not None and not -math.inf < clamp[0] < clamp[1] < math.inf:
            raise ParameterError(f"clamp must be a lowest and a higher highest value, not {clamp}")
        self.epsilon = epsilon
        self.max_steps = whole_number("max_steps", max_steps)
        self.n_classes = whole_number("n_classes", n_classes)
        self.seed = whole_number("seed", seed, least=0)
        self.clamp = clamp

    @property
    def n_passes(self) -> int:
        """The most passes: two for each step towards each false class, and one for the clean input."""
        return 2 * self.max_steps * self.n_classes + 1

    def _attribute(self, batch: Batch) -> Tensor:
        logits = self._logits(batch)
        target = logits.argmax(1) if batch.target is None else batch.target
        if not isinstance(target, Tensor):
            raise TargetError(_NO_CLASS)
        within_classes(target, logits)
        rivals = self._false_classes(target, logits.shape[1])
        total = torch.zeros_like(batch.inputs, dtype=accumulation_dtype(batch.inputs.dtype))
        for rival in rivals.unbind(1):
            self._integrate(batch, target, rival, total)
        return total.div_(rivals.shape[1])

    @property
    def _zero_means(self) -> str:
        return "the class's probability changes nowhere on the ways to other classes"

    def _logits(self, batch: Batch) -> Tensor:
        """Return the logits of the clean inputs, ``(N, classes)``."""
        if callable(batch.target) and not isinstance(batch.target, Tensor):
            raise TargetError(_NO_CLASS)
        outputs: list[Tensor] = []

        def first(output: Any) -> Tensor:
            logits = logits_of(output)
            if logits.ndim != 2 or len(logits) != len(batch) or logits.shape[1] < 2:
                raise ModelError(
                    f"the model's output has shape {tuple(logits.shape)} for {len(batch)} samples; AGI sets "
                    f"classes against each other and needs ({len(batch)}, classes), two or more"
                )
            outputs.append(logits)
            return logits[:, 0]

        scores(self.forward_func, batch.inputs, first, batch.extra)
        return outputs[0]

    def _false_classes(self, target: Tensor, n_classes: int) -> Tensor:
        """Return for each row the first classes, in an order that all rows share, that are not its target."""
        generator = torch.Generator().manual_seed(self.seed)
        order = (
            torch.randperm(n_classes, generator=generator, device="cpu")
            .to(target.device)
            .expand(len(target), -1)
        )
        others = order[order != target[:, None]].view(len(target), n_classes - 1)
        return others[:, : self.n_classes]

    def _integrate(self, batch: Batch, target: Tensor, rival: Tensor, total: Tensor) -> None:
        """Add to ``total`` what the target's probability loses on each row's path to its rival class."""
        model, dtype = self.forward_func, batch.inputs.dtype
        here, rows = batch.inputs.to(total.dtype), torch.arange(len(batch), device=batch.inputs.device)
        low, high = self._range(here)
        for _ in range(self.max_steps):
            score = _Probability(target[rows])
            _, downhill, _ = value_and_gradient(model, here.to(dtype), score, batch.rows(rows).extra)
            going = score.predicted != rival[rows]
            rows, here, downhill = rows[going], here[going], downhill[going]
            if not len(rows):
                return
            score = _Probability(rival[rows], logarithm=True)
            _, uphill, _ = value_and_gradient(model, here.to(dtype), score, batch.rows(rows).extra)
            step = self.epsilon * (high - low)[rows] * uphill.to(here).sign()
            there = torch.minimum(torch.maximum(here + step, low[rows]), high[rows])
            total.index_add_(0, rows, downhill.to(here) * (here - there))
            here = there

    def _range(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lowest and the highest value that each row's features may take, to broadcast."""
        shape = (-1, *(1,) * (clean.ndim - 1))
        low, high = clean.flatten(1).aminmax(dim=1)
        if self.clamp is not None:
            low, high = torch.full_like(low, self.clamp[0]), torch.full_like(high, self.clamp[1])
        return low.view(shape), high.view(shape)


_NO_CLASS = "AGI sets classes against each other; a callable target, one scalar per sample, names no class"


class _Probability:
    """A score: each row's class's probability; remembers which classes were predicted meanwhile.

    Its logarithm has a gradient of the same sign, which does not vanish where the probability does.
    """

    def __init__(self, classes: Tensor, logarithm: bool = False) -> None:
        self.classes = classes
        self.logarithm = logarithm
        self.predicted = classes

    def __call__(self, output: Any) -> Tensor:
        logits = logits_of(output)
        self.predicted = logits.detach().argmax(1)
        logits = logits.to(accumulation_dtype(logits.dtype))
        values = logits.log_softmax(1) if self.logarithm else logits.softmax(1)
        return values.gather(1, self.classes[:, None])[:, 0]
