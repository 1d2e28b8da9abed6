"""Guided back-propagation."""

from __future__ import annotations

from torch import Tensor

from distillgrad.core.batch import Batch
from distillgrad.core.observation import observed_gradient
from distillgrad.errors import ModelError
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.rectifiers import Rectifiers

MEND = (
    "It is defined for rectifiers (ReLU, ReLU6, LeakyReLU, PReLU) and would pass the plain gradient "
    "elsewhere: write a rectifier as functional.relu, or take saliency or gradient_x_input"
)


class GuidedBackprop(GradientMethod):
    """The gradient with every ReLU passing back ``σ'(x) ⊙ max(R, 0)`` of the gradient ``R`` that reaches it.

    Right for ReLUs however they are written: modules, functions, methods, in place, ``clamp(min=0)``,
    ``maximum``, ``where``, ``x * (x > 0)``, exported, checkpointed; for ReLU6, LeakyReLU and PReLU ``σ'`` is
    their slope. Gates, norms, softmax and max-pooling keep their gradient.

    Raises:
        ModelError: no ReLU lies between the image and the score; another activation does (GELU, SiLU, ELU …,
            a sigmoid or tanh that gates nothing); or the model is compiled where it cannot be seen.
    Cost: one forward and one backward pass.
    Source: Springenberg et al. 2015, "Striving for simplicity"; the baseline is not used.
    """

    signed = True
    source = "Springenberg et al. 2015"

    @property
    def _zero_means(self) -> str:
        return "nothing is left of the gradient where every ReLU passes back positive parts only"

    def _attribute(self, batch: Batch) -> Tensor:
        rectifiers = Rectifiers()
        _, gradient = observed_gradient(
            "guided back-propagation", MEND, self.forward_func, batch, rectifiers.examine
        )
        if not rectifiers.guided:
            raise ModelError(f"guided back-propagation met no ReLU between the image and the score. {MEND}")
        return gradient
