"""Figure 3: the attributions of IG and FullGrad in a ReLU network of two inputs, and DGA's anchors there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from distillgrad.methods.dga import DistilledGradientAggregation
from distillgrad.methods.fullgrad import UniformFullGrad
from distillgrad.methods.integrated_gradients import IntegratedGradients
from distillgrad.paper.claims import finding
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.piecewise import Region, linear_regions, network, patterns
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import Verdict
from distillgrad.views.figures.explanation_figures import save_figure
from distillgrad.views.figures.leaderboard_figures import COLOURS, labelled, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HALF = 3.0
SEGMENTS = {"A": ((0.1, 0.2), (0.5, 0.2)), "B": ((2.0, 1.0), (2.8, 1.0))}
"""Ends a and b, each pair within one linear region; only x₁ moves. A's region is the origin's."""
N_POINTS = 21
QUADRATURE = 400
EPSILON = 1e-6


def segment(name: str) -> Tensor:
    """Return points from a to b, ``(N, 2)``."""
    start, end = (torch.tensor(each, dtype=torch.float64, device="cpu") for each in SEGMENTS[name])
    return start + torch.linspace(0, 1, N_POINTS, dtype=torch.float64, device="cpu")[:, None] * (end - start)


@cache
def along(name: str) -> dict[str, Tensor]:
    """Return attributions ``(N, 2)`` of a segment's points by IG and by FullGrad with the uniform Ψ."""
    points, model = segment(name), network()
    return {
        "IG": IntegratedGradients(model, QUADRATURE, "riemann_middle").attribute(points, 0),
        "FG": UniformFullGrad(model).attribute(points, 0),
    }


def ranges(name: str) -> dict[str, list[float]]:
    """Return, by method, the changes of the attributions of x₁ and of x₂ along a segment."""
    return {method: (values.amax(0) - values.amin(0)).tolist() for method, values in along(name).items()}


def crossed(end: Tensor, n_points: int = 4001) -> int:
    """Return the number of linear regions on the straight path from the origin to ``end``."""
    shares = torch.linspace(0, 1, n_points, dtype=torch.float64, device="cpu")[1:-1]
    return len({tuple(row) for row in patterns(shares[:, None] * end).tolist()})


def across_a_kink() -> tuple[Tensor, Tensor]:
    """Return two points some ``EPSILON`` apart, of one output, on both sides of the first unit's kink."""
    model, kink = network(), torch.tensor([0.75, 0.5], dtype=torch.float64, device="cpu")  # x₁ + x₂/2 = 1
    normal = torch.tensor([1.0, 0.5], dtype=torch.float64, device="cpu")
    sides = []
    for sign in (-1, 1):
        inside = (kink + sign * 1e-3 * normal)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(model(inside).sum(), inside)
        level = torch.stack([-gradient[0, 1], gradient[0, 0]])
        level = level / level.norm()
        towards = 1.0 if float(level @ normal) * sign > 0 else -1.0
        sides.append(kink + EPSILON * towards * level)
    return sides[0], sides[1]


def make(setting: Setting) -> Exhibit:
    """Compute and draw; needs neither data nor a model. Cost: a few seconds."""
    regions = linear_regions(HALF)
    steps = DistilledGradientAggregation(network(), 10).distill(segment("B")[-1:], 0)
    anchors = steps.anchors[:, 0]
    visited = len({tuple(row) for row in patterns(anchors).tolist()})
    save_figure(_figure(regions, anchors), setting.folder("figure-3") / "figure.png")
    moved = {name: ranges(name) for name in SEGMENTS}
    verdicts = (_kink(), _region_a(moved), _region_b(moved), _paths())
    rows = tuple(
        (name, method, *(f"{each:.4f}" for each in changes))
        for name, by_method in moved.items()
        for method, changes in by_method.items()
    )
    findings = [finding(each) for each in verdicts]
    findings.append(
        f"DGA's {len(anchors)} anchors from b of B lie in {visited} linear regions, of "
        f"{len(regions)} in the square."
    )
    return Exhibit(
        *EXHIBITS["figure-3"].heading,
        tuple(findings),
        verdicts,
        (
            Table(
                "How much attributions change from a to b, along which only x₁ moves.",
                ("region", "method", "x₁", "x₂"),
                rows,
            ),
        ),
        (
            Picture(
                "figure.png",
                "Logits, linear regions, segments with IG's paths and DGA's anchors, attributions.",
            ),
        ),
        {"changes": moved, "n_regions": len(regions), "anchors": anchors.tolist(), "visited": visited},
    )


