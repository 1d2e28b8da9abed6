"""The contract of a metric: a finite value per image and method, whatever the batch; nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.forward import Model
from distillgrad.errors import DistillgradError, InputError
from distillgrad.methods.gradient import GradientXInput, Saliency
from distillgrad.metrics.base import Metric, MetricInput, Protocol, Values
from distillgrad.metrics.registry import find_metric, values_by_name
from distillgrad.metrics.similarity import Attribute
from distillgrad.testing.check import (
    Check,
    close,
    refused,
    require,
    require_untouched,
    small_network,
    state_of,
)

SIZE = 16
PROTOCOL = Protocol(n_steps=3, fractions=(0.3, 0.6), n_masks=6, sigmas=(0.1, 0.2))


@dataclass(frozen=True)
class MetricSubject:
    """A metric, and whether its values may be undefined for maps that are neither constant nor zero."""

    metric: Metric
    undefined: bool = False

    def __str__(self) -> str:
        return "metric"

    def measured(self, given: MetricInput) -> Mapping[str, Values]:
        """Return everything that the metric's measurement returns."""
        try:
            return values_by_name(("metric",), self.metric.measurement(given, PROTOCOL), given)
        except InputError as error:
            raise AssertionError(str(error)) from error


def states_its_facts(subject: MetricSubject) -> None:
    """Check that the metric says which direction is better, and where it is from."""
    metric = subject.metric
    require(isinstance(metric, Metric), f"it is a {type(metric).__name__}, no distillgrad.metrics.Metric")
    require(metric.better in ("higher", "lower"), f"better is {metric.better!r}, not 'higher' or 'lower'")
    require(metric.needs in ("attributions", "method", "masks"), f"needs is {metric.needs!r}")
    require(bool(metric.source and metric.cost), "source and cost must be stated in words")


def returns_a_value_per_image(subject: MetricSubject) -> None:
    """Check shapes along the axis, and that values of ordinary maps are finite."""
    for name, values in subject.measured(_given()).items():
        for method, each in values.by_method.items():
            finite = bool(each.isfinite().all())
            require(finite or subject.undefined, f"{name} of {method} is not finite: {each.tolist()}")
        require(
            all(isinstance(place, int | float | str) for place in values.axis),
            f"the axis of {name} must be numbers or words, not {values.axis}",
        )


def gives_the_same_twice(subject: MetricSubject) -> None:
    """Check that random draws depend on the protocol's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = subject.measured(_given())
        torch.manual_seed(2)
        _require_same(subject.measured(_given()), first, "measured twice", 0.0)


def measures_each_image_alone(subject: MetricSubject) -> None:
    """Check that the other images of the batch change nothing."""
    whole, row = subject.measured(_given()), slice(1, 2)
    expected = {
        name: replace(values, by_method={key: each[row] for key, each in values.by_method.items()})
        for name, values in whole.items()
    }
    _require_same(subject.measured(_given(row)), expected, "an image alone and in a batch", 1e-6)


def leaves_everything_as_it_was(subject: MetricSubject) -> None:
    """Check that model, inputs and attributions are untouched."""
    given = _given()
    tensors = [given.inputs, *given.attributions.values()]
    before, copies = state_of(given.network), [each.clone() for each in tensors]
    subject.measured(given)
    require_untouched(before, given.network)
    for each, was in zip(tensors, copies, strict=True):
        require(torch.equal(each, was), "the inputs or attributions have changed")


def needs_what_it_says(subject: MetricSubject) -> None:
    """Check that a metric of attributions explains nothing anew, and one of masks says where they lack."""

    def explained_again(_: Model) -> Attribute:
        raise AssertionError("it explains again, so that needs must be 'method'")

    given = _given()
    if subject.metric.needs != "method":
        subject.measured(replace(given, explainer=dict.fromkeys(given.explainer, explained_again)))
    if subject.metric.needs == "masks":
        with refused(DistillgradError, "data without masks"):
            subject.metric.measurement(replace(given, masks=None), PROTOCOL)
    else:
        subject.measured(replace(given, masks=None))


METRIC_CHECKS: tuple[Callable[[MetricSubject], None], ...] = (
    states_its_facts,
    returns_a_value_per_image,
    gives_the_same_twice,
    measures_each_image_alone,
    leaves_everything_as_it_was,
    needs_what_it_says,
)


def metric_checks(metric: Metric | str, *, undefined: bool = False) -> Iterator[Check]:
    """Yield the checks of a metric, to be called one by one.

    Args:
        metric: The metric, or its name as :func:`~distillgrad.metrics.registry.find_metric` takes it.
        undefined: Whether values may be NaN, also of maps that are neither constant nor zero.
    """
    subject = MetricSubject(find_metric(metric) if isinstance(metric, str) else metric, undefined)
    for check in METRIC_CHECKS:
        yield Check(check.__name__, subject, check)


def check_metric(metric: Metric | str, *, undefined: bool = False) -> None:
    """Check that a metric keeps the contract; takes what :func:`metric_checks` takes.

    Raises:
        AssertionError: it does not; names the check and what is wrong.
    """
    for check in metric_checks(metric, undefined=undefined):
        check()


def _given(rows: slice = slice(None)) -> MetricInput:
    """Return four images of noise with their maps by two methods, one of values for pixels."""
    network: nn.Module = small_network(channels=3, size=SIZE).float()
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 3, SIZE, SIZE, generator=draws, device="cpu")
    masks = torch.zeros(4, SIZE, SIZE, dtype=torch.bool, device="cpu")
    masks[:, 3:12, 4:10] = True
    target = torch.tensor([0, 1, 2, 3], device="cpu")
    inputs, masks, target = inputs[rows], masks[rows], target[rows]
    explainer: dict[str, Callable[[Model], Attribute]] = {
        "gradient_x_input": lambda model: GradientXInput(model).attribute,
        "pixels": lambda model: _pixels_of(Saliency(model)),
    }
    attributions = {name: each(network)(inputs, target) for name, each in explainer.items()}
    return MetricInput(network, network, inputs, target, attributions, explainer, masks)


def _pixels_of(method: Any) -> Attribute:
    def attribute(inputs: Tensor, target: Any) -> Tensor:
        attributions: Tensor = method.attribute(inputs, target)
        return attributions.sum(1, keepdim=True)

    return attribute


def _require_same(
    values: Mapping[str, Values], expected: Mapping[str, Values], words: str, tolerance: float
) -> None:
    require(values.keys() == expected.keys(), f"{words}: {list(values)} and {list(expected)} are returned")
    for name, each in expected.items():
        for method, numbers in each.by_method.items():
            close(values[name].by_method[method], numbers, f"{name} of {method}, {words}", tolerance)
