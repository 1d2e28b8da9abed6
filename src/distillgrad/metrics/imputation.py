"""ROAD's imputation: removed pixels become what the pixels around them suggest, and a little noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from distillgrad.core.batch import outside_inference_mode
from distillgrad.core.forward import accumulation_dtype
from distillgrad.errors import InputError, ParameterError

DIRECTLY_SOLVED = 256  # nodes of the coarsest grid
NEAR = 0.1  # share of an equation's weight that kept pixels take, where they are near
MAX_CYCLES = 100  # the hardest masks that were tried take 15 in float64
ELEMENTS = 2**19  # that are solved for at a time on a CPU: its cache holds what belongs to them


def noisy_linear_imputation(
    images: Tensor, kept: Tensor, *, noise: float = 0.01, generator: torch.Generator | None = None
) -> Tensor:
    """Return the images with each removed pixel made the mean of its neighbours, plus noise.

    Direct neighbours weigh 1/6, diagonal ones 1/12; at the image's border the weights that are there are
    scaled to sum to 1. Neighbours that are removed too enter with their own imputed values: all are
    solved for together, per channel. Kept pixels stay bit for bit, values of removed ones do not enter; an
    image of which nothing is kept becomes its mean colour.

    Args:
        images: ``(B, C, H, W)``, model-normalised; not modified.
        kept: Which pixels stay: bool, ``(B, 1, H, W)`` or ``(B, H, W)``.
        noise: Standard deviation of the Gaussian noise on removed pixels, in the units of ``images``.
        generator: Of the noise, which is drawn once, ``(C, H, W)``, and shared by all images: a row does not
            depend on its batch. By default a new one, seeded with 0.
    Returns: Shape, dtype and device of ``images``; but for the noise, within some 1e-5 (float64: 1e-10) of
        the exact solution, in units of the range of what is kept of the image.
    Raises:
        InputError: images or ``kept`` of a wrong type or shape; images with NaN or infinity.
        ParameterError: ``noise`` negative or not finite.
    Cost: five to eight multigrid cycles of some 60 passes over the image each; no model is called.
    Source: Rong et al. 2022, §4.2. Departures: the authors solve one image at a time by sparse
        factorisation and leave an image without kept pixels undefined; theirs is independent noise.
    """
    _check(images, kept, noise)
    with outside_inference_mode():
        stays = kept.view(len(kept), 1, *kept.shape[-2:])
        wide = images.detach().to(accumulation_dtype(images.dtype))
        size = max(1, ELEMENTS // wide[0].numel()) if wide.device.type == "cpu" else len(wide)
        starts = range(0, len(wide), size)
        filled = torch.cat([_imputed(wide[i : i + size], stays[i : i + size]) for i in starts])
        if noise:
            source = generator or torch.Generator().manual_seed(0)
            drawn = torch.randn(images.shape[1:], generator=source, device=source.device, dtype=torch.float32)
            filled += noise * drawn.to(filled)
        return torch.where(stays, images.detach(), filled.to(images.dtype))


def _check(images: Tensor, kept: Tensor, noise: float) -> None:
    if not images.is_floating_point() or images.ndim != 4 or not images.numel():
        got = f"{images.dtype}, {tuple(images.shape)}"
        raise InputError(f"images must be floating-point numbers (B, C, H, W), not empty; got {got}")
    if kept.dtype != torch.bool:
        raise InputError(f"kept must be of bool, true where a pixel stays; got {kept.dtype}")
    n, _, height, width = images.shape
    if kept.shape not in ((n, height, width), (n, 1, height, width)):
        raise InputError(
            f"kept has shape {tuple(kept.shape)} for images of {tuple(images.shape)}; "
            f"expected ({n}, 1, {height}, {width}) or ({n}, {height}, {width})"
        )
    if kept.device != images.device:
        raise InputError(f"kept is on {kept.device}, the images on {images.device}")
    if not bool(torch.isfinite(images).all()):
        raise InputError("images contain NaN or infinity; mend or leave them out")
    if not (math.isfinite(noise) and noise >= 0):
        raise ParameterError(f"noise must be a standard deviation, finite and at least 0, not {noise}")


def _imputed(images: Tensor, kept: Tensor) -> Tensor:
    """Return values for the removed pixels of ``(B, C, H, W)``; those of the others mean nothing.

    Solved for in units of the range of what is kept, from its middle: by the maximum principle the solution
    lies within ½ of 0, an image of one colour is solved by 0, and one tolerance serves all images.
    """
    some = kept.flatten(1).any(1).view(-1, 1, 1, 1)
    low = images.where(kept, torch.inf).amin((1, 2, 3), keepdim=True)
    high = images.where(kept, -torch.inf).amax((1, 2, 3), keepdim=True)
    middle = torch.where(some, (low + high) / 2, images.mean((2, 3), keepdim=True))
    scale = torch.where(high > low, high - low, 1)
    known = ((images - middle) / scale).where(kept, 0)
    grids = _grids(*images.shape[2:])
    equations = _PixelEquations.of((~kept & some).to(known.dtype), grids[0])
    pull = equations.unknown * grids[0].smeared(grids[0].flat(known))
    solution = _solved(equations, pull, grids)
    return grids[0].cut(solution, *images.shape[2:]) * scale + middle


# Grids. Values of a grid are kept flat, (B, C, (h+1)·(w+1)), with a zero after each row and a row of zeros
# after each channel: neighbours are then a constant shift away, and each step is one pass over contiguous
# memory, many times faster than a convolution with one channel.


@dataclass(frozen=True)
class _Grid:
    """A grid of nodes ``(height, width)``, both odd: every second one is a node of the next coarser grid."""

    height: int
    width: int

    def flat(self, values: Tensor) -> Tensor:
        missing = (0, self.width + 1 - values.shape[-1], 0, self.height + 1 - values.shape[-2])
        return pad(values, missing).flatten(2)

    def cut(self, values: Tensor, height: int, width: int) -> Tensor:
        shape = (*values.shape[:2], self.height + 1, self.width + 1)
        return values.view(shape)[:, :, :height, :width]

    def smeared(self, values: Tensor) -> Tensor:
        """Return values under the kernel ``[1 2 1]ᵀ[1 2 1]``: four sums of two shifted copies."""
        return _folded(_folded(values.reshape(-1), self.width + 1, 1), 1, 1).view_as(values)

    def restricted(self, values: Tensor) -> Tensor:
        """Return values on the coarser grid: each node gathers what it would give by :meth:`interpolated`."""
        nodes = self.cut(self.smeared(values), self.height, self.width)[..., ::2, ::2]
        return pad(nodes / 4, (0, 1, 0, 1)).flatten(2)

    def interpolated(self, values: Tensor) -> Tensor:
        """Return values bilinearly from the coarser grid, by the kernel: they stand apart by zeros."""
        coarse = _Grid(self.height // 2 + 1, self.width // 2 + 1)
        apart = values.new_zeros(*values.shape[:2], self.height + 1, self.width + 1)
        apart[:, :, : self.height : 2, : self.width : 2] = coarse.cut(values / 4, coarse.height, coarse.width)
        return self.smeared(apart.flatten(2))


def _folded(x: Tensor, shift: int, sign: int) -> Tensor:
    """Return ``x`` under ``[1 2 1]``, or ``[1 -2 1]``, by two sums with shifted copies; zeros part rows."""
    pairs, folded = torch.empty_like(x), torch.empty_like(x)
    pairs[:shift] = x[:shift]
    torch.add(x[shift:], x[:-shift], alpha=sign, out=pairs[shift:])
    folded[-shift:] = sign * pairs[-shift:]
    torch.add(pairs[shift:], pairs[:-shift], alpha=sign, out=folded[:-shift])
    return folded


def _grids(height: int, width: int) -> list[_Grid]:
    """Return grids from one that holds the image to one of ``DIRECTLY_SOLVED`` nodes, if halving can."""
    halvings, rows, columns = 0, height - 1, width - 1
    while (rows + 1) * (columns + 1) > DIRECTLY_SOLVED:
        halvings, rows, columns = halvings + 1, (rows + 1) // 2, (columns + 1) // 2
    return [_Grid(rows * 2**k + 1, columns * 2**k + 1) for k in range(halvings, -1, -1)]


# Equations. Twelve times the published ones, so that weights are small whole numbers: rounded weights would
# not sum to exactly nothing, and a hole of half the image amplifies that ten thousand times.
OFFSETS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))
CENTRE = OFFSETS.index((0, 0))


@dataclass(frozen=True)
class _Equations:
    """A symmetric system that couples each node with its eight neighbours."""

    grid: _Grid
    coefficients: Tensor  # (B, 9, L), by the offsets of the neighbours
    unknown: Tensor  # (B, 1, L), 1 at the nodes that are solved for, else 0
    relaxation: Tensor  # (B, 1, L), what a step of Jacobi's method multiplies residuals by

    def times(self, values: Tensor) -> Tensor:
        """Return the left-hand side, ``(B, C, L)``."""
        margin = self.grid.width + 2
        around = pad(values.reshape(-1), (margin, margin))
        total = torch.zeros_like(values)
        for k, (down, right) in enumerate(OFFSETS):
            start = margin + down * (self.grid.width + 1) + right
            shifted = around[start : start + values.numel()].view_as(values)
            total.addcmul_(self.coefficients[:, k, None], shifted)
        return total

    def coarser(self, grid: _Grid) -> _Equations:
        """Return the same system for corrections that are interpolated from the coarser grid, ``Pᵀ·A·P``."""
        nodes = self.grid.cut(self.coefficients, self.grid.height, self.grid.width)
        nodes = nodes * self.coupled().to(nodes.dtype)[..., None]
        coefficients = grid.flat(conv2d(nodes, _galerkin(nodes), stride=2, padding=1))
        diagonal = coefficients[:, CENTRE, None]
        # 8/9 halves the range of the eigenvalues that belong to this grid, about 3/4 to 3/2, around 1.
        relaxation = torch.where(diagonal > 0, 8 / 9 / diagonal, 0)
        return _Equations(grid, coefficients, (diagonal > 0).to(diagonal.dtype), relaxation)

    def coupled(self) -> Tensor:
        """Return whether a row's equations need a coarser grid, ``(B, 1, 1)``; else Jacobi steps do."""
        # Kept pixels are near if they take much of every equation's weight: a step leaves 1 − that share.
        share, whole = self.coefficients.sum(1), self.coefficients[:, CENTRE]
        return (share < NEAR * whole).any(1).view(-1, 1, 1)

    def factor(self) -> Tensor:
        """Return Cholesky's factor of the dense matrix, ``(B, L, L)``."""
        coefficients, size = self.coefficients, self.coefficients.shape[2]
        # Nodes around a lone removed pixel all correct the same: a trace on the diagonal keeps them apart.
        dense = torch.diag_embed(1 - self.unknown[:, 0] + 1e-4 * coefficients[:, CENTRE])
        for k, (down, right) in enumerate(OFFSETS):
            shift = down * (self.grid.width + 1) + right
            if abs(shift) < size:
                within = coefficients[:, k, max(-shift, 0) : size - max(shift, 0)]
                dense.diagonal(shift, 1, 2).add_(within)
        return cast("Tensor", torch.linalg.cholesky(dense))


