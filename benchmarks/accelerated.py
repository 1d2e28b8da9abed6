"""Whether DGA's maps from an accelerated model are as good: ``python benchmarks/accelerated.py``.

Acceleration rounds otherwise, and DGA amplifies rounding, so that maps are compared by what the model as it
is says of them. Values are kept in ``docs/results/accelerated-*.json``; what is there is not computed again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import distillgrad as dg
from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.metrics.similarity import top_overlap
from distillgrad.metrics.statistics import bootstrap_mean
from variants import N_STEPS, RESULTS, ROWS, classifier, images

NETWORKS = ("resnet18", "squeezenet1_1")
ORIGINAL = "as it is"
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
WITHIN = 0.01
"""Largest difference of LeRF or MoRF that counts as none."""
HEAD = """# Is an accelerated model's map as good?

`dg.accelerate` folds batch norms and lays memory out anew, on request in bfloat16. The model is the same
function, rounded otherwise; DGA [amplifies rounding](rounding.md), so that single pixels move. Here DGA
(N = 30) explains the first sample images of ImageNet with the model as it is and accelerated; LeRF and MoRF
(20 steps, pixels, the mean colour) are those of the model as it is, in float32. Differences are paired, with
95 % bootstrap-t intervals. `python benchmarks/accelerated.py` measures what is missing and writes the page.
"""


def measure(network: str, n_images: int) -> None:
    """LeRF, MoRF and the top-10 % overlap with the original's map, in chunks that are kept at once."""
    path = _file(network)
    kept: dict[str, dict[str, list[float]]] = json.loads(path.read_text()) if path.exists() else {}
    loaded = classifier(network)
    models: dict[str, Any] = {}
    for start in range(0, n_images, ROWS):
        numbers = range(start, min(start + ROWS, n_images))
        if str(numbers[-1]) in kept.get(PRECISIONS[-1], {}):
            continue
        x = images(loaded, numbers)
        with torch.no_grad():
            target = loaded.model(x).argmax(1)
        models = models or {
            ORIGINAL: loaded.model,
            **{
                each: dg.accelerate(loaded.model, x, precision=each, channels_last=True)
                for each in PRECISIONS
            },
        }
        maps = {name: dg.DGA(model).attribute(x, target) for name, model in models.items()}
        curves = dg.metrics.morf_and_lerf(loaded.model, x, target, maps, n_steps=N_STEPS)
        for name, both in curves.items():
            overlap = top_overlap(maps[name].sum(1), maps[ORIGINAL].sum(1))
            for row, number in enumerate(numbers):
                values = [float(each[row]) for each in (both.lerf.auc, both.morf.auc, overlap)]
                kept.setdefault(name, {})[str(number)] = values
        path.write_text(json.dumps(kept))


def page() -> str:
    """The page of the documentation, from what is kept."""
    lines = [
        *HEAD.splitlines(),
        "",
        "| network | images | accelerated in | LeRF as it is | difference | MoRF as it is | difference "
        f"| common top 10 % | both within ±{WITHIN} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        if not _file(network).exists():
            continue
        kept = json.loads(_file(network).read_text())
        original = np.array([*kept[ORIGINAL].values()])
        for precision in PRECISIONS:
            found = np.array([kept[precision][number] for number in kept[ORIGINAL]])
            apart = [bootstrap_mean(found[:, curve] - original[:, curve]) for curve in (0, 1)]
            cells = [
                f"{original[:, curve].mean():.3f} | {each.mean:+.4f} ({each.low:+.4f} … {each.high:+.4f})"
                for curve, each in enumerate(apart)
            ]
            within = all(each.low >= -WITHIN and each.high <= WITHIN for each in apart)
            lines.append(
                f"| {network} | {len(original)} | {precision} | {cells[0]} | {cells[1]} "
                f"| {found[:, 2].mean():.2f} | {'yes' if within else '**no**'} |"
            )
    return "\n".join(lines) + "\n"


def _file(network: str) -> Path:
    return RESULTS / f"accelerated-{network}.json"


def main() -> None:
    """Measure what is missing, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    for network in arguments.networks:
        measure(network, arguments.images)
    (RESULTS / "accelerated.md").write_text(page())


if __name__ == "__main__":
    main()
