"""Masks by order statistic against explicit rank counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import literal
from distillgrad.core.ranking import (
    above_lowest,
    among_lowest,
    count_below,
    most_relevant,
    order_statistic,
    pixel_attributions,
)
from distillgrad.errors import InputError

few_values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40)


@given(values=few_values, count=st.integers(0, 45))
def test_among_lowest_is_the_rank_rule_with_ties(values, count):
    row = torch.tensor([values, values[::-1]])
    expected = torch.stack([literal.ranks(each) <= count for each in row])
    assert torch.equal(among_lowest(row, count), expected.float())
    assert torch.equal(above_lowest(row, count), 1 - expected.float())


@pytest.mark.parametrize(
    "kind", ["continuous", "half equal", "few values", "chequered", "sorted", "equal", "infinite"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_statistics_of_long_rows_are_those_of_sorting(kind, dtype):
    rows = torch.randn(2, 60_000, dtype=dtype)
    rows = {
        "continuous": rows,
        "half equal": torch.where(rows < 0.1, 0.25, rows),
        "few values": rows.round(),
        "chequered": rows * torch.tensor([1.0, 9.0]).repeat(30_000),
        "sorted": rows.sort().values,
        "equal": torch.ones_like(rows),
        "infinite": torch.where(rows > 1, torch.inf, rows),
    }[kind]
    ordered = rows.sort().values
    for count in (0, 1, 29_999, 39_000, 54_000, 59_999):
        assert torch.equal(order_statistic(rows, count), ordered[:, count : count + 1])


@given(size=st.integers(1, 400), share=st.fractions("1/400", 1, max_denominator=400))
def test_count_below_is_the_comparison_of_equation_10(size, share):
    quantile = float(share)
    assert count_below(quantile, size) == sum(rank / size <= quantile for rank in range(1, size + 1))


def test_most_relevant_marks_the_highest_and_nothing_of_a_constant():
    values = torch.tensor([[0.0, 3.0, 1.0, 3.0, 2.0], [0.0] * 5])
    assert most_relevant(values, 0.4).tolist() == [[False, True, False, True, False], [False] * 5]
    assert most_relevant(values, 0.2).tolist()[0] == [False, True, False, False, False]


def test_pixels_are_the_signed_sum_over_channels():
    features = torch.arange(24.0).reshape(1, 2, 3, 4) - 12
    assert torch.equal(pixel_attributions(features), features[:, 0] + features[:, 1])
    with pytest.raises(InputError, match=r"\(3, 4\)"):
        pixel_attributions(torch.zeros(3, 4))
