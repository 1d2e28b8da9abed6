"""Noisy linear imputation against a dense solve, closed forms and the peer's sparse factorisation."""

import itertools

import pytest
import torch

from distillgrad.core.optional import optional
from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.imputation import noisy_linear_imputation


def impute(images, kept, **keywords):
    return noisy_linear_imputation(images, kept, **{"noise": 0.0, **keywords})


def seeded():
    return torch.Generator().manual_seed(7)


def images(n=4, height=37, width=45, dtype=torch.float64):
    return torch.randn(n, 2, height, width, generator=seeded(), dtype=torch.float64).to(dtype)


def masks(height=37, width=45):
    """Kept pixels: half and a tenth of them at random, a blob missing, two left of all."""
    chance = torch.rand(2, height, width, generator=seeded())
    blob, two = torch.ones(height, width).bool(), torch.zeros(height, width).bool()
    blob[2:, : width // 2] = False
    blob[3::6, 3::6] = False  # alone: several nodes of a coarser grid then correct the same pixel
    two[0, 0] = two[height // 2, 3] = True
    chance[:, -1, -1] = 1  # of the smallest images too something is kept
    return torch.stack([chance[0] > 0.5, chance[1] > 0.9, blob, two])


def literal(image, kept):
    """Every pixel's equation as it is published, pixel by pixel, and a dense solution of all."""
    n_channels, height, width = image.shape
    places = list(itertools.product(range(height), range(width)))
    matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
    right = torch.zeros(len(places), n_channels, dtype=torch.float64)
    for row, (y, x) in enumerate(places):
        matrix[row, row] = 1
        if kept[y, x]:
            right[row] = image[:, y, x]
            continue
        weights = {
            (y + dy) * width + x + dx: 1 / 12 if dy and dx else 1 / 6
            for dy, dx in itertools.product((-1, 0, 1), repeat=2)
            if (dy or dx) and 0 <= y + dy < height and 0 <= x + dx < width
        }
        for neighbour, weight in weights.items():
            matrix[row, neighbour] = -weight / sum(weights.values())
    return torch.linalg.solve(matrix, right).T.view_as(image)


@pytest.mark.parametrize("size", [(37, 45), (33, 17), (9, 64), (1, 7), (6, 5)])
def test_all_removed_pixels_are_solved_for_at_once(size):
    x, kept = images(4, *size), masks(*size)
    found = impute(x, kept)
    for row in range(4):
        torch.testing.assert_close(found[row], literal(x[row], kept[row]), rtol=0, atol=1e-8)
    single = impute(x.float(), kept)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), found, rtol=0, atol=1e-4)


def test_the_peer_agrees():
    optional("torchvision", "vision")  # the peer imports it, and not where its operators do not fit torch
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    x, kept = images(), masks()
    found = impute(x, kept)
    for row in range(4):
        # Its system and its solver: the peer's own call rounds to float32, and warns with numpy 2.
        system = road.NoisyLinearImputer.setup_sparse_system(
            kept[row].numpy(), x[row].numpy(), road.neighbors_weights
        )
        expected = torch.from_numpy(road.spsolve(road.csc_matrix(system[0]), system[1])).T
        torch.testing.assert_close(found[row][:, ~kept[row]], expected, rtol=0, atol=1e-8)


def test_what_solves_the_equations_comes_back():
    constant = torch.full((4, 2, 37, 45), 0.3)
    assert torch.equal(impute(constant, masks()), constant)
    y, x = torch.meshgrid(torch.arange(70).double(), torch.arange(90).double(), indexing="ij")
    linear = (2 + 0.3 * x - 0.1 * y).expand(1, 1, 70, 90)
    kept = torch.rand(1, 70, 90, generator=seeded()) > 0.5
    kept[:, 20:60, 3:70] = False
    kept[:, [0, -1]], kept[:, :, [0, -1]] = True, True  # a border would see what is beyond it missing
    torch.testing.assert_close(impute(linear, kept), linear, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kept_pixels_stay_and_removed_ones_do_not_enter(dtype):
    x, kept = images(dtype=dtype), masks()[:, None]
    before = x.clone()
    found = impute(x, kept, noise=0.1)
    assert found.dtype == dtype
    assert torch.equal(x, before)
    assert torch.equal(found.where(kept, 0), x.where(kept, 0))
    assert torch.equal(impute(x.where(kept, 9), kept, noise=0.1), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_does_not_depend_on_its_batch(dtype):
    x, kept = images(dtype=dtype), masks()
    x[0] = x[0] * 1e-30  # its own range counts
    kept[1] = torch.rand(37, 45, generator=seeded()) > 0.05  # needs no coarser grid, the others do
    together = impute(x, kept, noise=0.5)
    alone = torch.cat([impute(x[i : i + 1], kept[i : i + 1], noise=0.5) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5)


def test_nothing_and_everything_kept():
    x, kept = images(), masks()
    kept[1], kept[3] = True, False
    found = impute(x, kept)
    assert torch.equal(found[1], x[1])
    torch.testing.assert_close(found[3], x[3].mean((1, 2), keepdim=True).expand_as(x[3]))
    torch.testing.assert_close(found[[0, 2]], impute(x[[0, 2]], kept[[0, 2]]), rtol=0, atol=1e-12)


def test_noise_is_shared_seeded_and_only_on_removed_pixels():
    x, kept = images(), masks()
    noises = noisy_linear_imputation(x, kept, noise=0.5) - impute(x, kept)
    assert not noises.where(kept[:, None], 0).any()
    both = ~(kept[1] | kept[3])
    torch.testing.assert_close(noises[1][:, both], noises[3][:, both], rtol=0, atol=1e-12)
    assert noises[3].std().item() == pytest.approx(0.5, rel=0.05)
    again = noisy_linear_imputation(x, kept, noise=0.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, impute(x, kept, noise=0.5))
    assert not torch.equal(again, impute(x, kept, noise=0.5, generator=seeded()))


@pytest.mark.parametrize(
    ("x", "kept", "words"),
    [
        (torch.zeros(2, 5, 5), torch.ones(2, 5, 5).bool(), r"\(2, 5, 5\)"),
        (torch.zeros(2, 1, 5, 5).long(), torch.ones(2, 5, 5).bool(), "int64"),
        (torch.zeros(0, 1, 5, 5), torch.ones(0, 5, 5).bool(), "empty"),
        (torch.zeros(2, 1, 5, 5), torch.ones(2, 5, 5), "bool"),
        (torch.zeros(2, 3, 5, 5), torch.ones(2, 3, 5, 5).bool(), r"expected \(2, 1, 5, 5\) or \(2, 5, 5\)"),
        (torch.full((2, 1, 5, 5), torch.nan), torch.ones(2, 5, 5).bool(), "NaN"),
    ],
)
def test_wrong_inputs(x, kept, words):
    with pytest.raises(InputError, match=words):
        impute(x, kept)


@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf")])
def test_wrong_noise(noise):
    with pytest.raises(ParameterError, match="noise"):
        impute(images(), masks(), noise=noise)
