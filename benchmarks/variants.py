"""DGA beside `stable_dga` and DGA's successors, by image: ``python benchmarks/variants.py [--only page]``.

Values are kept in ``docs/results/variants-*.json``; what is there is not computed again. The
file ``variants-tried.json`` holds the settings that were screened before, on other images, by
``benchmarks/screening.py``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import distillgrad as dg
from distillgrad.metrics.similarity import top_overlap
from distillgrad.metrics.statistics import Interval, bootstrap_mean
from distillgrad.sources.parquet import read_cifar10

SHARED = Path(os.environ.get("DISTILLGRAD_DATA", "../shared/data"))
DATA = SHARED / "imagenet"
RESULTS = Path("docs/results")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "dga": ("dga", {}),
    "stable_dga": ("stable_dga", {}),
    "stable_dga, n_rankings=30": ("stable_dga", {"n_rankings": 30}),
    "stable_dga, n_steps=14, n_rankings=3": ("stable_dga", {"n_steps": 14, "n_rankings": 3}),
    "samp, 30 passes": ("samp", {"n_steps": 15}),
    "idgi, 31 passes": ("idgi", {"n_steps": 30}),
}
NETWORKS = ("resnet18", "squeezenet1_1", "cifar10-cnn", "cifar10-resnet20")
Curves = dict[str, dict[str, list[float]]]
"""By method and image, LeRF and MoRF."""
FIRST, ROWS, N_STEPS = 100, 8, 20
FORGOTTEN = {"soft", "unit", "blur", "aggblur", "mblur", "final"}
"""Keys of the screening's rows that no script writes as they were."""
"""The first image that no choice was made on; rows at a time; steps of the curves."""

HEAD = """# A distillation steadier than DGA

`stable_dga` ranks by the sum of all that it has gathered, ranks anew at most `n_rankings` times (2 unless
said), and returns the mean of that sum along the sequence. Values of single images lie beside this page
(`variants-*.json`); `python benchmarks/variants.py` measures what is missing and writes the page. LeRF ↑ and
MoRF ↓: 20 steps, pixels, removed ones at the mean colour; 95 % bootstrap-t intervals, differences in pairs.
Sections named bfloat16 have both maps and curves computed in that precision. The images begin with number
100 of the samples in the order of their names, or of CIFAR-10's test images; the method was chosen on
SqueezeNet's images 0 to 31 and on the bundled network's 0 to 79. SAMP is SAMP++, with momentum and the
infinitesimal constraint, in both directions; IDGI is that of the straight path. Both take about as many
passes as DGA, fewer than in their papers. Where DGA amplifies rounding is [another page](rounding.md).

**How to choose.** More rankings that are fed back make better curves and a less steady map: 2 for a map
that another precision finds again, 30 for the best curves. `n_steps=14, n_rankings=3` takes 15 passes, half
of DGA's. The weights that favour early anchors were chosen on SqueezeNet's images 0 to 23 and the bundled
network's 0 to 79: with equal weights LeRF and MoRF both are higher, so that only LeRF is better.

**Where it does not hold.** It is steady to rounding alone. Under a change that is not small, bfloat16 or one
8-bit level on every pixel, its maps agree with themselves less than DGA's on most networks:
[the table](stability.md). And on 32×32 pixels, on both CIFAR-10 networks, `stable_dga` as it is by default
has a worse MoRF than DGA and than SAMP, and is level with DGA on LeRF. There take `n_rankings=30`, or DGA.
"""
TRIED = """## Tried on SqueezeNet

The record of the screening that the method was chosen by: 16 images (0, 2, … 30), bfloat16, so that none
of these numbers is evidence for other images; the last rows, which came after it was chosen, 8 of them.
Overlap: common top 10 % of pixels between float32 and float64, the number of images in brackets (odd numbers
below 14; rows compare only roughly). `python benchmarks/screening.py` writes each setting literally; `again`
says for how many images LeRF and MoRF were measured anew by it, and how far the old values were at most from
the new. Rows with † were measured by a program that is not kept, and screening.py's form of them comes out
otherwise or was not compared: take them as hints.

`pix`: ranked and rectified by pixels; `mom total`: ranked by the sum so far; `local mask`: ∇f ⊙ (x−b) of the
anchor, `maskb` with the uniform bias; `delay`: anchors from one ranking to the next; `soft`: width of a
linear ramp over ranks in place of the threshold; `q`: EPC quantile; `blur`, `aggblur`, `mblur`, `final`: σ of
a Gaussian over the ranking, each map, the mask, the result; `agg`: weights over the anchors, `early` from
N+1 down to 1, `late` from 1 up to N+1, both in the ranked sum, too, `mean of sums` as `early` but in the
result alone (`stable_dga`'s); `beta`: weight of negative values, `beta to` growing to it along the
sequence, `beta from` falling from it; `mul`: product of the two masks; `pow`: exponent of n/N; `unit`: each
anchor's map scaled to the same sum; `noise`: σ of noise on each anchor, as a share of the input's range
(SmoothGrad inside); `hysteresis`: the share of ranks by which a feature must pass a threshold to change
sides; `N`: steps, 30 unless said.

The overlaps fall with the number of rankings that are fed back (`delay` 1, 5, 10, 15, 31), and softer
thresholds in place of hard ones did not raise them at `delay` 1 or 5: the feedback counts more than the
step function, as [the analysis](rounding.md) finds, too. All settings but `agg` weigh the anchors alike.
"""


