"""Intervals and tests against scipy, full enumeration, hand computed examples and their properties."""

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import distillgrad as dg
from distillgrad.metrics import resampling
from distillgrad.metrics.paired_tests import difference_p_value, smallest_p_value
from distillgrad.metrics.statistics import (
    adjusted_together,
    bootstrap_mean,
    compare,
    holm,
    images_needed,
    sign_flip_p_value,
)
from distillgrad.metrics.student import quantile, within


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def literal_bootstrap_t(values, level, n_resamples, seed):
    """The interval's definition, resample by resample."""
    n, mean, s = len(values), np.mean(values), np.std(values, ddof=1)
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(n_resamples):
        again = values[generator.integers(0, n, n)]
        found.append((again.mean() - mean) / math.sqrt(again.var(ddof=1) + s**2 / n))
    found.sort()
    stretch = math.exp(8 / n + 6 * abs(scipy.stats.skew(values)) / math.sqrt(n))
    place = max(1, math.floor((1 - level) / 2 / stretch * (n_resamples + 1)))
    spread = s * math.sqrt(1 + 1 / n)
    student = scipy.stats.t.ppf((1 + level) / 2, n - 1) * s / math.sqrt(n)
    return (
        mean - max(found[-place] * spread, student),
        mean + max(-found[place - 1] * spread, student),
        found,
        mean / spread,
        stretch,
    )


@pytest.mark.parametrize("n", [3, 16, 40])
def test_intervals_and_p_values_are_those_of_the_studentised_bootstrap(n):
    values = normal(n, seed=n) ** 2 - 0.5
    low, high, resampled, apart, stretch = literal_bootstrap_t(values, 0.9, 2000, 3)
    found = bootstrap_mean(values, level=0.9, n_resamples=2000, seed=3)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-9)
    tail = min(np.sum(np.array(resampled) >= apart - 1e-9), np.sum(np.array(resampled) <= apart + 1e-9))
    student = scipy.stats.ttest_1samp(values, 0).pvalue
    expected = max(min(1, 2 * (tail + 1) / 2001 * stretch), student, sign_flip_p_value(values))
    assert difference_p_value(values, 2000, 10_000, 3) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 10_001])
def test_students_distribution_is_scipys(freedom):
    for t in (0.0, 0.3, 2.0, 12.0):
        assert within(t, freedom) == pytest.approx(1 - 2 * scipy.stats.t.sf(t, freedom), abs=1e-4)
    expected = scipy.stats.t.ppf(0.975, freedom)
    assert quantile(0.95, freedom) == pytest.approx(expected, rel=2e-4)


def skewed(generator, *shape):
    """Gamma-distributed values of mean 0 and skewness -3, as the differences of two MoRF can be."""
    return 4 / 9 - generator.gamma(4 / 9, 1, shape)


@pytest.mark.parametrize(("n", "least"), [(8, 0.86), (16, 0.92), (44, 0.92)])
def test_intervals_of_skewed_values_hold_the_mean_as_often_as_they_say(n, least):
    samples = skewed(np.random.default_rng(1), 400, n)
    intervals = [bootstrap_mean(row, n_resamples=1000) for row in samples]
    assert np.mean([each.low <= 0 <= each.high for each in intervals]) >= least
    percentile = np.array([np.quantile(row[_drawn(n)].mean(1), (0.025, 0.975)) for row in samples])
    assert np.mean((percentile[:, 0] <= 0) & (percentile[:, 1] >= 0)) < 0.92  # what was wrong before


def _drawn(n):
    return np.random.default_rng(2).integers(0, n, (500, n))


@pytest.mark.parametrize("n", [8, 16, 24, 44])
def test_skewed_differences_of_mean_zero_are_seldom_called_significant(n):
    samples = skewed(np.random.default_rng(3), 400, n)
    found = np.array([difference_p_value(row, 1000, 1000, 0) for row in samples])
    flipped = np.array([sign_flip_p_value(row, n_flips=1000) for row in samples])
    assert np.mean(found < 0.05) <= 0.06
    assert np.mean(flipped < 0.05) > 0.07  # what was wrong before
    assert (found >= flipped).all()


def test_intervals_of_symmetric_values_are_no_wider_than_they_need_be():
    width = np.mean([np.ptp([*_ends(row)]) for row in normal(200, 44)])
    student = 2 * scipy.stats.t.ppf(0.975, 43) / math.sqrt(44)
    assert student < width < 1.15 * student


def _ends(values):
    found = bootstrap_mean(values, n_resamples=1000)
    return found.low, found.high


@pytest.mark.parametrize("n", [6, 16, 44])
def test_an_interval_leaves_out_zero_where_the_test_rejects_it(n):
    for row in skewed(np.random.default_rng(4), 60, n) + 0.3:
        found = bootstrap_mean(row)
        if difference_p_value(row, 10_000, 10_000, 0) < 0.0499:
            assert not found.low <= 0 <= found.high


def test_intervals_do_not_leave_what_is_possible():
    rates = np.array([0.0] + [1.0] * 15)
    free, bounded = bootstrap_mean(rates), bootstrap_mean(rates, bounds=(0, 1))
    assert free.high > 1
    assert (bounded.low, bounded.high) == (free.low, 1)
    assert 0.5 < bounded.low < 0.8  # Clopper and Pearson say .70
    pair = compare({"a": rates, "b": 1 - rates}, better="higher", bounds=(0, 1))
    assert pair.means["b"].low == 0
    assert pair.differences["b"].interval.low == -1
    with pytest.raises(dg.errors.InputError, match="outside"):
        bootstrap_mean(rates + 0.1, bounds=(0, 1))
    with pytest.raises(dg.errors.ParameterError, match="bounds"):
        bootstrap_mean(rates, bounds=(1, 0))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_samples_have_wide_but_finite_intervals(n):
    values = np.arange(n) ** 2.0
    found = bootstrap_mean(values)
    assert found.few
    assert math.isfinite(found.low)
    student = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert found.mean - found.low >= student * (1 - 1e-9)
    assert not bootstrap_mean(normal(16)).few


