"""The layer that Grad-CAM takes: found on the way from the images to the score, or named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from distillgrad.errors import ModelError
from distillgrad.methods.gradcam_cuts import way_back
from distillgrad.methods.gradcam_pass import Edge, Made, WatchedPass
from distillgrad.methods.image_axes import Layout, folded, layout_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Maps:
    """Feature maps of a pass, named ``"layer4.1"``, ``"input of norm"`` or ``"relu() in head"``."""

    name: str
    edge: Edge
    made: Made
    layout: Layout
    values: Tensor

    def as_maps(self) -> Tensor:
        """Return the values as maps ``(N, K, h, w)``.

        Raises:
            ModelError: they were overwritten later in the pass, unseen.
        """
        if self.values._version != self.made.version:
            raise ModelError(
                f"the maps of {self.name} are overwritten later in the call; name another layer: layer="
            )
        return self.folded(self.values)

    def folded(self, values: Tensor) -> Tensor:
        """Return maps ``(N, K, h, w)`` of values that lie as these do."""
        return folded(values, self.made.axes, self.layout)

    def gradient(self, score: Tensor) -> Tensor | None:
        """Return the gradient of scores ``(N,)`` by the maps, ``(N, K, h, w)``; ``None`` without a way."""
        (gradient,) = torch.autograd.grad(
            score,
            GradientEdge(*self.edge),
            torch.ones_like(score),
            retain_graph=True,
            allow_unused=True,
        )
        return None if gradient is None else self.folded(gradient)


def last_maps(watched: WatchedPass, score: Tensor) -> tuple[Maps, Tensor]:
    """Return the last maps that all of the score's gradient passes before their grid is pooled, and that.

    Where a head reads only the class token, the last at which the patches' tokens have a gradient.

    Raises:
        ModelError: there are none, or the maps may be lost in a function without a rule.
    """
    last: Maps | None = None
    for maps in _maps_all_pass(watched, score):
        gradient = maps.gradient(score)
        if gradient is not None and (not maps.layout.has_others or bool(gradient.any())):
            return maps, gradient
        last = last or maps
    if last is not None:
        raise ModelError(
            f"the patch tokens have no gradient in any layer, back from {last.name}: the score does not "
            "change with them; name a layer with maps that it changes with: layer="
        )
    raise ModelError(
        "Grad-CAM found no feature maps that all of the score's gradient passes through: the ways from the "
        "image to the score part before its grid is pooled, or the model has no grid; name a layer with "
        "maps of one of the ways: layer="
    )


def _maps_all_pass(watched: WatchedPass, score: Tensor) -> Iterator[Maps]:
    """Yield the maps that are cuts, from the last to the first; of the same values in other shapes one."""
    assert score.grad_fn is not None  # noqa: S101  # it is differentiable
    last: Maps | None = None
    for node, n in way_back(score.grad_fn, watched.entry[0]):
        if last is None:
            _expect_followed(watched, node)
        made = watched.made.get((node, n)) if n is not None else None
        layout = layout_of(made.axes) if made else None
        if n is None or made is None or layout is None or layout.grid == (1, 1):
            continue
        maps = _maps(watched, (node, n), made, layout)
        if last is None or not _same_values(last, maps):
            if last is not None:
                yield last
            last = maps
        elif _depth(watched, maps) <= _depth(watched, last):
            last = maps
    if last is not None:
        yield last


def _depth(watched: WatchedPass, maps: Maps) -> float:
    """Return how deep within the model the module is that puts maps out; infinity without one."""
    return maps.name.count(".") if maps.edge in watched.leaving else math.inf


def _expect_followed(watched: WatchedPass, node: Node) -> None:
    """Check that no grid went where it cannot be followed between the score and the last maps.

    Raises:
        ModelError: it did; names the function.
    """
    for made in watched.of_node(node):
        if made.lost:
            raise ModelError(
                f"Grad-CAM cannot follow the image's grid through {made.lost}() in "
                f"{made.within or 'the model'}, and maps may come after it; name the layer: layer="
            )


def _same_values(one: Maps, other: Maps) -> bool:
    """Return whether these are views of the same maps: in other shapes, or with tokens that are no place."""
    maps, others = one.folded(one.values), other.folded(other.values)
    same_place = maps.data_ptr() == others.data_ptr() and maps.stride() == others.stride()
    return same_place and maps.shape == others.shape


def named_maps(watched: WatchedPass, name: str) -> Maps:
    """Return the maps that a module puts out, in its last call.

    Raises:
        ModelError: it has no call, no output that depends on the images, or none that is maps.
    """
    calls = watched.outputs.get(name)
    if not calls:
        raise ModelError(f"layer {name!r} takes no part in the call; name another: layer=")
    if not calls[-1]:
        raise ModelError(f"layer {name!r} gives no tensor that depends on the images; name another: layer=")
    outputs = [(edge, made, layout_of(made.axes)) for edge in calls[-1] for made in [watched.made[edge]]]
    several = [(edge, made, layout) for edge, made, layout in outputs if layout is not None]
    if len(several) > 1:
        shapes = ", ".join(str(made.shape) for _, made, _ in several)
        raise ModelError(
            f"layer {name!r} gives {len(several)} feature maps, {shapes}; name a layer with one: layer="
        )
    if not several:
        made = outputs[0][1]
        lost = f" (it cannot be followed through {made.lost}())" if made.lost else ""
        raise ModelError(
            f"layer {name!r} gives shape {made.shape}, in which no grid of the image's places was found"
            f"{lost}; Grad-CAM needs maps (N, K, h, w) or (N, h, w, K), or tokens (N, T, K) of a grid: name "
            "another layer="
        )
    ((edge, made, layout),) = several
    return replace(_maps(watched, edge, made, layout), name=name)


def _maps(watched: WatchedPass, edge: Edge, made: Made, layout: Layout) -> Maps:
    assert made.values is not None  # noqa: S101  # whatever has a layout has been kept
    return Maps(_name(watched, edge, made), edge, made, layout, made.values)


def _name(watched: WatchedPass, edge: Edge, made: Made) -> str:
    """Return the module that a tensor is the output of, or the input, or the function that it comes from.

    Of modules within each other that have the same output the outer, if it is no mere sequence.
    """
    modules = [name for name in watched.leaving.get(edge, ()) if name]
    if modules:
        around = [
            name
            for name in modules
            if modules[0].startswith(f"{name}.")
            and not isinstance(watched.network.get_submodule(name), CONTAINERS)
        ]
        return around[-1] if around else modules[0]
    following = [name for name in watched.entering.get(edge, ()) if name]
    if following:
        return f"input of {following[0]}"
    return f"{made.function}() in {made.within or 'the model'}"
