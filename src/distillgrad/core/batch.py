"""A request to explain rows: checked once, then cut by rows."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from distillgrad.core.forward import Model, Target, accumulation_dtype, scores
from distillgrad.core.logits import Score
from distillgrad.core.row_scores import RowScore
from distillgrad.errors import InputError, TargetError

TargetLike: TypeAlias = int | Sequence[int] | Tensor | Score | None
"""A class for all samples, one for each, a score of the output, or ``None``: the predicted class."""


@dataclass(frozen=True)
class Batch:
    """The rows to explain: inputs ``(N, …)``, baselines that broadcast to them, target, further arguments."""

    inputs: Tensor
    baselines: Tensor | float
    target: Target
    extra: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, chosen: slice | Tensor) -> Batch:
        """Return the rows of a slice or of an index tensor."""
        target, extra = self.arguments(chosen)
        baselines = self._cut(self.baselines, chosen)
        return replace(self, inputs=self.inputs[chosen], baselines=baselines, target=target, extra=extra)

    def arguments(self, chosen: slice | Tensor) -> tuple[Target, tuple[Any, ...]]:
        """Return target and further arguments of the chosen rows, for inputs that are made elsewhere."""
        return self._cut(self.target, chosen), tuple(self._cut(value, chosen) for value in self.extra)

    def _cut(self, value: Any, chosen: slice | Tensor) -> Any:
        if isinstance(value, RowScore):
            return value.rows(chosen)
        per_row = isinstance(value, Tensor) and value.ndim and len(value) == len(self)
        return value[chosen] if per_row else value

    @property
    def difference(self) -> Tensor:
        """The ``x − b`` in the dtype that attributions are accumulated in: float32; float64 for float64."""
        wide = self.inputs.to(accumulation_dtype(self.inputs.dtype))
        baselines = self.baselines
        if isinstance(baselines, Tensor):
            return wide - baselines.to(wide)
        return wide - baselines if baselines else wide

    def shifted(self, kept: Tensor) -> Tensor:
        """Return ``b + kept`` in the dtype of the inputs: the anchor that keeps so much of ``x − b``."""
        baselines = self.baselines
        if isinstance(baselines, Tensor):
            return (kept + baselines.to(kept)).to(self.inputs.dtype)
        return (kept + baselines if baselines else kept).to(self.inputs.dtype)


def checked_batch(
    inputs: Tensor,
    target: TargetLike = None,
    *,
    baselines: Tensor | float = 0.0,
    additional_forward_args: Any = None,
) -> Batch:
    """Return the request of a caller as a batch, checked.

    Raises:
        InputError: inputs or baselines that are no finite floating-point tensor, empty, or of a wrong shape.
        TargetError: a target of the wrong type or length.
    """
    if not isinstance(inputs, Tensor):
        raise InputError(f"inputs must be one tensor (N, …), not a {type(inputs).__name__}")
    if not inputs.is_floating_point():
        raise InputError(
            f"inputs are {inputs.dtype}; a gradient needs floating-point numbers: "
            "convert and normalise them, for instance inputs.float() / 255"
        )
    if inputs.layout is not torch.strided or inputs.is_meta:
        kind = "on the meta device, without values" if inputs.is_meta else f"stored as {inputs.layout}"
        raise InputError(f"inputs are {kind}; give an ordinary tensor: inputs.to_dense(), or on a device")
    if inputs.ndim < 2:
        raise InputError(f"inputs must be (N, …), samples first; got shape {tuple(inputs.shape)}")
    if not inputs.numel():
        raise InputError(f"inputs are empty: shape {tuple(inputs.shape)}")
    _expect_finite("inputs", inputs)
    extra = additional_forward_args
    if not isinstance(extra, tuple):
        extra = () if extra is None else (extra,)
    with outside_inference_mode():
        return Batch(
            _ordinary(inputs).detach(),
            _ordinary(_checked_baselines(baselines, inputs)),
            _checked_target(_ordinary(target), inputs),
            tuple(map(_ordinary, extra)),
        )


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Let gradients be taken where a caller has switched even their bookkeeping off."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _ordinary(value: Any) -> Any:
    """Return the value; of a tensor made in inference mode, which can have no gradient, a copy."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def with_target(model: Model, batch: Batch) -> Batch:
    """Return the batch with its target fixed: the predicted classes, where it names none.

    For methods whose later passes see other inputs. Cost: then a forward pass, otherwise nothing.
    """
    if batch.target is not None:
        return batch
    return replace(batch, target=scores(model, batch.inputs, None, batch.extra)[1])


def samples_not_finite(values: Tensor) -> str:
    """Return the rows with NaN or infinity, as words: ``"s 3, 7"``; empty if there are none."""
    if bool(torch.isfinite(values).all()):
        return ""
    return samples_named((~torch.isfinite(values).flatten(1).all(1)).nonzero()[:, 0].tolist())


def samples_named(rows: Sequence[int]) -> str:
    """Return rows as words that follow "sample": ``"s 3, 7"``; of many the first ten."""
    numbers = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
    return f"{'s' if len(rows) > 1 else ''} {numbers}"


def _expect_finite(name: str, values: Tensor) -> None:
    samples = samples_not_finite(values)
    if samples:
        raise InputError(f"{name} contain NaN or infinity in sample{samples}; mend or leave them out")


def _checked_baselines(baselines: Tensor | float, inputs: Tensor) -> Tensor | float:
    if not isinstance(baselines, Tensor):
        try:
            value = float(baselines)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"baselines must be a number or a tensor that broadcasts to the inputs, not {baselines!r}"
            ) from error
        if not torch.isfinite(torch.tensor(value, device="cpu")):
            raise InputError(f"the baseline must be finite, not {value}")
        return value
    baselines = baselines.detach()
    if baselines.device != inputs.device:
        raise InputError(f"baselines are on {baselines.device}, inputs on {inputs.device}")
    try:
        baselines.expand(inputs.shape)
    except RuntimeError as error:
        raise InputError(
            f"baselines of shape {tuple(baselines.shape)} do not broadcast to the inputs' "
            f"{tuple(inputs.shape)}"
        ) from error
    if baselines.ndim < inputs.ndim:
        baselines = baselines.reshape((1,) * (inputs.ndim - baselines.ndim) + baselines.shape)
    _expect_finite("baselines", baselines)
    return baselines


def _checked_target(target: TargetLike, inputs: Tensor) -> Target:
    if target is None or isinstance(target, RowScore):
        return target
    if callable(target) and not isinstance(target, Tensor):
        return RowScore(target, len(inputs))
    indices: Tensor
    try:
        if isinstance(target, Tensor):
            if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
                raise TypeError(f"{target.dtype} numbers are no class numbers")
            indices = target.detach().to(inputs.device)
        elif isinstance(target, Iterable):  # a list, a tuple, a numpy array
            indices = torch.tensor([operator.index(each) for each in target], device=inputs.device)
        else:
            indices = torch.tensor(operator.index(target), device=inputs.device)
    except TypeError as error:
        raise TargetError(
            f"target must be a class number, one for each sample, or a callable: {error}"
        ) from error
    if indices.ndim == 0 or (isinstance(target, Tensor) and indices.shape == (1,)):  # as in Captum
        indices = indices.expand(len(inputs))
    if indices.shape != (len(inputs),):
        raise TargetError(
            f"target has shape {tuple(indices.shape)} for {len(inputs)} samples; "
            f"expected one class number, or ({len(inputs)},)"
        )
    return indices.to(torch.long)