def test_views_of_one_photograph_count_as_one_sample():
    photographs = normal(12) + 0.4
    views = np.repeat(photographs, 5)
    groups = np.repeat(np.arange(12), 5).tolist()
    assert bootstrap_mean(views, groups=groups) == bootstrap_mean(photographs)
    zero = {"a": np.zeros(60), "b": views}
    apart = compare(zero, better="higher", reference="a", groups=groups).differences["b"]
    once = compare({"a": np.zeros(12), "b": photographs}, better="higher", reference="a").differences["b"]
    assert apart == once
    assert apart.p_value > 10 * compare(zero, better="higher", reference="a").differences["b"].p_value
    # A view that is missing leaves the others; a photograph without any is missing.
    some = bootstrap_mean(np.array([1.0, math.nan, 3.0, math.nan]), groups=["x", "x", "y", "z"])
    assert (some.mean, some.n, some.n_missing) == (2, 2, 1)
    with pytest.raises(dg.errors.InputError, match="4 samples; got 2"):
        bootstrap_mean(np.zeros(4), groups=["x", "y"])


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=30),
    st.floats(0.1, 10),
    st.floats(-10, 10),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_intervals_move_with_the_values(values, scale, shift, n_missing):
    values = np.array(values)
    found = bootstrap_mean(values, n_resamples=200)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert found.low <= found.mean <= found.high
    turned = bootstrap_mean(-values, n_resamples=200)
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high), abs=20 * slack)
    moved = bootstrap_mean(np.append(scale * values + shift, [math.nan] * n_missing), n_resamples=200)
    assert (moved.n, moved.n_missing) == (len(values), n_missing)
    for name in ("mean", "low", "high"):
        expected = scale * getattr(found, name) + shift
        assert getattr(moved, name) == pytest.approx(expected, rel=1e-6, abs=20 * slack)


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
    whole = bootstrap_mean(values, n_resamples=1000), sign_flip_p_value(values + 0.1, n_flips=1001)
    monkeypatch.setattr(resampling, "KEPT", 0)
    monkeypatch.setattr(resampling, "CHUNK", 3 * 64)
    cut = bootstrap_mean(values, n_resamples=1000), sign_flip_p_value(values + 0.1, n_flips=1001)
    assert (cut[0].low, cut[0].high) == pytest.approx((whole[0].low, whole[0].high), rel=1e-12)
    assert cut[1] == whole[1]


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
        assert difference.p_value == difference_p_value(apart, 10_000, 10_000, 0)
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


ROOT = Path(__file__).parents[2]


def table_of(page, heading):
    """The first number of each cell of a table, by row and column."""
    lines = page.split(f"## {heading}")[1].split("\n## ")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line)
    return {
        row[0]: dict(zip(head[1:], (float(cell.split()[0]) for cell in row[1:]), strict=True)) for row in rows
    }


def test_the_committed_table_is_made_by_its_script_and_keeps_what_is_promised(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    made = importlib.import_module("statistics_table").page(4, 100)
    kept = (ROOT / "docs/results/statistics.md").read_text()
    for heading in ("Intervals of a mean", "Tests of paired differences", "What that costs"):
        assert table_of(kept, heading).keys() == table_of(made, heading).keys()
    for row in table_of(kept, "Intervals of a mean").values():
        assert all(row[f"n = {n}"] >= 0.92 for n in (16, 24, 44, 100))
    for row in table_of(kept, "Tests of paired differences").values():
        assert all(row[f"n = {n}"] <= 0.06 for n in (16, 24, 44))


def test_one_correction_for_all_that_is_claimed():
    values = three_methods(30)
    pages = {
        metric: compare(values, better="higher", reference="good") for metric in ("lerf", "sensitivity_n")
    } | {"one": compare({"good": values["good"], "bad": values["bad"]}, better="higher")}
    together = adjusted_together(pages)
    p_values = {
        (page, name): each.p_value for page in pages for name, each in pages[page].differences.items()
    }
    expected = holm(p_values)
    for (page, name), p in expected.items():
        found = together[page].differences[name]
        assert (found.p_adjusted, found.n_comparisons) == (p, 5)
        assert found.p_value == pages[page].differences[name].p_value
        assert found.p_adjusted >= pages[page].differences[name].p_adjusted
    assert together["lerf"].means == pages["lerf"].means


@pytest.mark.parametrize(("n_rivals", "needed"), [(1, 6), (2, 7), (5, 8), (20, 10), (57, 12)])
def test_a_verdict_needs_so_many_images(n_rivals, needed):
    """With fewer no values at all make a significant difference; with so many the clearest ones do."""
    assert images_needed(n_rivals) == needed

    def clearest(n):
        values = {str(rival): np.full(n, 0.1) for rival in range(n_rivals)}
        return compare({"best": np.full(n, 0.9), **values}, better="higher").differences.values()

    assert not any(each.significant or each.decidable for each in clearest(needed - 1))
    assert all(each.significant and each.decidable for each in clearest(needed))
    enough = next(iter(clearest(needed)))
    assert enough.smallest_p == smallest_p_value(needed)
    assert enough.smallest_p_adjusted == pytest.approx(n_rivals * smallest_p_value(needed))


def test_nothing_can_be_needed_for_nothing():
    with pytest.raises(dg.errors.ParameterError, match="n_comparisons"):
        images_needed(0)
    assert images_needed(400) < 30  # more draws tell smaller p-values


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
