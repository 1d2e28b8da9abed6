"""What was tried before `stable_dga` was chosen: ``python benchmarks/screening.py [--again ROW …]``.

Each row of ``docs/results/variants-tried.json`` is a setting of one literal distillation. Rows of ``LEADS``
that are missing there are measured and added; ``--again`` measures rows anew and keeps how far both values
are apart. Only images that choices were made on: SqueezeNet's 0, 2, … 30, bfloat16; overlaps float32/float64
on odd ones. Rows with ``variants.FORGOTTEN`` keys were measured by a program that is not kept.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import distillgrad as dg
from distillgrad.core.forward import Model, value_and_gradient
from distillgrad.core.ranking import among_lowest, count_below
from distillgrad.methods.fullgrad import uniform_fullgrad
from distillgrad.metrics.similarity import top_overlap
from variants import N_STEPS, ROWS, classifier, images

TRIED = Path("docs/results/variants-tried.json")
CURVES = tuple(range(0, 32, 2))
OVERLAPS = (1, 3)
Setting = Mapping[str, Any]

CHOSEN = {"delay": 15, "local": "mask", "mom": "total", "pix": True, "agg": "mean of sums"}
"""`stable_dga` by default."""
LEADS: tuple[dict[str, Any], ...] = (
    CHOSEN,
    {**CHOSEN, "noise": 0.05},
    {**CHOSEN, "hysteresis": 0.05},
    {**CHOSEN, "beta to": 0.3},
    {**CHOSEN, "beta from": 0.3},
)
"""What came after it was chosen, on the first half of the images."""


def distilled(model: Model, x: Tensor, target: Tensor, setting: Setting) -> Tensor:
    """The map of a setting, of pixels or features; the baseline is 0."""
    n_steps = setting.get("N", 30)
    ranked = gathered = total = torch.zeros_like(x)
    previous: tuple[Tensor, Tensor] | None = None
    anchor, counted = x, 0.0
    for n in range(n_steps + 1):
        score, gradient, _ = value_and_gradient(model, anchor + _noise(x, setting, n), target)
        attribution = _local(score, gradient, anchor, x, setting)
        rectified = attribution.clamp(min=0) + _beta(setting, n / n_steps) * attribution.clamp(max=0)
        if setting.get("unit"):
            rectified = rectified / rectified.flatten(1).sum(1).view(-1, 1, 1, 1)
        rectified = _blurred(rectified, setting.get("aggblur"))
        weight = _weight(setting, n, n_steps)
        total, counted = total + weight * rectified, counted + weight
        if setting.get("mom") != "total":
            gathered = attribution
        else:  # what is aggregated, except that the mean of sums weighs its terms afterwards
            gathered = gathered + (1 if setting.get("agg") == "mean of sums" else weight) * rectified
        if n % setting.get("delay", 1) == 0:
            ranked = _blurred(gathered, setting.get("blur"))
        share = (n / n_steps) ** setting.get("pow", 1)
        previous = masks = _masks(ranked, share, setting, previous)
        mask = _together(*masks, share, setting)
        anchor = _blurred(mask, setting.get("mblur")) * x
    return _blurred(total / counted, setting.get("final"))


def _local(score: Tensor, gradient: Tensor, anchor: Tensor, x: Tensor, setting: Setting) -> Tensor:
    kind = setting.get("local")
    if kind == "mask":
        found = gradient * x
    elif kind == "maskb":
        bias = score - (gradient * anchor).flatten(1).sum(1)
        found = gradient * x + (bias / x[0].numel()).view(-1, 1, 1, 1)
    else:
        found = uniform_fullgrad(score, gradient, anchor)
    return found.sum(1, keepdim=True) if setting.get("pix") else found


def _together(weak: Tensor, extreme: Tensor, share: float, setting: Setting) -> Tensor:
    return weak * extreme if setting.get("mul") else share * weak + (1 - share) * extreme


def _noise(x: Tensor, setting: Setting, n: int) -> Tensor:
    """Of the anchor, as a share of the input's range; the same for all rows."""
    drawn = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(n)).to(x)
    spread = (x.flatten(1).amax(1) - x.flatten(1).amin(1)).view(-1, 1, 1, 1)
    return float(setting.get("noise", 0)) * spread * drawn


def _beta(setting: Setting, progress: float) -> float:
    return float(
        setting.get("beta", 0)
        + progress * setting.get("beta to", 0)
        + (1 - progress) * setting.get("beta from", 0)
    )


def _weight(setting: Setting, n: int, n_steps: int) -> float:
    weights = {"early": n_steps + 1 - n, "late": n + 1, "mean of sums": n_steps + 1 - n}
    return float(weights.get(setting.get("agg", ""), 1))


