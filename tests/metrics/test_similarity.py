"""Likeness of maps against scipy and scikit-image, closed forms and its properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

import distillgrad as dg
from distillgrad.metrics.similarity import explained, spearman, ssim, top_overlap


def maps(n=3, channels=2, height=15, width=19, seed=0):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed)).double()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 2), min_size=2, max_size=30))
def test_ranks_with_ties_are_those_of_scipy(pairs):
    first, second = torch.tensor(pairs).T
    found = spearman(first[None], second[None])
    if len(set(first.tolist())) == 1 or len(set(second.tolist())) == 1:
        assert found.isnan().all()
    else:
        assert found.item() == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_spearman_of_features_is_that_of_scipy_in_every_row_and_precision():
    first, second = maps(), maps(seed=1) + maps().relu()
    for dtype in (torch.float32, torch.float64):
        found = spearman(first.to(dtype), second.to(dtype))
        assert found.dtype == torch.float64
        for row in range(3):
            expected = spearmanr(first[row].flatten(), second[row].flatten()).statistic
            assert found[row].item() == pytest.approx(expected, abs=1e-6 if dtype == torch.float32 else 1e-12)


def test_ranks_see_only_the_order():
    first, second = maps(), maps(seed=1)
    torch.testing.assert_close(spearman(first.exp(), second**3), spearman(first, second), rtol=0, atol=1e-12)
    torch.testing.assert_close(spearman(-first, second), -spearman(first, second), rtol=0, atol=1e-12)
    assert spearman(first, first).tolist() == [1.0] * 3
    assert spearman(first, -first).tolist() == [-1.0] * 3
    zeros = torch.zeros(1, 4)
    assert spearman(zeros, -zeros).isnan().all()
    assert spearman(torch.ones(2, 1), torch.ones(2, 1)).isnan().all()


@pytest.mark.parametrize(("height", "width"), [(11, 11), (15, 30)])
def test_structure_is_that_of_scikit_image(height, width):
    first, second = maps(height=height, width=width), maps(height=height, width=width, seed=1).relu()
    second += first / 2
    found = ssim(first, second)
    for row in range(3):
        normalised = [(each[row].sum(0) / each[row].sum(0).abs().max()).numpy() for each in (first, second)]
        expected = structural_similarity(
            *normalised, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2
        )
        assert found[row].item() == pytest.approx(expected, abs=1e-12)


def test_structure_of_known_maps():
    first, second = maps(), maps(seed=1)
    torch.testing.assert_close(ssim(first, first), torch.ones(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(ssim(first, second), ssim(second, first), rtol=0, atol=1e-12)
    torch.testing.assert_close(ssim(5 * first, second / 7), ssim(first, second), rtol=0, atol=1e-12)
    zeros = torch.zeros_like(first)
    assert ssim(zeros, zeros).tolist() == [1.0] * 3
    flat = torch.ones(1, 1, 12, 12)
    # Without variance the luminance is left: means of 1 and −1 with C₁ = 0.02².
    assert ssim(flat, -3 * flat).item() == pytest.approx((-2 + 4e-4) / (2 + 4e-4), abs=1e-9)
    # A side of 4 takes a window of 3, a single pixel one of 1: without variance again.
    assert ssim(flat[..., :4], flat[..., :4]).item() == pytest.approx(1)
    assert ssim(flat[..., :1, :1], 0 * flat[..., :1, :1]).item() == pytest.approx(4e-4 / (1 + 4e-4))


def test_overlap_counts_what_both_rank_highest():
    first = torch.arange(20.0).view(1, 1, 4, 5)
    second = first.clone()
    second.view(-1)[19] = -1
    assert top_overlap(first, first).item() == 1
    assert top_overlap(first, second, 0.2).item() == 3 / 4
    assert top_overlap(first, -first).item() == 0
    sparse = (first == 3).double()
    assert top_overlap(sparse, sparse, 0.5).item() == 1
    assert top_overlap(sparse, torch.zeros_like(first)).item() == 0
    assert top_overlap(0 * first, 0 * first).isnan().all()


@pytest.mark.parametrize("measure", [spearman, ssim, top_overlap])
def test_a_row_is_alone(measure):
    first, second = maps(), maps(seed=1)
    torch.testing.assert_close(measure(first[1:2], second[1:2])[0], measure(first, second)[1])
    with torch.inference_mode():
        assert torch.isfinite(measure(first.requires_grad_(), second)).all()


@pytest.mark.parametrize("measure", [spearman, ssim, top_overlap])
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (maps(), maps(channels=1), r"\(3, 2, 15, 19\) and \(3, 1, 15, 19\)"),
        (maps(), maps() * torch.nan, "NaN"),
        (torch.zeros(3), torch.zeros(3), r"\(3,\)"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4), r"\(0, 1, 4, 4\)"),
        ([1.0], [1.0], "list"),
    ],
)
def test_maps_that_cannot_be_compared(measure, first, second, words):
    with pytest.raises(dg.errors.InputError, match=words):
        measure(first, second)


@pytest.mark.parametrize("fraction", [0, 1.5, float("nan")])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(dg.errors.ParameterError, match="fraction"):
        top_overlap(maps(), maps(), fraction)


def test_an_explainer_may_take_gradients_and_write_into_its_inputs():
    def naive(inputs, target):
        inputs.mul_(2).requires_grad_()
        inputs[:, target].square().sum().backward()
        return inputs.grad

    x = maps()
    with torch.no_grad():
        found = explained(naive, x, 1)
    assert torch.equal(x, maps())
    assert torch.equal(found[:, 1], 4 * x[:, 1])


def test_what_is_no_attribution_is_named():
    for wrong, words in ((lambda x, _: x[:1], r"\(1, 2, 15, 19\)"), (lambda x, _: (x, x), "tuple")):
        with pytest.raises(dg.errors.ModelError, match=words):
            explained(wrong, maps(), 0)
