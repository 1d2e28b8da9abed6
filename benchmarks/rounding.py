"""Where DGA amplifies rounding: float32 beside float64, anchor by anchor: ``python benchmarks/rounding.py``.

Numbers of each image are kept in ``docs/results/rounding.json``; what is there is not computed again. The
page and its figures are drawn from them, ``--only-page`` without measuring.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import distillgrad as dg
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.ranking import count_below, order_statistic
from distillgrad.methods.dga import extreme_positive_contributor_mask, weak_contributor_mask
from distillgrad.methods.fullgrad import uniform_fullgrad
from distillgrad.metrics.similarity import top_overlap
from rounding_page import write_page
from variants import classifier, images

RESULTS = Path("docs/results/rounding.json")
N_STEPS, QUANTILE = 30, 0.9
LAGS = range(1, 7)
N_IMAGES = {"resnet18": 3, "squeezenet1_1": 4}
"""Images of the first ones: those that choices were made on, so that the others stay unseen."""

Masks = list[Tensor]


@dataclass(frozen=True)
class Step:
    """An anchor, its attribution, its masks, which ReLUs are on, which inputs max pooling takes."""

    anchor: Tensor
    attribution: Tensor
    weak: Tensor
    extreme: Tensor
    relus: Tensor
    pools: Tensor


@contextmanager
def gates_of(model: nn.Module) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Collects which units of every ReLU module are on, and which inputs every max pooling takes."""
    relus: list[Tensor] = []
    pools: list[Tensor] = []

    def taken(module: nn.MaxPool2d, inputs: tuple[Tensor], _output: Tensor) -> None:
        _, places = nn.functional.max_pool2d(
            inputs[0].detach(),
            module.kernel_size,
            module.stride,
            module.padding,
            ceil_mode=module.ceil_mode,
            return_indices=True,
        )
        pools.append(places.flatten())

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: relus.append((output > 0).flatten()))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    hooks += [each.register_forward_hook(taken) for each in model.modules() if isinstance(each, nn.MaxPool2d)]
    try:
        yield relus, pools
    finally:
        for hook in hooks:
            hook.remove()


def step_at(model: nn.Module, anchor: Tensor, x: Tensor, target: Tensor, n: int, local: str) -> Step:
    """DGA's step at an anchor; ``local`` is ``"uniform"`` or ``"mask"``, ∇f ⊙ (x − b) with b = 0."""
    with gates_of(model) as (relus, pools):
        score, gradient, _ = value_and_gradient(model, anchor, target)
    attribution = gradient * x if local == "mask" else uniform_fullgrad(score, gradient, anchor)
    weak = weak_contributor_mask(attribution, n, N_STEPS).bool()
    extreme = extreme_positive_contributor_mask(attribution, QUANTILE).bool()
    return Step(anchor, attribution, weak, extreme, torch.cat(relus), torch.cat(pools))


def followed(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    *,
    masks: str = "both",
    local: str = "uniform",
    weak: Masks | None = None,
    extreme: Masks | None = None,
) -> list[Step]:
    """Algorithm 1 with baseline 0, with masks of another run in place of its own where they are given."""
    steps: list[Step] = []
    anchor = x
    for n in range(N_STEPS + 1):
        step = step_at(model, anchor, x, target, n, local)
        steps.append(step)
        weight = n / N_STEPS
        mask = torch.zeros_like(x)
        if masks != "extreme":
            mask += weight * (weak[n] if weak else step.weak)
        if masks != "weak":
            mask += (1 - weight) * (extreme[n] if extreme else step.extreme)
        anchor = mask * x
    return steps


def result_of(steps: Sequence[Step]) -> Tensor:
    """The map of pixels that the sequence aggregates to."""
    return sum((step.attribution.clamp(min=0).double() for step in steps), torch.zeros(())).sum(1)


def agreement(first: Sequence[Step], second: Sequence[Step]) -> float:
    """Common top 10 % of the pixels."""
    return float(top_overlap(result_of(first), result_of(second)))


def apart(first: Tensor, second: Tensor) -> float:
    """The distance of two tensors, relative to the second's norm."""
    return float((first.double() - second.double()).norm() / second.double().norm())


def differing(first: Tensor, second: Tensor) -> float:
    """The share of places that differ."""
    return float((first != second).double().mean())


def compared(first: Sequence[Step], second: Sequence[Step]) -> dict[str, list[float]]:
    """By anchor, how far two runs are apart."""
    pairs = list(zip(first, second, strict=True))
    return {
        "anchor": [apart(a.anchor, b.anchor) for a, b in pairs],
        "attribution": [apart(a.attribution, b.attribution) for a, b in pairs],
        "weak": [differing(a.weak, b.weak) for a, b in pairs[:-1]],
        "extreme": [differing(a.extreme, b.extreme) for a, b in pairs[:-1]],
        "relus": [differing(a.relus, b.relus) for a, b in pairs],
        "pools": [differing(a.pools, b.pools) for a, b in pairs],
    }


