"""Intervals and tests against scipy, full enumeration, hand computed examples and their properties."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import distillgrad as dg
from distillgrad.metrics.statistics import (
    bootstrap_mean,
    compare,
    holm,
    sign_flip_p_value,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_interval_is_scipys_percentile_bootstrap():
    values = normal(60) ** 2
    found = bootstrap_mean(values, level=0.9, seed=3)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", rng=np.random.default_rng(1)
    )
    # Two draws of 10,000 resamples: their quantiles differ by some 2 % of the interval's width.
    spread = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.04 * spread)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.04 * spread)


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    intervals = [bootstrap_mean(row, n_resamples=1000) for row in normal(300, 40)]
    covered = np.mean([each.low <= 0 <= each.high for each in intervals])
    assert 0.90 <= covered <= 0.98


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=30),
    st.floats(0.1, 10),
    st.floats(-10, 10),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_intervals_lie_among_the_values_and_move_with_them(values, scale, shift, n_missing):
    values = np.array(values)
    found = bootstrap_mean(values, n_resamples=200)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert values.min() - slack <= found.low <= found.high <= values.max() + slack
    moved = bootstrap_mean(np.append(scale * values + shift, [math.nan] * n_missing), n_resamples=200)
    assert (moved.n, moved.n_missing) == (len(values), n_missing)
    for name in ("mean", "low", "high"):
        expected = scale * getattr(found, name) + shift
        assert getattr(moved, name) == pytest.approx(expected, abs=20 * slack)


def test_missing_values_single_samples_and_constants():
    none = bootstrap_mean(np.array([math.nan, math.inf]))
    assert math.isnan(none.mean)
    assert math.isnan(none.low)
    assert (none.n, none.n_missing) == (0, 2)
    one = bootstrap_mean(np.array([2.0, math.nan]))
    assert (one.mean, one.n, one.n_missing) == (2, 1, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    same = bootstrap_mean(np.full(9, 0.25))
    assert (same.low, same.mean, same.high) == (0.25, 0.25, 0.25)


def test_memory_is_bounded_and_chunks_do_not_matter(monkeypatch):
    values = normal(50)
    whole = bootstrap_mean(values, n_resamples=1000), sign_flip_p_value(values + 0.1)
    monkeypatch.setattr("distillgrad.metrics.statistics.CHUNK", 3 * 64)
    cut = bootstrap_mean(values, n_resamples=1000), sign_flip_p_value(values + 0.1)
    assert cut == whole


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_few_samples_are_tested_by_every_flip(n):
    differences = np.round(normal(n, seed=n) + 0.8, 1)  # with ties
    totals = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=n)]
    expected = np.mean([each >= abs(differences.sum()) - 1e-9 for each in totals])
    assert sign_flip_p_value(differences) == expected
    assert sign_flip_p_value(-differences) == expected


def test_drawn_flips_agree_with_scipy():
    differences = normal(40, seed=5) + 0.3
    found = sign_flip_p_value(differences)
    theirs = scipy.stats.permutation_test(
        (differences, np.zeros(40)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        rng=np.random.default_rng(0),
        vectorized=False,
    ).pvalue
    assert found == pytest.approx(theirs, abs=4 * math.sqrt(theirs / 10_000))
    rank_test = scipy.stats.wilcoxon(differences).pvalue
    assert rank_test / 5 < found < rank_test * 5
    assert sign_flip_p_value(differences + 3) == 1 / 10_001


def test_the_test_is_calibrated():
    p_values = np.array([sign_flip_p_value(row, n_flips=500) for row in normal(400, 30)])
    for level in (0.05, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(
            level, abs=3 * math.sqrt(level * (1 - level) / 400)
        )


def test_holm_by_hand():
    # Sorted: .005·4, .01·3, .03·2, .04·1; each at least its predecessor.
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "none": math.nan})
    expected = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    assert math.isnan(found.pop("none"))
    assert found == pytest.approx(expected)
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values):
    adjusted = holm({str(place): p for place, p in enumerate(p_values)})
    for (_, a), (_, b) in itertools.pairwise(sorted((p, adjusted[str(i)]) for i, p in enumerate(p_values))):
        assert a <= b
    for place, p in enumerate(p_values):
        assert p <= adjusted[str(place)] <= min(1, p * len(p_values))


def three_methods(n=80):
    images = normal(n)  # the samples' own difficulty, which pairing removes
    return {
        "good": images + 0.1 * normal(n, seed=1),
        "close": images + 0.1 * normal(n, seed=2),
        "bad": images - 0.2 + 0.1 * normal(n, seed=3),
    }


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_methods_are_ranked_and_compared_in_pairs(better):
    values = three_methods()
    found = compare(values, better=better)
    means = {name: each.mean() for name, each in values.items()}
    assert found.ranking == tuple(sorted(means, key=means.get, reverse=better == "higher"))
    assert found.best == found.reference == found.ranking[0]
    for name, difference in found.differences.items():
        apart = values[name] - values[found.best]
        assert found.means[name] == bootstrap_mean(values[name])
        assert difference.interval == bootstrap_mean(apart)
        assert difference.p_value == sign_flip_p_value(apart)
        assert difference.significant == ("bad" in (name, found.best))
    # Without pairs the spread of the samples would hide what is there.
    assert found.means["bad"].high > found.means["good"].low


def test_numbers_do_not_depend_on_the_other_methods():
    values = three_methods()
    everything = compare(values, better="higher", reference="close")
    two = compare({name: values[name] for name in ("close", "bad")}, better="higher", reference="close")
    assert set(everything.differences) == {"good", "bad"}
    assert two.means["bad"] == everything.means["bad"]
    assert two.differences["bad"].interval == everything.differences["bad"].interval
    assert two.differences["bad"].p_value == everything.differences["bad"].p_value


def test_comparisons_of_little():
    nan = math.nan
    alone = compare({"only": normal(5)}, better="lower")
    assert (alone.best, alone.differences) == ("only", {})
    one = compare({"a": [1.0], "b": [9.0]}, better="higher")
    assert one.best == "b"
    assert one.differences["a"].p_value == 1
    assert math.isnan(one.differences["a"].interval.low)
    assert not one.differences["a"].significant
    equal = compare({"a": np.ones(30), "b": np.ones(30)}, better="higher")
    assert equal.ranking == ("a", "b")
    assert equal.differences["b"].p_value == 1
    assert equal.differences["b"].interval.high == 0
    # Missing in one is missing in the pair; a method without values is last and decides nothing.
    some = compare({"none": [nan] * 4, "a": [nan, 2, 3, 4], "b": [1, 1, 1, nan]}, better="lower")
    assert some.ranking == ("b", "a", "none")
    assert (some.differences["a"].interval.mean, some.differences["a"].interval.n) == (1.5, 2)
    assert math.isnan(some.differences["none"].p_adjusted)
    assert not some.differences["none"].significant
    assert some.differences["a"].p_adjusted == some.differences["a"].p_value
    nothing = compare({"a": [nan], "b": [nan]}, better="lower")
    assert nothing.ranking == ("a", "b")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (lambda: bootstrap_mean(np.zeros((2, 2))), r"\(2, 2\)"),
        (lambda: bootstrap_mean(np.array(["a"])), "numbers"),
        (lambda: bootstrap_mean(np.zeros(2), level=1.0), "level"),
        (lambda: bootstrap_mean(np.zeros(2), n_resamples=0), "n_resamples"),
        (lambda: bootstrap_mean(np.zeros(2), seed=-1), "seed"),
        (lambda: compare({}, better="higher"), "no method"),
        (lambda: compare({"a": [1.0], "b": [1.0, 2.0]}, better="higher"), "'b': 2"),
        (lambda: compare({"a": [1.0]}, better="high"), "'higher'"),
        (lambda: compare({"dga": [1.0]}, better="lower", reference="dgaa"), "'dga'"),
        (lambda: compare({"dga": [1.0]}, better="lower", n_flips=0), "n_flips"),
        (lambda: compare({"dga": [None]}, better="lower"), "dga must be numbers"),
    ],
)
def test_wrong_requests(request_, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        request_()
