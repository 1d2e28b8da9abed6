"""The findings of trying a model, kept with it, so that each question is put once."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from distillgrad.core.forward import Model
from distillgrad.core.wrappers import unwrapped_or_none

THRIFT = 30
"""All tries together may take one pass in so many that were asked for."""

Question: TypeAlias = Literal["again", "beside", "gradient"]
"""The questions: is a row's answer the same again, the same beside another row, and its gradient there?"""


@dataclass
class Findings:
    """The findings of trying a model.

    Attributes:
        apart: By question, how far the row's two logits or gradients were from each other, relatively.
        excused: The questions whose answers differ by no more than rounding explains.
        draws: Whether random numbers were drawn when it was asked twice.
        writes: What it wrote on itself when it was asked again; empty for nothing.
        keeps_nothing: Whether a whole call was found to leave nothing on which later answers depend.
        untriable: Why it cannot be tried, such as that it does not take one row; empty if it can.
        mixing: Whether a batch norm has only the batch to take its statistics from.
        asked: The passes that were asked for, in forward passes of a row.
        spent: Those that tries took.
    """

    apart: dict[Question, float] = field(default_factory=dict)
    excused: set[Question] = field(default_factory=set)
    draws: bool = False
    writes: str = ""
    keeps_nothing: bool = False
    untriable: str = ""
    mixing: bool = False
    asked: float = 0.0
    spent: float = 0.0

    def affords(self, cost: float) -> bool:
        """Return whether all tries together, with one that costs so much, stay below their share."""
        return self.asked >= THRIFT * (self.spent + cost)


Kind: TypeAlias = tuple[torch.dtype, str]
"""The type of a model's inputs and that of their device, which decide how it computes."""

_known: weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], dict[Kind, Findings]]] = (
    weakref.WeakKeyDictionary()
)
"""The modules that each model consisted of, and what was found of it."""


def findings_of(model: Model, inputs: Tensor) -> Findings | None:
    """Return what is known of a model on such inputs, to be added to.

    ``None`` where part of it is compiled, scripted or wrapped: what tries other numbers of rows may compile
    it anew. A model with other modules is another one.
    """
    if isinstance(model, nn.Module) and unwrapped_or_none(model) is not model:
        return None
    parts = tuple(map(id, model.modules())) if isinstance(model, nn.Module) else ()
    try:
        known = _known.get(model)
        if known is None or known[0] != parts:
            known = _known[model] = parts, {}
    except TypeError:  # a callable that cannot be referred to weakly, such as a built-in one
        known = parts, {}
    kind = inputs.dtype, inputs.device.type
    if kind not in known[1]:
        known[1][kind] = Findings(mixing=_normalises_by_the_batch(model))
    return known[1][kind]


def _normalises_by_the_batch(model: Model) -> bool:
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return any(
        isinstance(each, nn.modules.batchnorm._BatchNorm) and each.running_mean is None for each in modules
    )