def at_threshold(steps: Sequence[Step], others: Sequence[Step]) -> dict[str, list[float]]:
    """By anchor and mask, the features that equal the threshold, and whether the masks differ at them."""
    found: dict[str, list[float]] = {}
    for n, (step, other) in enumerate(zip(steps[:-1], others[:-1], strict=True)):
        flat = step.attribution.flatten(1)
        for kind, values, count, changed in (
            ("weak", flat.abs(), n * flat.shape[1] // N_STEPS, step.weak != other.weak),
            ("extreme", flat, count_below(QUANTILE, flat.shape[1]), step.extreme != other.extreme),
        ):
            tied = values == order_statistic(values, count)
            shared = int(tied.sum())
            at_ties = int((changed.flatten(1) & tied).sum()) if shared > 1 else 0
            found.setdefault(f"{kind} tied", []).append(shared if shared > 1 else 0)
            found.setdefault(f"{kind} changed", []).append(int(changed.sum()))
            found.setdefault(f"{kind} changed at ties", []).append(at_ties)
    return found


def rhythm(steps: Sequence[Step]) -> dict[str, list[float]]:
    """By lag, the correlation of attributions, and the share of dropped features that are dropped again."""

    def mean_over(pair: Callable[[Step, Step], Tensor], lag: int) -> float:
        pairs = zip(steps[1:-1], steps[1 + lag : -1], strict=False)
        return float(torch.stack([pair(a, b) for a, b in pairs]).nanmean())

    def correlation(a: Step, b: Step) -> Tensor:
        return torch.corrcoef(torch.stack([a.attribution.flatten(), b.attribution.flatten()]))[0, 1]

    return {
        "correlation": [mean_over(correlation, lag) for lag in LAGS],
        "extreme again": [
            mean_over(lambda a, b: (~b.extreme)[~a.extreme].double().mean(), lag) for lag in LAGS
        ],
        "weak again": [mean_over(lambda a, b: (~b.weak)[~a.weak].double().mean(), lag) for lag in LAGS],
    }


def measured(network: Any, x: Tensor) -> dict[str, Any]:
    """All numbers of one image.

    Cost: some 8 sequences of DGA in float32 and 6 in float64.
    """
    plain, exact = network.model, copy.deepcopy(network.model).double()
    with torch.no_grad():
        target = plain(x).argmax(1)
    settings: dict[str, dict[str, Any]] = {
        "DGA": {},
        "WC alone": {"masks": "weak"},
        "EPC alone": {"masks": "extreme"},
        "no ties": {"local": "mask"},
    }
    pairs = {
        name: (followed(plain, x, target, **setting), followed(exact, x.double(), target, **setting))
        for name, setting in settings.items()
    }
    first, second = pairs["DGA"]
    same = [
        step_at(exact, step.anchor.double(), x.double(), target, n, "uniform") for n, step in enumerate(first)
    ]
    weak, extreme = [step.weak for step in second], [step.extreme for step in second]
    overlap = {name: agreement(*pair) for name, pair in pairs.items()}
    imposed: dict[str, dict[str, Any]] = {
        "float64's WC": {"weak": weak},
        "float64's EPC": {"extreme": extreme},
        "both of float64's": {"weak": weak, "extreme": extreme},
    }
    for name, given in imposed.items():
        overlap[name] = agreement(followed(plain, x, target, **given), second)
    stable, exactly = (
        dg.StableDistilledGradientAggregation(model).attribute(inputs, target).double().sum(1)
        for model, inputs in ((plain, x), (exact, x.double()))
    )
    overlap["stable_dga"] = float(top_overlap(stable, exactly))
    return {
        "overlap": overlap,
        "free": compared(first, second),
        "same anchor": compared(first, same),
        "ties": at_threshold(first, same),
        "rhythm": {name: rhythm(pair[1]) for name, pair in pairs.items()},
        "features": x.numel(),
        "relus": len(first[0].relus),
        "pools": len(first[0].pools),
    }


def rounded(values: Any) -> Any:
    """With four significant digits, which is more than the figures show."""
    if isinstance(values, Mapping):
        return {key: rounded(each) for key, each in values.items()}
    if isinstance(values, list):
        return [rounded(each) for each in values]
    return float(f"{values:.4g}") if isinstance(values, float) else values


def main() -> None:
    """Measure what is missing, draw the figures, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only-page", action="store_true")
    kept: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not parser.parse_args().only_page:
        for number, name in sorted((number, name) for name, n in N_IMAGES.items() for number in range(n)):
            if str(number) in kept.setdefault(name, {}):
                continue
            loaded = classifier(name)
            kept[name][str(number)] = rounded(measured(loaded, images(loaded, range(number, number + 1))))
            RESULTS.write_text(json.dumps(kept))
    write_page(kept)


if __name__ == "__main__":
    main()
