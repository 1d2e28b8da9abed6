"""LIME: a sparse linear model of the score around the input, by Captum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import captum.attr
import torch
from captum._utils.models.linear_model import SkLearnLasso
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, scores
from distillgrad.core.optional import optional
from distillgrad.errors import ParameterError
from distillgrad.methods.base import Method, whole_number
from distillgrad.methods.captum_call import on_the_cpu_by_default

MOST_PARTS = 10_000
"""Captum warns of slow fits above."""


class Lime(Method):
    """The weights of a sparse linear model of the score, fitted around the input.

    The input's parts, a grid of square patches of an image with all their channels, or otherwise its
    single features, are switched off at random; a Lasso predicts the score from what is on, near samples
    counting more (cosine distance, an exponential kernel). A part's weight is what it adds to the score.
    Every row sees the same samples, whatever its place in the batch; the caller's random numbers are left
    alone.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_samples: How many samples are drawn, at least 1; better several times the number of parts.
        cells: Patches along each side, at most 100; at most as many as pixels are used.
        seed: Of the samples.
        alpha: The Lasso's penalty, in units of the score: weights below some 4·alpha become 0.
    Raises:
        ParameterError: a parameter outside its range.
        MissingExtraError: scikit-learn is not installed.
    Cost: ``n_samples`` forward passes, and one for the prediction. Samples of a row are evaluated as many
        at once as the batch has rows.
    Source: Ribeiro et al. 2016, Captum's ``Lime``, which fits in float32. Departure: patches of pixels,
        not superpixels.
    """

    signed = True
    cost = "n_samples forward passes (200)"
    source = "Ribeiro et al. 2016"

    def __init__(
        self, model: Model, n_samples: int = 200, cells: int = 8, seed: int = 0, alpha: float = 0.01
    ) -> None:
        super().__init__(model)
        self.n_samples = whole_number("n_samples", n_samples)
        self.cells = whole_number("cells", cells)
        if cells**2 > MOST_PARTS:
            raise ParameterError(f"cells must be at most {math.isqrt(MOST_PARTS)}, not {cells}")
        self.seed = whole_number("seed", seed, least=0)
        if not 0 < alpha < math.inf:
            raise ParameterError(f"alpha must be finite and above 0, not {alpha}")
        self.alpha = alpha

    @property
    def n_passes(self) -> int:
        """One pass for each sample, and one for the prediction, where no target is given."""
        return self.n_samples + 1

    @property
    def _thread_safe(self) -> bool:
        return False  # Captum draws from torch's one generator

    def _attribute(self, batch: Batch) -> Tensor:
        optional("sklearn.linear_model", "regions", "scikit-learn")
        batch = with_target(self.forward_func, batch)
        return torch.cat([self._row(batch, row) for row in range(len(batch))])

    @property
    def _zero_means(self) -> str:
        return f"no part has a weight that the Lasso's penalty leaves it (alpha={self.alpha})"

    def _row(self, batch: Batch, row: int) -> Tensor:
        alone = batch.rows(slice(row, row + 1))
        copies = batch.rows(torch.full((len(batch),), row, device=batch.inputs.device))
        parts = patches(alone.inputs.shape, self.cells).to(alone.inputs.device)

        def score(inputs: Tensor) -> Tensor:
            at = copies.rows(slice(len(inputs)))
            return scores(self.forward_func, inputs, at.target, at.extra)[0]

        def samples(inputs: Tensor, num_interp_features: int, **_: Any) -> Iterator[Tensor]:
            drawn = torch.Generator().manual_seed(self.seed)
            while True:
                on = torch.full((1, num_interp_features), 0.5, device="cpu").bernoulli(generator=drawn)
                yield on.long().to(inputs.device)

        # Captum's data loader draws a seed from the global generator.
        with torch.random.fork_rng(devices=[]), on_the_cpu_by_default(score) as scored:
            lime = captum.attr.Lime(scored, _Lasso(alpha=self.alpha, max_iter=20_000), perturb_func=samples)
            weights = lime.attribute(
                alone.inputs,
                baselines=alone.baselines,
                feature_mask=parts,
                n_samples=self.n_samples,
                perturbations_per_eval=len(batch),
                return_input_shape=False,
            )
        attributions: Tensor = weights.flatten().to(parts.device)[parts].expand_as(alone.inputs)
        return attributions


def patches(shape: tuple[int, ...], cells: int) -> Tensor:
    """Return the part each feature belongs to, numbered from 0, for inputs ``(N, …)`` of this shape.

    An image's is ``(1, 1, H, W)``; of anything else each feature is its own part, unless there are more
    than ``MOST_PARTS``: then neighbours share one.
    """
    if len(shape) != 4:
        n_features = math.prod(shape[1:])
        return (torch.arange(n_features, device="cpu") * min(MOST_PARTS, n_features) // n_features).view(
            1, *shape[1:]
        )
    y, x = (torch.arange(side, device="cpu") * min(cells, side) // side for side in shape[2:])
    return (y[:, None] * (x[-1] + 1) + x)[None, None]


class _Lasso(SkLearnLasso):  # type: ignore[misc]  # Captum is untyped
    """A Lasso of scikit-learn; of scores that are not finite, which it refuses, it makes weights of NaN."""

    def fit(self, train_data: Any, **keywords: Any) -> Any:
        parts, outputs, _ = train_data.dataset.tensors
        if torch.isfinite(outputs).all():
            return super().fit(train_data, **keywords)
        self._construct_model_params(weight_values=torch.full((1, parts.shape[1]), torch.nan, device="cpu"))
        return {}
