"""Gradients averaged over noisy copies of the input: SmoothGrad, its square and VarGrad."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.batch import Batch, with_target
from distillgrad.core.forward import Model, accumulation_dtype, value_and_gradient
from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod, whole_number

Kind: TypeAlias = Literal["smoothgrad", "smoothgrad_squared", "vargrad"]
KINDS = ("smoothgrad", "smoothgrad_squared", "vargrad")


class SmoothGrad(GradientMethod):
    """The mean of the gradient ``∇f(x + σ·z)`` over Gaussian noise ``z``, ``σ = noise·(max x − min x)``.

    Signed, in logits per unit of input; not multiplied by the input. For a linear model exactly the
    gradient. The target is that of the input without noise. Copy ``s`` has the noise that
    ``(seed, s)`` gives for the shape of one row, shared by the rows and scaled to each, so a row's result
    does not depend on its batch.

    Args:
        model: See :class:`~distillgrad.methods.base.Method`.
        n_samples: Noisy copies of each row, at least 1.
        noise: σ as a fraction of the row's own range.
        seed: Of the noise, which is the same on every device and in every precision.
        kind: ``"smoothgrad"``; ``"smoothgrad_squared"``: the mean of the squared gradient, and
            ``"vargrad"``: its variance about the mean; neither has a sign.

    Raises:
        ParameterError: a parameter outside its range.
    Cost: n_samples forward and backward passes, and a forward pass where the target is the prediction;
        the memory of one pass, whatever n_samples.
    Source: Smilkov et al. 2017, "SmoothGrad"; squared: Hooker et al. 2019; the baseline is not used.
    """

    signed = True
    cost = "n_samples gradient passes (50)"
    source = "Smilkov et al. 2017"

    def __init__(
        self,
        model: Model,
        n_samples: int = 50,
        noise: float = 0.15,
        seed: int = 0,
        kind: Kind = "smoothgrad",
    ) -> None:
        super().__init__(model)
        if not 0 <= noise < math.inf:
            raise ParameterError(f"noise must be finite and ≥ 0, not {noise}")
        if kind not in KINDS:
            raise UnknownNameError("kind", str(kind), KINDS)
        self.n_samples = whole_number("n_samples", n_samples)
        self.noise = noise
        self.seed = whole_number("seed", seed, least=0)
        self.kind = kind

    @property
    def n_passes(self) -> int:
        """One pass for each noisy copy."""
        return self.n_samples

    @property
    def _zero_means(self) -> str:
        if self.kind == "vargrad":
            settings = f"n_samples={self.n_samples}, noise={self.noise}"
            return f"the gradient is the same at all noisy copies ({settings})"
        return "the gradients at the noisy copies come to zero"

    def _attribute(self, batch: Batch) -> Tensor:
        model = self.forward_func
        batch = with_target(model, batch)
        inputs = batch.inputs.to(accumulation_dtype(batch.inputs.dtype))
        low, high = inputs.flatten(1).aminmax(dim=1)
        deviation = (self.noise * (high - low)).view(-1, *(1,) * (inputs.ndim - 1))
        generator = torch.Generator().manual_seed(self.seed)
        mean, spread = torch.zeros_like(inputs), torch.zeros_like(inputs)
        for n in range(1, self.n_samples + 1):
            noise = torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
            noisy = noise.to(inputs.dtype).to(inputs.device) * deviation + inputs
            _, gradient, _ = value_and_gradient(
                model, noisy.to(batch.inputs.dtype), batch.target, batch.extra
            )
            gradient = gradient.to(inputs)
            if self.kind == "smoothgrad_squared":
                gradient = gradient.square()
            change = gradient - mean
            mean.add_(change, alpha=1 / n)
            if self.kind == "vargrad":  # Welford's sum: no difference of two large numbers
                spread.addcmul_(change, gradient - mean)
        return spread.div_(self.n_samples) if self.kind == "vargrad" else mean


class VarGrad(SmoothGrad):
    """The variance of the gradient over noisy copies of the input: SmoothGrad's noise, second moment.

    Exactly 0 for a linear model. Parameters, cost and properties are those of :class:`SmoothGrad`.

    Source: Adebayo et al. 2018, "Local explanation methods for deep neural networks lack sensitivity to
        parameter values".
    """

    signed = False
    source = "Adebayo et al. 2018"

    def __init__(self, model: Model, n_samples: int = 50, noise: float = 0.15, seed: int = 0) -> None:
        super().__init__(model, n_samples, noise, seed, "vargrad")
