"""Explanations under noise on the input."""

import pytest
import torch

import distillgrad as dg
from distillgrad.metrics.noise import noise_robustness
from distillgrad.metrics.similarity import spearman, ssim
from networks import convolutional


def images(n=3):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(2)).double()


def of_pixels(inputs, target):
    """An explanation of pixels that does not depend on a model."""
    return inputs.sum(1, keepdim=True)


def test_noise_is_the_same_for_every_strength_and_image():
    model, x, seen = convolutional(), images(), []

    def explain(inputs, target):
        seen.append((inputs.clone(), target))
        return inputs

    found = noise_robustness(model, explain, x, None, sigmas=(0.1, 0.3), n_steps=4, seed=5)
    assert torch.equal(seen[0][0], x)
    z = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(seen[1][0], x + 0.1 * z)
    torch.testing.assert_close(seen[2][0], x + 0.3 * z)
    predicted = model(x).argmax(1)
    assert all(torch.equal(target, predicted) for _, target in seen)
    assert found.sigmas.tolist() == [0.1, 0.3]
    for column, sigma in enumerate((0.1, 0.3)):
        torch.testing.assert_close(found.spearman[:, column], spearman(x, x + sigma * z))
        torch.testing.assert_close(found.ssim[:, column], ssim(x, x + sigma * z))


def test_areas_are_of_each_explanation_on_its_own_image():
    model, x, z = convolutional(), images(), images().flip(0)
    explain = dg.UniformFullGrad(model).attribute
    found = noise_robustness(model, explain, x, 1, sigmas=[0.2], noise=z, n_steps=9, baseline=0.1)
    for column, noisy in enumerate((x, x + 0.2 * z)):
        for order, areas in (("morf", found.morf), ("lerf", found.lerf)):
            expected = dg.metrics.pixel_perturbation(
                model, noisy, 1, explain(noisy, 1), order=order, n_steps=9, baseline=0.1
            )
            torch.testing.assert_close(areas[:, column], expected.auc)


def test_noise_of_a_row_is_not_its_batchs():
    model, x = convolutional(), images()
    explain = dg.DGA(model, n_steps=3).attribute
    together = noise_robustness(model, explain, x, None, n_steps=4)
    alone = noise_robustness(model, explain, x[2:], None, n_steps=4, internal_batch_size=2)
    for name in ("spearman", "ssim", "morf", "lerf"):
        torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[2], rtol=0, atol=1e-9)


def test_likeness_falls_with_strength_and_nothing_is_likeness_one():
    found = noise_robustness(
        convolutional(), of_pixels, images(), 0, sigmas=(0, 0.1, 1, 10), perturbation=False
    )
    assert found.morf is found.lerf is None
    torch.testing.assert_close(found.spearman[:, 0], torch.ones(3).double())
    assert (found.spearman.mean(0).diff() < 0).all()
    assert (found.ssim.mean(0).diff() < 0).all()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"sigmas": ()}, "at least one"),
        ({"sigmas": (0.1, -1)}, "≥ 0"),
        ({"sigmas": (float("inf"),)}, "finite"),
        ({"noise": torch.zeros(2, 5, 5)}, r"\(2, 5, 5\)"),
        ({"noise": torch.full((1,), torch.nan)}, "NaN"),
        ({"inputs": torch.zeros(3, 12)}, r"\(3, 12\)"),
        ({"attribute": lambda x, _: x.mean(1)}, r"attribute\(inputs, target\) gave \(3, 6, 6\)"),
        ({"target": 7}, "target 7"),
        ({"baseline": "blurr"}, "blur"),
    ],
)
def test_wrong_requests_of_noise(keywords, words):
    request = {
        "model": convolutional(),
        "attribute": of_pixels,
        "inputs": images(),
        "target": 0,
        "n_steps": 4,
    }
    with pytest.raises(dg.errors.DistillgradError, match=words):
        noise_robustness(**{**request, **keywords})