def _kink() -> Verdict:
    pair = torch.stack(across_a_kink())
    model = network()
    with torch.no_grad():
        outputs = model(pair).flatten()
    apart = float((pair[0] - pair[1]).norm())
    change = {
        "FG": UniformFullGrad(model).attribute(pair, 0),
        "IG": IntegratedGradients(model, QUADRATURE, "riemann_middle").attribute(pair, 0),
        "DGA": DistilledGradientAggregation(model).attribute(pair, 0),
    }
    jumps = {name: float((values[0] - values[1]).abs().max()) for name, values in change.items()}
    same_output = abs(float(outputs[0] - outputs[1])) < 1e-12
    holds = same_output and jumps["FG"] > 1000 * apart
    return Verdict(
        "kink",
        "holds" if holds else "does not hold",
        f"{apart:.1e} apart, outputs {abs(float(outputs[0] - outputs[1])):.0e} apart; attributions change by "
        + ", ".join(f"{name} {jump:.2g}" for name, jump in jumps.items()),
        "a deterministic example; DGA begins with a local attribution, too, and "
        + ("jumps as well" if jumps["DGA"] > 1000 * apart else "does not jump here"),
    )


def _region_a(moved: dict[str, dict[str, list[float]]]) -> Verdict:
    both = along("A")
    apart = float((both["IG"] - both["FG"]).abs().max())
    still = max(moved["A"][method][1] for method in ("IG", "FG"))
    return Verdict(
        "region-a",
        "holds" if max(apart, still) < 1e-6 else "does not hold",
        f"IG and FG differ by at most {apart:.0e}; the attribution of x₂ changes by at most {still:.0e}",
        "to the rounding of IG's weights; here f(0) = 0: a bias in this region would set them apart",
    )


def _region_b(moved: dict[str, dict[str, list[float]]]) -> Verdict:
    ig, fg = moved["B"]["IG"][1], moved["B"]["FG"][1]
    return Verdict(
        "region-b",
        "holds" if ig > 1e-2 and fg < 1e-9 else "does not hold",
        f"the attribution of x₂ changes by {ig:.3f} with IG, by {fg:.0e} with FG",
        "IG's path crosses other regions for other lengths",
    )


def _paths() -> Verdict:
    counts = {name: [crossed(point) for point in segment(name)[[0, -1]]] for name in SEGMENTS}
    holds = max(counts["A"]) == 1 and min(counts["B"]) > 1
    words = ", ".join(f"to a and b of {name}: {first} and {last}" for name, (first, last) in counts.items())
    return Verdict(
        "paths",
        "holds" if holds else "does not hold",
        f"regions crossed {words}",
        "counted by activation pattern",
    )


def _figure(regions: list[Region], anchors: Tensor) -> Figure:
    figure = Figure(figsize=(13.5, 8), layout="constrained", dpi=110)
    axes = figure.subplots(2, 3)
    ticks = torch.linspace(-HALF, HALF, 201, dtype=torch.float64, device="cpu")
    grid = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        logits = network()(grid).view(201, 201).T
    filled = axes[0, 0].contourf(ticks, ticks, logits, 24, cmap="viridis")
    figure.colorbar(filled, ax=axes[0, 0])
    for axis, alpha in ((axes[0, 1], 1.0), (axes[0, 2], 0.35)):
        for place, region in enumerate(regions):
            axis.fill(*region.corners.T, color=f"C{place % 10}", alpha=alpha * (0.5 + 0.05 * (place // 10)))
    points = {name: segment(name) for name in SEGMENTS}
    for colour, (name, line) in zip(COLOURS[1:], points.items(), strict=False):
        axes[0, 2].plot(*line[[0, -1]].T, color=colour, linewidth=3, label=f"{name}, a to b")
        for end in line[[0, -1]]:
            axes[0, 2].plot([0, end[0]], [0, end[1]], "--", color=colour, linewidth=1)
    axes[0, 2].plot(*anchors.T, "o-", color=COLOURS[0], markersize=4, linewidth=0.8, label="DGA's anchors")
    axes[0, 2].plot(0, 0, "k+", label="baseline")
    axes[0, 2].legend(fontsize=7)
    titles = ("(a) logit", f"(b) {len(regions)} linear regions", "(c) segments, IG's paths, anchors")
    for axis, title in zip(axes[0], titles, strict=True):
        labelled(axis, title, "x₁", "x₂")
        axis.set_aspect("equal")
    for axis, name in zip(axes[1], points, strict=False):
        _attributions(axis, name, points[name])
    axes[1, 2].axis("off")
    legend(figure, axes[1, 0], 4)
    return figure


def _attributions(axis: Axes, name: str, points: Tensor) -> None:
    for method, form in (("IG", "-"), ("FG", "--")):
        values = along(name)[method]
        for feature, colour in zip((0, 1), COLOURS[:2], strict=True):
            label = f"{method}, x{'₁₂'[feature]}"
            axis.plot(points[:, 0], np.asarray(values[:, feature]), form, color=colour, label=label)
    labelled(axis, f"(d) region {name}", "x₁", "attribution")
