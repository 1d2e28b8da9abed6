"""How often intervals hold the true mean, and tests reject what is true: ``make statistics-table``.

Samples are drawn, again and again, from populations whose mean is known: the committed values of single
images (``docs/results/variants-*.json``), and distributions as skewed as those.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillgrad.metrics.intervals import bootstrap_mean
from distillgrad.metrics.paired_tests import SIGNIFICANCE, difference_p_value, sign_flip_p_value
from distillgrad.views.markdown import markdown_table

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PAGE = RESULTS / "statistics.md"
N_SAMPLES = (6, 8, 16, 24, 44, 100)
N_TESTED = (8, 16, 24, 44)
SEED, REPETITIONS, DRAWS = 0, 1000, 10_000
Array: TypeAlias = NDArray[np.float64]
Population: TypeAlias = Callable[[np.random.Generator, int], Array]
"""Draws n values, whose true mean is 0."""

HEAD = """# Do the statistics hold?

Made by `make statistics-table`: seed {seed}, {repetitions:,} samples for each cell, {draws:,} resamples and
flips, a standard error of at most {error:.3f}. Samples are drawn from populations whose mean is known: the
values of single images that lie beside this page (`variants-*.json`, 100 images each, drawn with
replacement), and distributions as skewed as they are.

## Intervals of a mean

The share of 95 % intervals that hold the true mean, by the number of images; in brackets that of the
percentile bootstrap, which earlier versions used. Below 16 images no interval can be relied on where values
are skewed: the rare values that make the mean are in few of the samples. LeRF, which is not skewed, pays
with intervals that are wider than need be.
"""
TESTS = """## Tests of paired differences

The share of samples with p < 0.05 although the true mean difference is 0; in brackets that of flipped signs
alone, which earlier versions used and which presume that differences are symmetric. With 8 images a skewed
difference can be called significant too often by either. One comparison each, so that nothing is corrected.
"""
POWER = """## What that costs

The share of samples with p < 0.05 where differences are normal and their mean is so many standard
deviations.
"""


def kept(network: str, method: str) -> Array:
    """LeRF and MoRF of single images, ``(100, 2)``."""
    content = json.loads((RESULTS / f"variants-{network}-bfloat16.json").read_text())
    values: Mapping[str, Any] = content[method]
    return np.array([values[number] for number in sorted(values)])


def resampled(values: Array) -> Population:
    """The images' own values, from which as many are drawn with replacement as wanted."""
    centred = values - values.mean()
    return lambda generator, n: centred[generator.integers(0, len(centred), n)]


def gamma(skewness: float) -> Population:
    """Gamma-distributed values of that skewness."""
    shape, sign = 4 / skewness**2, math.copysign(1, skewness)
    return lambda generator, n: sign * (generator.gamma(shape, 1, n) - shape)


def lognormal(skewness: float, sigma: float = 0.7157) -> Population:
    """Log-normal values: of skewness ±3 with this sigma."""
    sign, mean = math.copysign(1, skewness), math.exp(sigma**2 / 2)
    return lambda generator, n: sign * (np.exp(sigma * generator.normal(size=n)) - mean)


def normal(mean: float = 0.0) -> Population:
    """Normal values of standard deviation 1."""
    return lambda generator, n: generator.normal(mean, 1, n)


def populations() -> tuple[dict[str, Population], dict[str, Population]]:
    """What intervals and what tests are tried on, by name with the skewness."""
    squeezenet, resnet = (kept(network, "dga") for network in ("squeezenet1_1", "resnet18"))
    stable = kept("squeezenet1_1", "stable_dga") - squeezenet
    samp = kept("resnet18", "samp, 30 passes") - resnet
    measured = {
        "LeRF of DGA, SqueezeNet": squeezenet[:, 0],
        "MoRF of DGA, SqueezeNet": squeezenet[:, 1],
        "MoRF of DGA, ResNet-18": resnet[:, 1],
        "LeRF, SAMP − DGA, ResNet-18": samp[:, 0],
        "MoRF, stable_dga − DGA, SqueezeNet": stable[:, 1],
        "area between, stable_dga − DGA, SqueezeNet": stable[:, 0] - stable[:, 1],
    }
    drawn = {f"{name} (skewness {skewness(each):+.1f})": resampled(each) for name, each in measured.items()}
    shapes = {
        "gamma (skewness -3.0)": gamma(-3),
        "log-normal (skewness -3.0)": lognormal(-3),
        "normal (skewness +0.0)": normal(),
    }
    differences = {name: each for name, each in drawn.items() if "−" in name}
    return {**drawn, **shapes}, {**differences, **shapes}


def skewness(values: Array) -> float:
    """The third standardised moment."""
    centred = values - values.mean()
    return float(np.mean(centred**3) / np.mean(centred**2) ** 1.5)


def coverage(population: Population, n: int, repetitions: int, draws: int) -> tuple[float, float]:
    """The share of intervals that hold 0: ours, and the percentile bootstrap's."""
    generator = np.random.default_rng((SEED, n))
    ours, percentile = 0, 0
    for _ in range(repetitions):
        values = population(generator, n)
        found = bootstrap_mean(values, n_resamples=draws)
        ours += found.low <= 0 <= found.high
        low, high = np.quantile(values[generator.integers(0, n, (1000, n))].mean(1), (0.025, 0.975))
        percentile += low <= 0 <= high
    return ours / repetitions, percentile / repetitions


def rejections(population: Population, n: int, repetitions: int, draws: int) -> tuple[float, float]:
    """The share of samples with p < 0.05: by our test, and by flipped signs alone."""
    generator = np.random.default_rng((SEED, n))
    ours, flipped = 0, 0
    for _ in range(repetitions):
        values = population(generator, n)
        ours += difference_p_value(values, draws, draws, SEED) < SIGNIFICANCE
        flipped += sign_flip_p_value(values, n_flips=draws) < SIGNIFICANCE
    return ours / repetitions, flipped / repetitions


def page(repetitions: int, draws: int) -> str:
    """The page of the documentation."""
    values, differences = populations()
    shifted = {f"{mean:g}": normal(mean) for mean in (0.4, 0.8, 1.2)}
    parts = []
    for words, head, measure, those, numbers in (
        (HEAD, "values", coverage, values, N_SAMPLES),
        (TESTS, "differences", rejections, differences, N_TESTED),
        (POWER, "mean", rejections, shifted, N_TESTED),
    ):
        rows = [
            (name, *("{:.3f} ({:.3f})".format(*measure(each, n, repetitions, draws)) for n in numbers))
            for name, each in those.items()
        ]
        parts += [words.rstrip(), "", *markdown_table((head, *(f"n = {n}" for n in numbers)), rows), ""]
    error = math.sqrt(0.25 / repetitions)
    text = "\n".join(parts).rstrip() + "\n"
    return text.format(seed=SEED, repetitions=repetitions, draws=draws, error=error)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    started = time.perf_counter()
    arguments.page.write_text(page(arguments.repetitions, arguments.draws))
    print(f"{arguments.page}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
