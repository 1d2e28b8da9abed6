"""The exhibits by name. Needs no torch: the modules that make them are imported when they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillgrad.paper.exhibit import Exhibit, Setting


NEEDS = {
    "images": ("model", "data", "limit", "accelerate", "precision"),
    "roar data": ("roar_data", "roar_run"),
    "nothing": (),
}
"""The settings that choose what an exhibit is made from."""


@dataclass(frozen=True)
class ExhibitEntry:
    """The facts of an exhibit that are known before it is made.

    Attributes:
        source: Its place in the paper; "" for what goes beyond it.
        reads: The settings on which it depends, beside those of its needs, the seed and the device.
        needs: ``"images"`` of the data, and the model; ``"roar data"``; ``"nothing"``.
    """

    name: str
    title: str
    source: str
    reads: tuple[str, ...] = ()
    needs: str = "images"

    @property
    def heading(self) -> tuple[str, str, str]:
        """The first fields of an exhibit: its name, its title and its source."""
        return self.name, self.title, self.source

    @property
    def settings(self) -> tuple[str, ...]:
        """All settings on which it depends, beside the seed and the device."""
        return (*NEEDS[self.needs], *self.reads)

    @property
    def make(self) -> Callable[[Setting], Exhibit]:
        """The function that makes it, and writes its pictures into the setting's folder of that name."""
        module = import_module(f"distillgrad.paper.{self.name.replace('-', '_')}")
        made: Callable[[Setting], Exhibit] = module.make
        return made


EXHIBITS = {
    each.name: each
    for each in (
        ExhibitEntry(
            "table-1", "LeRF and MoRF of many methods", "Table 1, §4.1, Appendix I", ("methods", "n_steps")
        ),
        ExhibitEntry("table-2", "Sensitivity-n", "Table 2, §4.2", ("methods", "n_masks")),
        ExhibitEntry("figure-2", "Explanations under noise", "Figure 2, §3.1", ("methods", "n_steps")),
        ExhibitEntry("figure-3", "Attribution in a network of two inputs", "Figure 3, §3.1", needs="nothing"),
        ExhibitEntry(
            "figure-4", "Distillation under the weak mask, and under both", "Figure 4, §3.2", ("target",)
        ),
        ExhibitEntry("figure-5", "Remove and retrain", "Figure 5, §4.3", ("methods",), "roar data"),
        ExhibitEntry("figure-6", "Heat maps side by side", "Figure 6, §4.4", ("methods",)),
        ExhibitEntry(
            "ablation", "Masks, ReLU and anchors, one at a time", "§3.3, Appendices A and H", ("n_steps",)
        ),
        ExhibitEntry("local-attribution", "Other local attributions", "§3.2, Appendix G", ("n_steps",)),
        ExhibitEntry(
            "hyperparameters", "The number of steps and the quantile", "§4, Appendix K", ("n_steps",)
        ),
        ExhibitEntry("per-feature", "Single features removed instead of pixels", "", ("methods", "n_steps")),
    )
}