def classifier(name: str) -> Any:
    """A network with the weights of the shared data, or our own."""
    if name == "cifar10-cnn":
        return dg.load_model(name)
    if name == "cifar10-resnet20":
        return dg.load_model(f"{name}@{SHARED / 'cifar10' / 'resnet20.safetensors'}")
    return dg.load_model(f"torchvision:{name}@{DATA / name}.safetensors")


def images(loaded: Any, numbers: Sequence[int]) -> Tensor:
    """The sample images of these numbers in the order of their names, or CIFAR-10's test images."""
    if loaded.input_size[-1] == 32:
        read = read_cifar10(SHARED / "cifar10", "test", limit=max(numbers) + 1).images
        return torch.stack([loaded.preprocess(Image.fromarray(read[number])) for number in numbers])
    with (DATA / "samples" / "index.csv").open() as opened:
        names = sorted(next(v for v in row.values() if v.endswith(".jpg")) for row in csv.DictReader(opened))
    paths = [DATA / "samples" / Path(names[number]).name for number in numbers]
    return torch.stack([loaded.preprocess(dg.read_image(path)) for path in paths])


def remembered(part: str) -> tuple[Path, dict[str, Any]]:
    """One part's file and what it holds."""
    path = RESULTS / f"variants-{part}.json"
    return path, json.loads(path.read_text()) if path.exists() else {}


def faithfulness(network: str, n_images: int, precision: Any, methods: Sequence[str]) -> None:
    """LeRF and MoRF of the methods, in chunks that are kept at once."""
    path, kept = remembered(f"{network}-{precision}")
    loaded = classifier(network)
    model = None
    for start in range(FIRST, FIRST + n_images, ROWS):
        numbers = range(start, min(start + ROWS, FIRST + n_images))
        missing = [name for name in methods if f"{numbers[-1]}" not in kept.get(name, {})]
        if not missing:
            continue
        x = images(loaded, numbers)
        with torch.no_grad():
            target = loaded.model(x).argmax(1)  # the same class, whatever the precision of the maps
        if model is None:
            model = dg.accelerate(loaded.model, x, precision=precision, channels_last=True)
        maps = {
            name: dg.create_method(METHODS[name][0], model, **METHODS[name][1]).attribute(x, target)
            for name in missing
        }
        curves = dg.metrics.morf_and_lerf(model, x, target, maps, n_steps=N_STEPS)
        for name, both in curves.items():
            for row, number in enumerate(numbers):
                values = [float(both.lerf.auc[row]), float(both.morf.auc[row])]
                kept.setdefault(name, {})[str(number)] = values
        path.write_text(json.dumps(kept))


def overlaps(network: str, n_images: int, methods: Sequence[str]) -> None:
    """Common top 10 % of the pixels between float32 and float64."""
    path, kept = remembered(f"{network}-overlap")
    loaded = classifier(network)
    exact = copy.deepcopy(loaded.model).double()
    for start in range(FIRST, FIRST + n_images, 2):
        numbers = range(start, min(start + 2, FIRST + n_images))
        for name in methods:
            if str(numbers[-1]) in kept.get(name, {}):
                continue
            method, parameters = METHODS[name]
            x = images(loaded, numbers)
            with torch.no_grad():
                target = loaded.model(x).argmax(1)
            pair = [
                dg.create_method(method, model, **parameters).attribute(inputs, target).double().sum(1)
                for model, inputs in ((loaded.model, x), (exact, x.double()))
            ]
            for number, value in zip(numbers, top_overlap(*pair).tolist(), strict=True):
                kept.setdefault(name, {})[str(number)] = value
            path.write_text(json.dumps(kept))


