"""Spectral Integrated Gradients: the gradient along a path that brings coarse structure before detail."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model
from distillgrad.errors import InputError, ParameterError
from distillgrad.methods.base import GradientMethod, whole_number
from distillgrad.methods.blank_maps import ALONG_PATH
from distillgrad.methods.path import PathPoint, points_along, riemann_sum

OVERLAP = 0.4


class SpectralIG(GradientMethod):
    """The gradient integrated along a path on which ``x − b`` appears by its singular values.

    Each channel is a matrix, ``U diag(s) Vᵀ``. At α it has ``U diag(s ⊙ p) Vᵀ``, where component i grows
    evenly from 0 to 1, ``pᵢ = clamp((α − aᵢ)/w, 0, 1)`` with ``aᵢ = (1 − w)(1 − sᵢ/s₁)``: large ones first.
    Signed, in logit units. Sums to ``f(x) − f(b)`` up to the error of the left Riemann sum.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_steps: Steps of the path, at least 1.
        overlap: w in (0, 1]: the share of the path in which one component appears; 1 is the straight path.

    Raises:
        ParameterError: a parameter outside its range.
        InputError: inputs that are not ``(N, C, H, W)``.
    Cost: n_steps forward and backward passes, and a forward pass where the target is the prediction; a
        singular value decomposition of each channel; the memory of one pass, whatever n_steps.
    Source: Kim et al. 2026, "Spectral Integrated Gradients for coarse-to-fine feature attribution" (KDD),
        by the authors' program at its settings (by channel, linear, w = 0.4, 200 points). Departures: the
        logit, not the probability; n_steps counts steps, so that there is a point more.
    """

    signed = True
    cost = "n_steps gradient passes (200)"
    source = "Kim et al. 2026"
    multiplies_by_inputs = True

    def __init__(self, model: Model, n_steps: int = 200, overlap: float = OVERLAP) -> None:
        super().__init__(model)
        if not 0 < overlap <= 1:
            raise ParameterError(f"overlap must lie in (0, 1], not {overlap}")
        self.n_steps = whole_number("n_steps", n_steps)
        self.overlap = overlap

    @property
    def n_passes(self) -> int:
        """One pass for each step of the path."""
        return self.n_steps

    @property
    def _zero_means(self) -> str:
        return ALONG_PATH

    def _attribute(self, batch: Batch) -> Tensor:
        expect_matrices(batch)
        batch = with_target(self.forward_func, batch)
        points = spectral_path(self.forward_func, batch, self.n_steps, self.overlap)
        return riemann_sum(points, batch.difference)


def expect_matrices(batch: Batch) -> None:
    """Check that the inputs are images, whose channels are matrices.

    Raises:
        InputError: they are not.
    """
    if batch.inputs.ndim != 4:
        raise InputError(
            "a spectral path decomposes the channels of images: inputs must be (N, C, H, W); "
            f"got {tuple(batch.inputs.shape)}"
        )


def spectral_path(model: Model, batch: Batch, n_steps: int, overlap: float = OVERLAP) -> Iterator[PathPoint]:
    """Yield the points of Spectral IG's path; the parameters are those of :class:`SpectralIG`."""
    left, values, right = torch.linalg.svd(batch.difference, full_matrices=False)
    greatest = values[..., :1]
    strength = values / torch.where(greatest > 0, greatest, 1)
    begins = (1 - overlap) * (1 - strength)

    def kept(alpha: float) -> Tensor:
        shares = ((alpha - begins) / overlap).clamp(0, 1)
        return torch.matmul(left * (values * shares)[..., None, :], right)

    return points_along(model, batch, n_steps, kept)
