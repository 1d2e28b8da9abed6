"""Sensitivity-n against closed forms, a literal loop and its properties."""

import numpy as np
import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.metrics.removal_correlation import cells_of, random_masks
from networks import convolutional

sensitivity_n = dg.metrics.sensitivity_n
FRACTIONS = (0.1, 0.5, 0.9)


def images(n=3, side=6):
    return torch.randn(n, 2, side, side, generator=torch.Generator().manual_seed(2)).double()


def linear(side=6):
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * side * side, 4)).double()


def test_a_linear_models_gradient_times_input_is_perfect():
    x, model = images(side=16), linear(16)
    found = sensitivity_n(model, x, None, dg.GradientXInput(model).attribute(x))
    assert found.fractions.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert (found.grid, found.n_excluded.tolist()) == (8, [0] * 9)
    torch.testing.assert_close(found.correlations, torch.ones(3, 9).double(), rtol=0, atol=1e-12)
    opposite = sensitivity_n(model, x, None, -dg.GradientXInput(model).attribute(x))
    torch.testing.assert_close(opposite.mean, -torch.ones(9).double(), rtol=0, atol=1e-12)


def test_correlations_are_the_literal_ones():
    """An image and a mask at a time, pixels set one by one, numpy's correlation."""
    model, x, side, grid = convolutional(), images(), 6, 4
    attribution = dg.GradientXInput(model).attribute(x, 1)
    masks = random_masks(FRACTIONS, 7, grid)
    found = sensitivity_n(model, x, 1, attribution, fractions=FRACTIONS, n_masks=7, grid=grid, baseline=0.3)
    for image in range(3):
        for place in range(len(FRACTIONS)):
            drops, sums = [], []
            for mask in masks[place]:
                removed, total = x[image].clone(), 0.0
                for row in range(side):
                    for column in range(side):
                        if mask[row * grid // side, column * grid // side]:
                            removed[:, row, column] = 0.3
                            total += attribution[image, :, row, column].sum().item()
                drops.append((model(x[image][None]) - model(removed[None]))[0, 1].item())
                sums.append(total)
            expected = np.corrcoef(drops, sums)[0, 1]
            assert found.correlations[image, place].item() == pytest.approx(expected, abs=1e-10)


def test_masks_remove_exactly_their_share_and_upsample_to_nearest():
    masks = random_masks((0.1, 0.5), 20, 14, torch.Generator().manual_seed(3))
    assert masks.flatten(2).sum(2).unique(dim=1).tolist() == [[20], [98]]
    assert len(masks.flatten(2)[1].unique(dim=0)) == 20
    for side in (14, 15, 32, 224):
        up = nn.functional.interpolate(torch.arange(14.0)[None, None], size=side)
        assert torch.equal(cells_of(side, 14), up[0, 0].long())


@pytest.mark.parametrize(("side", "grid"), [(224, 14), (32, 8), (5, 5)])
def test_the_grid_adapts_to_the_image(side, grid):
    x = torch.ones(1, 1, side, side)
    found = sensitivity_n(lambda x: x.mean((2, 3)), x, None, x, fractions=[0.5], n_masks=2)
    assert found.grid == grid


def test_several_share_the_passes_and_nothing_depends_on_chunks_or_batches():
    rows, model, x = [], convolutional(), images()

    def counted(inputs):
        rows.append(len(inputs))
        return model(inputs)

    maps = {"x": x, "pixels": torch.randn(3, 1, 6, 6)}
    whole = sensitivity_n(counted, x, None, maps, fractions=FRACTIONS, n_masks=5)
    assert sum(rows) == 3 + 3 * (3 * 5 + 1)  # the prediction, then each image's masks and itself
    for size in (1, 4, 1000):
        chunked = sensitivity_n(
            model, x, None, maps, fractions=FRACTIONS, n_masks=5, internal_batch_size=size
        )
        for name in maps:
            torch.testing.assert_close(
                chunked[name].correlations, whole[name].correlations, rtol=0, atol=1e-10
            )
    alone = sensitivity_n(model, x[1:2], None, x[1:2], fractions=FRACTIONS, n_masks=5)
    torch.testing.assert_close(alone.correlations[0], whole["x"].correlations[1], rtol=0, atol=1e-10)
    again = sensitivity_n(
        model, x, None, x, fractions=FRACTIONS, n_masks=5, generator=torch.Generator().manual_seed(9)
    )
    assert not torch.allclose(again.correlations, whole["x"].correlations)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_does_not_vary_is_excluded_and_counted(dtype):
    model, x = convolutional().to(dtype), images().to(dtype)
    constant = torch.full((3, 1, 6, 6), 0.1, dtype=dtype)
    constant[1, 0, 0, 0] = 1.0
    found = sensitivity_n(model, x, 0, constant, fractions=[0.5], n_masks=9)
    assert found.correlations[:, 0].isnan().tolist() == [True, False, True]
    assert found.n_excluded.tolist() == [2]
    assert found.mean.item() == pytest.approx(found.correlations[1, 0].item())
    flat = sensitivity_n(lambda x: x.new_ones(len(x), 2), x, 0, x, fractions=[0.5], n_masks=9)
    assert (flat.n_excluded.tolist(), flat.mean.isnan().tolist()) == ([3], [True])


@pytest.mark.parametrize(
    ("attribution", "keywords", "words"),
    [
        (torch.zeros(3, 2, 5, 6), {}, r"\(3, 2, 5, 6\)"),
        (torch.full((3, 1, 6, 6), torch.nan), {}, "NaN"),
        (torch.zeros(3, 1, 6, 6), {"fractions": []}, "empty"),
        (torch.zeros(3, 1, 6, 6), {"fractions": [0.5, 1.0]}, "1.0 removes 36 of 36"),
        (torch.zeros(3, 1, 6, 6), {"fractions": [0.001]}, "0.001 removes 0 of 36"),
        (torch.zeros(3, 1, 6, 6), {"n_masks": 1}, "at least 2"),
        (torch.zeros(3, 1, 6, 6), {"fractions": [float("nan")]}, "fraction nan"),
        (torch.zeros(3, 1, 6, 6), {"grid": 7}, "6 pixels"),
        (torch.zeros(3, 1, 6, 6), {"grid": 3.5}, "3.5"),
    ],
)
def test_wrong_requests(attribution, keywords, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        sensitivity_n(convolutional(), images(), 0, attribution, **keywords)
