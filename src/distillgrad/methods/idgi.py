"""Important Direction Gradient Integration: each step of a path is credited along the gradient alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, scores
from distillgrad.errors import UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.guided_ig import guided_path
from distillgrad.methods.path import PathPoint, straight_path
from distillgrad.methods.spectral_ig import expect_matrices, spectral_path

PATHS: dict[str, Callable[[Model, Batch, int], Iterator[PathPoint]]] = {
    "straight": straight_path,
    "guided": guided_path,
    "spectral": spectral_path,
}


LOST = (
    "a step of the path begins where the gradient is zero, and what the score changes on it is left out: "
    "take another baseline or more steps"
)
"""The note on a map whose sum is not what the score gains."""


class IDGI(GradientMethod):
    """``Σ ∇f(xⱼ)² / ‖∇f(xⱼ)‖² · (f(xⱼ₊₁) − f(xⱼ))`` over the points of a path from the baseline.

    What a step changes is shared out as a step along the gradient would be; what the path moves across it
    is noise to this method. Signed by the change of a step, in logit units. Sums to ``f(x) − f(b)``
    exactly, for every model and number of steps, except for steps that begin where the gradient vanishes:
    then ``notes`` says so.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Steps of the path, at least 1.
        path: ``"straight"``: that of Integrated Gradients; ``"guided"``: of Guided IG; ``"spectral"``: of
            Spectral IG; with the defaults of these.

    Raises:
        ParameterError: a parameter outside its range.
        InputError: inputs without the matrices that a spectral path decomposes.
    Cost: n_steps forward and backward passes and one forward pass; the memory of one pass, whatever
        n_steps.
    Source: Yang, Wang and Bilgic 2023, "IDGI: a framework to eliminate explanation noise from Integrated
        Gradients" (CVPR), read from the authors' program. Departures: the logit, not the
        probability; a step that begins at a gradient of zero is left out, where they divide by it.
    """

    signed = True
    cost = "n_steps gradient passes and a forward pass (51)"
    source = "Yang et al. 2023"
    multiplies_by_inputs = True

    def __init__(self, model: Model, n_steps: int = 50, path: str = "straight") -> None:
        super().__init__(model)
        if path not in PATHS:
            raise UnknownNameError("path", str(path), PATHS)
        self.n_steps = whole_number("n_steps", n_steps)
        self.path = path

    @property
    def n_passes(self) -> int:
        """One pass for each step of the path, and one for its end."""
        return self.n_steps + 1

    @property
    def _zero_means(self) -> str:
        return "what the score changes along its path comes to zero at every feature"

    def _attribute(self, batch: Batch) -> Tensor:
        if self.path == "spectral":
            expect_matrices(batch)
        model = self.forward_func
        end, target = scores(model, batch.inputs, batch.target, batch.extra)
        points = PATHS[self.path](model, replace(batch, target=target), self.n_steps)
        here = next(points)
        total = torch.zeros_like(here.gradient)
        lost = torch.zeros_like(here.score, dtype=torch.bool)
        for there in chain(points, [None]):  # None: its end, where no gradient is taken
            shares = squared_direction(here.gradient)
            change = (end.to(total) if there is None else there.score) - here.score
            total.addcmul_(shares, _rowwise(change, total))
            lost |= (shares.flatten(1).amax(1) == 0) & (change != 0)
            here = here if there is None else there
        if bool(lost.any()):
            self._note(LOST)
        return total


def squared_direction(gradient: Tensor) -> Tensor:
    """Return ``∇f² / ‖∇f‖²`` of each row: shares that sum to 1; all 0 for a gradient of zero."""
    greatest = gradient.flatten(1).abs().amax(1)
    squares = (gradient / _rowwise(torch.where(greatest == 0, 1, greatest), gradient)).square()
    whole = squares.flatten(1).sum(1)
    return squares / _rowwise(torch.where(whole == 0, 1, whole), squares)


def _rowwise(values: Tensor, like: Tensor) -> Tensor:
    """Return values ``(N,)`` so that they broadcast over the features of ``like``."""
    return values.view(-1, *(1,) * (like.ndim - 1))
