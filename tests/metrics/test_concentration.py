"""Concentration against closed forms and literal formulas."""

import math

import pytest
import torch

from distillgrad.errors import InputError
from distillgrad.metrics.concentration import complexity, sparseness


def maps(n=3, channels=2):
    return torch.randn(n, channels, 5, 6, generator=torch.Generator().manual_seed(4)).double()


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=0, atol=1e-12)


def test_one_pixel_and_equal_pixels():
    both = torch.zeros(2, 1, 5, 6).double()
    both[0, 0, 2, 3], both[1] = -7.0, 0.3
    close(complexity(both), [0.0, math.log(30)])
    close(sparseness(both), [1 - 1 / 30, 0.0])


def test_the_literal_formulas():
    for found, entropy, gini in zip(maps(), complexity(maps()), sparseness(maps()), strict=True):
        values = sorted(abs(sum(pixel)) for pixel in zip(*found.flatten(1).tolist(), strict=True))
        total, size = sum(values), len(values)
        assert entropy.item() == pytest.approx(-sum(v / total * math.log(v / total) for v in values))
        # Chalasani et al.: one less twice the area under the Lorenz curve.
        area = sum(v / total * (size - k + 0.5) / size for k, v in enumerate(values, start=1))
        assert gini.item() == pytest.approx(1 - 2 * area)


@pytest.mark.parametrize("measure", [complexity, sparseness])
def test_scale_sign_order_and_batch_do_not_matter(measure):
    x = maps()
    close(measure(-1e3 * x), measure(x))
    close(measure(x.flip(2, 3)), measure(x))
    close(measure(x[1:2])[0], measure(x)[1])
    huge = x.float() * 1e38 / x.abs().max()
    torch.testing.assert_close(measure(huge), measure(x).float(), rtol=1e-4, atol=1e-5)
    assert measure(x.half()).dtype == torch.float32


def test_a_map_of_zeros_has_no_distribution():
    x = maps()
    x[1] = 0
    for measure in (complexity, sparseness):
        assert measure(x).isnan().tolist() == [False, True, False]
    cancelled = torch.stack([x[0, :1], -x[0, :1]], 1).view(1, 2, 5, 6)
    assert complexity(cancelled).isnan().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: complexity(x[0]), r"\(2, 5, 6\)"),
        (lambda x: sparseness(x / 0), "NaN or infinity"),
        (lambda x: complexity(x[:0]), "empty"),
    ],
)
def test_wrong_inputs(call, words):
    with pytest.raises(InputError, match=words):
        call(maps())