def _masks(
    ranked: Tensor, share: float, setting: Setting, previous: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """WC and EPC, hard, with a linear ramp over ranks, or with a margin that a feature has to cross."""
    flat = ranked.flatten(1)
    d = flat.shape[1]
    quantile = setting.get("q", 0.9)
    n_weak = int(round(share * d, 6))  # n·d/N stays whole where it is
    pairs = ((flat.abs(), n_weak, True), (flat, count_below(quantile, d), False))
    found = []
    for place, (values, count, drops) in enumerate(pairs):
        if setting.get("soft"):
            ranks = values.argsort(1).argsort(1) + 1
            above = ((ranks - count) / (setting["soft"] * d) + 0.5).clamp(0, 1)
        elif setting.get("hysteresis") and previous is not None:
            margin = int(setting["hysteresis"] * d)
            above = torch.where(
                (previous[place].flatten(1) == 1) == drops,  # it was above the threshold
                1 - among_lowest(values, max(count - margin, 0)),
                1 - among_lowest(values, min(count + margin, d)),
            )
        else:
            above = 1 - among_lowest(values, count)
        found.append((above if drops else 1 - above).view_as(ranked).to(ranked))
    return found[0], found[1]


def _blurred(maps: Tensor, sigma: float | None) -> Tensor:
    if not sigma:
        return maps
    offsets = torch.arange(-round(3 * sigma), round(3 * sigma) + 1).to(maps)
    kernel = torch.exp(-((offsets / sigma) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, -1)
    side, groups = len(offsets) // 2, maps.shape[1]
    rows = torch.nn.functional.conv2d(maps, kernel[..., None], padding=(side, 0), groups=groups)
    return torch.nn.functional.conv2d(rows, kernel[:, :, None], padding=(0, side), groups=groups)


def curves(loaded: Any, setting: Setting, numbers: tuple[int, ...]) -> dict[str, list[float]]:
    """LeRF and MoRF by image, in bfloat16."""
    found: dict[str, list[float]] = {"lerf": [], "morf": []}
    for start in range(0, len(numbers), ROWS):
        x = images(loaded, numbers[start : start + ROWS])
        with torch.no_grad():
            target = loaded.model(x).argmax(1)
        model = dg.accelerate(loaded.model, x, precision="bfloat16", channels_last=True)
        maps = distilled(model, x, target, setting).expand_as(x)
        both = dg.metrics.morf_and_lerf(model, x, target, maps, n_steps=N_STEPS)
        found["lerf"] += [round(each, 5) for each in both.lerf.auc.tolist()]
        found["morf"] += [round(each, 5) for each in both.morf.auc.tolist()]
    return found


def overlap(loaded: Any, setting: Setting, numbers: tuple[int, ...]) -> list[float]:
    """Common top 10 % of the pixels between float32 and float64, by image."""
    x = images(loaded, numbers)
    with torch.no_grad():
        target = loaded.model(x).argmax(1)
    exact = copy.deepcopy(loaded.model).double()
    first, second = (
        distilled(model, inputs, target, setting).double().sum(1)
        for model, inputs in ((loaded.model, x), (exact, x.double()))
    )
    return [round(each, 5) for each in top_overlap(first, second).tolist()]


def write(kept: list[dict[str, Any]]) -> None:
    """A row a line."""
    TRIED.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n")


def main() -> None:
    """Measure missing leads, or rows again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--again", type=int, nargs="+", default=[], help="numbers of rows")
    parser.add_argument("--images", type=int, default=len(CURVES), help="of each row that is measured again")
    arguments = parser.parse_args()
    loaded = classifier("squeezenet1_1")
    kept = json.loads(TRIED.read_text())
    for row in arguments.again:
        now = curves(loaded, kept[row]["setting"], CURVES[: arguments.images])
        before = {key: kept[row][key][: arguments.images] for key in now}
        apart = max(float(np.abs(np.subtract(now[key], before[key])).max()) for key in now)
        kept[row]["again"] = {"images": arguments.images, "apart": round(apart, 5)}
        print(row, kept[row]["setting"], kept[row]["again"], flush=True)
        write(kept)
    for setting in LEADS if not arguments.again else ():
        if not any(each["setting"] == setting for each in kept):
            measured = curves(loaded, setting, CURVES[: len(CURVES) // 2])
            kept.append({"setting": setting, **measured, "overlap": overlap(loaded, setting, OVERLAPS)})
            write(kept)


if __name__ == "__main__":
    main()