class _PixelEquations(_Equations):
    """The removed pixels': the weights at each, less its neighbours that are removed as well."""

    @classmethod
    def of(cls, removed: Tensor, grid: _Grid) -> _PixelEquations:
        """Return the system of ``(B, 1, H, W)``, 1 where a pixel is removed, else 0."""
        unknown, inside = grid.flat(removed), grid.flat(torch.ones_like(removed[:1]))
        weights = grid.smeared(inside) - 4 * inside
        nodes = grid.cut(unknown, grid.height, grid.width)
        around = pad(nodes, (1, 1, 1, 1))
        coefficients = [
            nodes * around[..., 1 + i : 1 + i + grid.height, 1 + j : 1 + j + grid.width] * -weight
            for (i, j), weight in zip(OFFSETS, (1, 2, 1, 2, 0, 2, 1, 2, 1), strict=True)
        ]
        flat = grid.flat(torch.cat(coefficients, 1))
        flat[:, CENTRE] = (unknown * weights)[:, 0]
        # Undamped: the eigenvalues that belong to this grid, 2/3 to 4/3, lie around 1 already.
        return cls(grid, flat, unknown, torch.where(unknown > 0, unknown / weights, 0))

    def times(self, values: Tensor) -> Tensor:
        # By second differences, [1 2 1] = 4 + [1 -2 1]: their rounding is that of differences between
        # neighbours, not of values, and large holes amplify it. Fewer passes than the general form, too.
        x = values.reshape(-1)
        down = _folded(x, self.grid.width + 1, -1)
        bent = _folded(torch.add(down, x, alpha=4), 1, -1).add_(down, alpha=4).view_as(values)
        beyond = self.coefficients[:, CENTRE, None] - 12 * self.unknown  # what the border lacks
        return torch.mul(beyond, values).addcmul_(self.unknown, bent, value=-1)


