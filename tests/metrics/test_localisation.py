"""Localisation against closed forms and literal formulas."""

import math

import pytest
import torch

from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.localisation import boxes_as_masks, mass_inside, pointing_game, rank_inside


def maps(n=3, channels=2):
    return torch.randn(n, channels, 5, 6, generator=torch.Generator().manual_seed(4)).double()


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), rtol=0, atol=1e-12)


def box(n=1, **edges):
    where = {"left": 1, "top": 1, "right": 4, "bottom": 3, **edges}
    return boxes_as_masks(torch.tensor([list(where.values())] * n), 5, 6)


def test_boxes_end_before_their_ends():
    mask = box()[0]
    assert mask.nonzero().tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert box(right=90, bottom=90).sum() == 4 * 5
    assert torch.equal(box(left=0.6, right=3.6), box())


def test_the_highest_pixel_points():
    x = torch.zeros(4, 2, 5, 6)
    x[0, 0, 1, 1] = 1  # a corner of the mask
    x[1, 0, 4, 5] = 1  # (2, 2) from the mask's opposite corner
    x[2, :, 2, 2] = torch.tensor([5.0, -5.0])  # cancels: the map is constant and points to the first pixel
    x[3, 0, 1, 1], x[3, 0, 0, 1] = 1, 1  # a tie, of which the first is outside
    assert pointing_game(x, box(4)).tolist() == [1, 0, 0, 0]
    assert pointing_game(x, box(4), tolerance=1).tolist() == [1, 0, 0, 1]
    assert pointing_game(x, box(4), tolerance=2).tolist() == [1, 0, 1, 1]
    assert pointing_game(x, box(4), tolerance=3).tolist() == [1, 1, 1, 1]


def test_mass_and_rank_inside():
    mask = box(3)
    x = torch.full((3, 1, 5, 6), 0.25)
    x[1] = torch.where(mask[:1], 2.0, -3.0)
    x[2] = torch.where(mask[:1], -2.0, 3.0)
    close(mass_inside(x, mask), [6 / 30, 1, 0])
    close(rank_inside(x, mask)[1:], [1, 0])
    # The six first pixels of a constant map are the first row, outside the box.
    assert rank_inside(x, mask)[0] == 0
    half = torch.arange(30.0, 0, -1).view(1, 1, 5, 6)  # the six highest are the first row
    assert rank_inside(half, box(left=0, top=0, right=3, bottom=2)) == 0.5
    rows = maps()
    for measure in (mass_inside, rank_inside, pointing_game):
        close(measure(rows[1:2], mask[:1])[0], measure(rows, mask)[1])
        close(measure(rows, mask), measure(rows, mask[:, None]))
    close(mass_inside(rows * 1e3, mask), mass_inside(rows, mask))
    close(rank_inside(rows.sum(1, keepdim=True).exp(), mask), rank_inside(rows, mask))


def test_where_nothing_is_to_be_found():
    x, mask = maps(), box(3)
    mask[1] = False
    for measure in (pointing_game, mass_inside, rank_inside):
        assert measure(x, mask).isnan().tolist() == [False, True, False]
    assert mass_inside(-x.abs(), box(3)).isnan().all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: mass_inside(x, box(2)), r"\(2, 5, 6\).*expected \(3, 5, 6\)"),
        (lambda x: rank_inside(x, box(3).float()), "bool"),
        (lambda x: pointing_game(x / 0, box(3)), "NaN or infinity"),
        (lambda x: boxes_as_masks(x, 5, 6), r"\(B, 4\)"),
        (lambda x: box(right=1), "right = left"),
        (lambda x: box(top=math.nan), "box 0"),
    ],
)
def test_wrong_boxes_and_maps(call, words):
    with pytest.raises(InputError, match=words):
        call(maps())


def test_wrong_parameters():
    with pytest.raises(ParameterError, match="tolerance"):
        pointing_game(maps(), box(3), tolerance=-1)
    with pytest.raises(ParameterError, match="height 0"):
        boxes_as_masks(torch.tensor([[0, 0, 1, 1]]), 0, 6)
