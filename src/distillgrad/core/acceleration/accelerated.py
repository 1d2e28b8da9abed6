"""A model in the form in which it is fast: its memory layout, its precision, and what was done to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.logits import logits_of
from distillgrad.errors import InputError


class Accelerated(nn.Module):
    """The model that ``dg.accelerate`` returns: called as the original is, frozen, always in eval mode.

    Attributes:
        network: The changed copy of the original, whose layers keep their names.
        applied: What was done.
        skipped: What was not, each with the reason.
    """

    def __init__(
        self,
        network: nn.Module,
        n_extra: int = 0,
        *,
        channels_last: bool = False,
        autocast: bool = False,
        applied: Iterable[str] = (),
        skipped: Iterable[str] = (),
    ) -> None:
        super().__init__()
        if channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.n_extra, self.channels_last, self.autocast = n_extra, channels_last, autocast
        self.applied, self.skipped = tuple(applied), tuple(skipped)
        super().train(False)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of ``dg.accelerate`` that make it anew."""
        return {"precision": "bfloat16" if self.autocast else "float32", "channels_last": self.channels_last}

    def train(self, mode: bool = True) -> Accelerated:
        """Stay in eval mode: what is folded cannot be trained as the original can."""
        return super().train(False)

    def forward(self, inputs: Tensor, *extra: Tensor) -> Any:
        """Return the original's output; with bfloat16 only its logits, in float32."""
        if len(extra) != self.n_extra:  # another branch of forward() may use the layers in another way
            raise InputError(
                f"the model was accelerated for {self.n_extra} further argument(s), not {len(extra)}; "
                "give accelerate an example of them: (inputs, *further tensors)"
            )
        if self.channels_last and inputs.ndim == 4:
            inputs = _as_channels_last(inputs)
        if not self.autocast:
            return self.network(inputs, *extra)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            output = self.network(inputs, *extra)
        return logits_of(output).float()


def _as_channels_last(inputs: Tensor) -> Tensor:
    """Return the same values in another layout, whose gradient comes back in the caller's."""
    if inputs.is_contiguous():
        inputs = inputs.view_as(inputs)
        if inputs.requires_grad:
            # A hook on this call's own tensor: it goes with the graph.
            inputs.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]
    return inputs.contiguous(memory_format=torch.channels_last)