def _galerkin(like: Tensor) -> Tensor:
    """Return the kernel ``(9, 9, 3, 3)`` that makes a finer grid's coefficients the coarser one's.

    A coarse node is coupled with the one at ``D`` by all fine couplings from ``i`` to ``i + d``, each times
    the weights that ``i`` and ``i + d`` take from the one and from the other.
    """
    offsets = torch.tensor(OFFSETS, dtype=like.dtype, device=like.device)

    def weight(places: Tensor) -> Tensor:
        return (1 - places.abs() / 2).clamp(min=0).prod(-1)

    coarse, coupled, fine = offsets[:, None, None], offsets[:, None], offsets
    return (weight(fine) * weight(fine + coupled - 2 * coarse)).view(9, 9, 3, 3)


def _cycle(levels: list[_Equations], factor: Tensor | None, right: Tensor) -> Tensor:
    """Return about the solution of a right-hand side: a Jacobi step, coarser grids' correction, a step."""
    here = levels[0]
    if len(levels) == 1 and factor is not None:
        return torch.cholesky_solve((here.unknown * right).mT, factor).mT.contiguous()
    solution = here.relaxation * right
    if len(levels) > 1:
        rest = here.grid.restricted(right - here.times(solution))
        solution += here.unknown * here.grid.interpolated(_cycle(levels[1:], factor, rest))
    return solution.addcmul_(here.relaxation, right - here.times(solution))


