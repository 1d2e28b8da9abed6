"""The contract that is shipped: ours keep it, and what breaks it is caught by the check of that name."""

from functools import partial

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.metrics import METRICS, Axis, Metric, Values
from distillgrad.testing import (
    METHOD_CHECKS,
    METRIC_CHECKS,
    check_method,
    check_metric,
    method_checks,
    metric_checks,
)
from networks import SMALL

THREE = ["dga", "gradcam", "rise"]
OURS = [
    each for name in ("saliency", *THREE) for each in method_checks(dg.METHODS[name], **SMALL.get(name, {}))
]


@pytest.mark.parametrize("name", dg.METHODS)
def test_ours_state_their_facts(name):
    next(method_checks(dg.METHODS[name], **SMALL.get(name, {})))()


@pytest.mark.parametrize("check", OURS, ids=lambda check: f"{check.subject}-{check}")
def test_our_methods(check):
    check()


@pytest.mark.parametrize("name", {METRICS[name].measurement: name for name in METRICS}.values())
def test_our_metrics(name):
    # The random parameters of a small network may leave it without a gradient.
    check_metric(name, undefined=name.startswith("randomisation"))


class Base(dg.Saliency):
    """A broken method."""

    source = "an example"


class Unstated(Base):
    source = ""


class Narrow(Base):
    def _attribute(self, batch):
        return super()._attribute(batch)[:, :1]


class Training(Base):
    def _attribute(self, batch):
        self.forward_func[0].weight.requires_grad_(True)
        self.forward_func[1].momentum = 0.5
        self.forward_func.train()
        self.forward_func.register_forward_hook(lambda *_: None)
        return super()._attribute(batch)


class Mixed(Base):
    def _attribute(self, batch):
        return super()._attribute(batch) / len(batch)


class Unseeded(Base):
    def _attribute(self, batch):
        return super()._attribute(batch) * torch.rand(1)


class Deaf(Base):
    def attribute(self, inputs, target=None, **options):
        try:
            return super().attribute(inputs, target, **options)
        except dg.errors.InputError:
            return torch.zeros_like(inputs)


@pytest.mark.parametrize(
    ("broken", "names"),
    [
        (Unstated, "states_its_facts"),
        (Narrow, "returns_what_it_declares"),
        (Training, "leaves_everything_as_it_was|cleans_up_after_an_error"),
        (Mixed, "explains_each_row_alone"),
        (Unseeded, "gives_the_same_twice"),
        (Deaf, "refuses_what_cannot_be_explained"),
    ],
)
def test_a_method_that_breaks_the_contract(broken, names):
    with pytest.raises(AssertionError, match=f"^{broken.__name__}: ({names}): "):
        check_method(broken)


def test_a_model_and_inputs_of_ones_own():
    torch.manual_seed(0)
    check_method(dg.Saliency, model=nn.Linear(5, 4).double(), inputs=torch.randn(3, 5).double())


def maps(given, change):
    return {name: change(each) for name, each in given.attributions.items()}


def mean(each):
    return each.abs().mean((1, 2, 3))


@pytest.mark.parametrize(
    ("measurement", "name"),
    [
        (lambda given, _: maps(given, lambda each: mean(each).mean()), "returns_a_value_per_image"),
        (lambda given, _: maps(given, lambda each: mean(each) / 0 * 0), "returns_a_value_per_image"),
        (lambda given, _: Values(maps(given, mean), axis=(1.0, 2.0)), "returns_a_value_per_image"),
        (lambda given, _: 3, "returns_a_value_per_image"),
        (lambda given, _: maps(given, lambda each: mean(each) * torch.rand(1)), "gives_the_same_twice"),
        (
            lambda given, _: maps(given, lambda each: mean(each) - mean(each).mean()),
            "measures_each_image_alone",
        ),
        (lambda given, _: maps(given, lambda each: mean(each.add_(1))), "leaves_everything_as_it_was"),
        (
            lambda given, _: {
                name: mean(each(given.model)(given.inputs, given.target))
                for name, each in given.explainer.items()
            },
            "needs_what_it_says",
        ),
    ],
)
def test_a_metric_that_breaks_the_contract(measurement, name):
    with pytest.raises(AssertionError, match=f"^metric: {name}: "):
        check_metric(Metric(better="lower", source="an example", measurement=measurement))


def test_what_is_no_metric_and_one_along_an_axis():
    with pytest.raises(AssertionError, match="states_its_facts: it is a function"):
        check_metric(mean)
    along = Metric(
        better="higher",
        source="an example",
        axis=Axis("Parts", "part"),
        measurement=lambda given, _: Values(
            maps(given, lambda each: torch.stack([mean(each), 2 * mean(each)], 1)), axis=("one", "two")
        ),
    )
    checks = partial(metric_checks, along)
    assert [str(each) for each in checks()] == [each.__name__ for each in METRIC_CHECKS]
    assert len(list(method_checks(dg.DGA))) == len(METHOD_CHECKS)
    for check in checks():
        check()