def differences(kept: Curves, name: str, other: str) -> tuple[Interval, Interval]:
    """LeRF and MoRF of a method less those of another, in pairs over the images that both have."""
    common = [number for number in kept[name] if number in kept[other]]
    apart = np.array([np.subtract(kept[name][number], kept[other][number]) for number in common])
    return bootstrap_mean(apart[:, 0]), bootstrap_mean(apart[:, 1])


def better_on_both(kept: Curves) -> str:
    """Which methods have a higher LeRF and a lower MoRF than DGA, by intervals that exclude 0."""
    found = []
    for name in kept:
        lerf, morf = differences(kept, name, "dga")
        if lerf.low > 0 and morf.high < 0:
            found.append(f"`{name}`")
    return f"Better than DGA on both curves, by intervals that exclude 0: {', '.join(found) or 'none'}."


def beside_successors(kept: Curves) -> list[str]:
    """What the forms of `stable_dga` have over SAMP and IDGI, in pairs."""
    lines = []
    for name in kept:
        for other in ("samp, 30 passes", "idgi, 31 passes"):
            if name.startswith("stable_dga") and other in kept:
                lerf, morf = differences(kept, name, other)
                behind = [
                    curve for curve, worse in (("LeRF", lerf.high < 0), ("MoRF", morf.low > 0)) if worse
                ]
                verdict = " and ".join(behind) or "neither"
                lines.append(f"| {name} | {other} | {_cell(lerf)} | {_cell(morf)} | {verdict} |")
    heads = [
        "| method | less | LeRF | MoRF | behind on, by intervals that exclude 0 |",
        "|---|---|---|---|---|",
    ]
    return ["", *heads, *lines] if lines else []


def _cell(found: Interval) -> str:
    return f"{found.mean:.4f} ({found.low:.4f} … {found.high:.4f})"


def _passes(name: str) -> int:
    method, parameters = METHODS[name]
    return int(dg.create_method(method, torch.nn.Identity(), **parameters).n_passes)


def _named(setting: dict[str, Any]) -> str:
    forgotten = " †" if {*setting} & FORGOTTEN else ""
    return (", ".join(f"{key} {value}" for key, value in setting.items()) or "DGA") + forgotten


def _figures(tried: dict[str, Any]) -> str:
    cells = [f"{np.mean(tried[key]):.4f}" if key in tried else "–" for key in ("lerf", "morf")]
    overlap, again = tried.get("overlap"), tried.get("again")
    cells.append(f"{np.mean(overlap):.2f} ({len(overlap)})" if overlap else "–")
    cells.append(f"{again['images']}: {again['apart']:.5f}" if again else "–")
    return " | ".join(cells)


def page() -> str:
    """The page of the documentation, from what is kept."""
    lines = HEAD.splitlines()
    for path in sorted(RESULTS.glob("variants-*.json")):
        part = path.stem.removeprefix("variants-")
        kept = json.loads(path.read_text())
        if part == "tried":
            lines += [
                "",
                *TRIED.splitlines(),
                "",
                "| setting | LeRF | MoRF | overlap | again |",
                "|---|---|---|---|---|",
            ]
            lines += [f"| {_named(each['setting'])} | {_figures(each)} |" for each in kept]
        elif part.endswith("overlap"):
            lines += [
                "",
                f"## Rounding: {part}",
                "",
                "| method | images | common top 10 % |",
                "|---|---|---|",
            ]
            for name, values in kept.items():
                mean = bootstrap_mean(np.array([*values.values()]))
                lines.append(f"| {name} | {len(values)} | {_cell(mean)} |")
        else:
            lines += ["", f"## Faithfulness: {part}", ""]
            lines += [
                "| method | passes | images | LeRF | MoRF | LeRF − DGA's | MoRF − DGA's |",
                "|---|---|---|---|---|---|---|",
            ]
            for name in kept:
                means = [bootstrap_mean(curve) for curve in np.array([*kept[name].values()]).T]
                apart = differences(kept, name, "dga") if name != "dga" else ()
                cells = [*map(_cell, (*means, *apart)), *(["–"] * (2 - len(apart)))]
                lines.append(f"| {name} | {_passes(name)} | {len(kept[name])} | {' | '.join(cells)} |")
            lines += ["", better_on_both(kept), *beside_successors(kept)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="network-precision, network-overlap, or page")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    arguments = parser.parse_args()
    for network in NETWORKS:
        if arguments.only in ("", f"{network}-{arguments.precision}"):
            faithfulness(network, arguments.images, arguments.precision, arguments.methods)
        if arguments.only in ("", f"{network}-overlap"):
            overlaps(network, arguments.images, arguments.methods)
    (RESULTS / "variants.md").write_text(page())


if __name__ == "__main__":
    main()