def _solved(equations: _Equations, right: Tensor, grids: list[_Grid]) -> Tensor:
    """Return the solution, each row to its own end, by conjugate gradients with a multigrid cycle.

    The cycle nearly inverts the system, so what it makes of a residual is nearly the error itself: a row is
    done when that is small everywhere, and takes it as its last step.
    """
    tolerance = 1e-10 if right.dtype == torch.float64 else 2e-5
    levels = [equations]
    for grid in grids[1:]:
        if not bool(levels[-1].coupled().any()):
            break
        levels.append(levels[-1].coarser(grid))
    factor = levels[-1].factor() if len(levels) == len(grids) else None
    solution, direction, residual = torch.zeros_like(right), torch.zeros_like(right), right.clone()
    before = right.new_ones(len(right), 1, 1)
    going = before > 0
    for _ in range(MAX_CYCLES):
        error = _cycle(levels, factor, residual)
        ending = going & (error.abs().amax((1, 2), keepdim=True) <= tolerance)
        if bool(ending.any()):
            solution += error.where(ending, 0)
            going = going & ~ending
            if not bool(going.any()):
                break
        product = (residual * error).sum((1, 2), keepdim=True)
        direction = torch.addcmul(error, direction, (product / before).where(going, 0))
        image = levels[0].times(direction)
        step = (product / (direction * image).sum((1, 2), keepdim=True)).where(going, 0)
        solution.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        before = product
    else:
        raise InputError(f"imputation did not converge in {MAX_CYCLES} cycles; please report the mask")
    return solution
