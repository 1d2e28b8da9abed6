"""The stable distillation against its definition, written down literally, and its properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import distillgrad as dg
import literal
from networks import convolutional, dense, with_ties

NETWORKS = {
    "dense": lambda seed: (dense(12, seed=seed), (12,)),
    "dense, ties": lambda seed: (with_ties(dense(12, seed=seed)), (12,)),
    "convolutional": lambda seed: (convolutional(seed), (2, 6, 6)),
    "convolutional, ties": lambda seed: (with_ties(convolutional(seed)), (2, 6, 6)),
}


def inputs_for(shape, seed, ties=False):
    torch.manual_seed(seed)
    x = torch.randn(3, *shape).double()
    return (x * 2).round() / 2 if ties else x


def expected_of(model, x, target, n_steps, quantile, n_rankings, baseline):
    """One sample, explicit rank counts."""
    anchor, rectified = x, []
    for n in range(n_steps + 1):
        _, gradient = literal.value_and_gradient(model, anchor, target)
        by_mask = gradient * (x - baseline)
        if x.ndim == 3:
            by_mask = by_mask.sum(0, keepdim=True)
        rectified.append(by_mask.clamp(min=0))
        if n % -(-n_steps // n_rankings) == 0:
            ranked = sum(rectified)
        weak = literal.weak_contributor_mask(ranked, n, n_steps)
        extreme = literal.extreme_positive_contributor_mask(ranked, quantile)
        anchor = baseline + (n / n_steps * weak + (1 - n / n_steps) * extreme) * (x - baseline)
    shares = len(x) if x.ndim == 3 else 1
    weights = range(n_steps + 1, 0, -1)
    mean = sum(weight * each for weight, each in zip(weights, rectified, strict=True)) / sum(weights)
    return (mean / shares).expand_as(x)


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_steps=st.integers(1, 12),
    hundredths=st.integers(1, 100),
    n_rankings=st.integers(1, 6),
    baseline=st.sampled_from([0.0, 0.5]),
)
def test_attribute_is_its_definition(network, seed, n_steps, hundredths, n_rankings, baseline):
    model, shape = NETWORKS[network](seed)
    x = inputs_for(shape, seed, "ties" in network)
    if "ties" in network:
        n_steps = 2 ** (n_steps % 4)  # then n/N is exact, and no tie is broken by rounding
    method = dg.StableDistilledGradientAggregation(model, n_steps, hundredths / 100, n_rankings)
    found = method.attribute(x, [0, 3, 1], baselines=baseline)
    for row, target in enumerate([0, 3, 1]):
        expected = expected_of(model, x[row], target, n_steps, hundredths / 100, n_rankings, baseline)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-10)


def test_of_a_linear_model_it_is_the_positive_part_of_gradient_times_input():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(12, 4).double(), inputs_for((12,), 0)
    found = dg.StableDistilledGradientAggregation(model).attribute(x, 2)
    torch.testing.assert_close(found, dg.GradientXInput(model).attribute(x, 2).clamp(min=0))


def test_channels_share_their_pixel_evenly():
    found = dg.StableDistilledGradientAggregation(convolutional(), 4).attribute(inputs_for((2, 6, 6), 1), 1)
    assert torch.equal(found[:, 0], found[:, 1])
    assert found.unique().numel() > 20


@pytest.mark.usefixtures("unexamined")
def test_it_costs_n_plus_one_passes_and_no_more():
    calls, model = [], dense()

    def counted(x):
        calls.append(len(x))
        return model(x)

    for parameters, n_passes in (({"n_steps": 4}, 5), ({}, 31)):
        calls.clear()
        method = dg.StableDistilledGradientAggregation(counted, **parameters)
        method.attribute(inputs_for((12,), 0))
        assert calls == [3] * n_passes
        assert method.n_passes == n_passes


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"epc_quantile": 0.0}, "epc_quantile"),
        ({"epc_quantile": float("nan")}, "epc_quantile"),
        ({"n_rankings": 0}, "n_rankings"),
        ({"n_rankings": 2.5}, "n_rankings"),
    ],
)
def test_parameters_outside_their_range_are_refused(parameters, words):
    with pytest.raises(dg.errors.ParameterError, match=words):
        dg.StableDistilledGradientAggregation(dense(), **parameters)
