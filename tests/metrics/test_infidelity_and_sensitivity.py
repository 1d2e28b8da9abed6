"""Infidelity and maximal sensitivity against closed forms and literal loops."""

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.metrics.infidelity_and_sensitivity import infidelity, max_sensitivity
from networks import convolutional


def images(n=3):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(2)).double()


class Linear(nn.Module):
    """Two logits of known weights."""

    weights = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(3)).double()

    def forward(self, x):
        return torch.einsum("nchw,kchw->nk", x, self.weights.to(x))


def test_zero_for_a_linear_model_and_its_own_terms():
    x, w = images(), Linear.weights
    exact = infidelity(Linear(), x, [0, 1, 0], (x - 0.3) * w[[0, 1, 0]], baseline=0.3)
    torch.testing.assert_close(exact, torch.zeros(3).double(), rtol=0, atol=1e-20)
    gradient = infidelity(Linear(), x, 1, w[1].expand_as(x), perturbation="gaussian", sigma=0.5)
    torch.testing.assert_close(gradient, torch.zeros(3).double(), rtol=0, atol=1e-20)


def test_squares_are_removed_as_the_literal_loop_removes_them():
    model, x, attributions = convolutional(), images(), images().flip(0)
    found = infidelity(model, x, [2, 0, 1], attributions, n_draws=6, baseline=0.2, seed=4)
    generator, errors = torch.Generator().manual_seed(4), []
    for _ in range(6):
        side = torch.randint(1, 4, (), generator=generator).item()
        top, left = (torch.randint(7 - side, (), generator=generator).item() for _ in range(2))
        square = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
        removed = x.clone()
        removed[square] = 0.2
        drop = (model(x) - model(removed))[range(3), [2, 0, 1]]
        errors.append((attributions[square].sum((1, 2, 3)) - drop).square())
    torch.testing.assert_close(found, torch.stack(errors).mean(0).detach())


def test_gaussian_infidelity_of_nothing_is_the_models_own_change():
    x, zeros = images(), torch.zeros(3, 2, 6, 6)
    found = infidelity(Linear(), x, 0, zeros, perturbation="gaussian", sigma=0.1, n_draws=4000)
    expected = 0.01 * Linear.weights[0].square().sum()  # of N(0, σ²‖w‖²)
    torch.testing.assert_close(found, expected.expand(3), rtol=0.1, atol=0)


def test_normalised_infidelity_has_no_unit():
    x = images()
    attributions = x * Linear.weights[0]
    doubled = infidelity(Linear(), x, 0, 2 * attributions)
    assert (doubled > 1e-3).all()
    free = infidelity(Linear(), x, 0, 2 * attributions, normalize=True)
    torch.testing.assert_close(free, torch.zeros(3).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("perturbation", ["square", "gaussian"])
def test_infidelity_of_a_row_is_not_its_batchs_nor_its_chunks(perturbation):
    model, x, state = convolutional(), images(), torch.get_rng_state()
    attributions = dg.GradientXInput(model).attribute(x)
    request = {"perturbation": perturbation, "n_draws": 7, "baseline": x.flip(0)}
    whole = infidelity(model, x, None, attributions, **request)
    for size in (1, 2, 5, 8, 100):
        chunked = infidelity(model, x, None, attributions, internal_batch_size=size, **request)
        torch.testing.assert_close(chunked, whole)
    alone = infidelity(model, x[1:2], None, attributions[1:2], **{**request, "baseline": x.flip(0)[1:2]})
    torch.testing.assert_close(alone[0], whole[1])
    assert not torch.equal(whole, infidelity(model, x, None, attributions, seed=1, **request))
    assert torch.equal(torch.get_rng_state(), state)


def test_infidelity_spends_the_passes_it_names_and_takes_any_target():
    rows, model, x = [], convolutional(), images()

    def counted(inputs):
        rows.append(len(inputs))
        return model(inputs)

    found = infidelity(counted, x, lambda logits: logits[:, 0] - logits[:, 1], x, n_draws=20)
    assert sum(rows) == 3 * (20 + 1)
    difference = infidelity(
        lambda inputs: (model(inputs) @ torch.tensor([[1.0], [-1], [0], [0]]).double())[:, 0],
        x.to(memory_format=torch.channels_last),
        None,
        x.to(memory_format=torch.channels_last),
        n_draws=20,
    )
    torch.testing.assert_close(found, difference)


def test_sensitivity_of_known_explanations():
    x = images()
    constant = max_sensitivity(lambda inputs, _: torch.ones_like(inputs), x, 0)
    assert constant.tolist() == [0.0] * 3
    assert max_sensitivity(lambda inputs, _: 0 * inputs, x, 0).tolist() == [0.0] * 3
    generator = torch.Generator().manual_seed(6)
    draws = [0.1 * (2 * torch.rand(2, 6, 6, generator=generator, dtype=torch.float64) - 1) for _ in range(5)]
    expected = max(draw.norm() for draw in draws) / x.flatten(1).norm(dim=1)
    identity = max_sensitivity(lambda inputs, _: inputs, x, 0, radius=0.1, n_draws=5, seed=6)
    torch.testing.assert_close(identity, expected)


def test_sensitivity_of_a_row_is_not_its_batchs_nor_its_chunks():
    model, x, sizes = convolutional(), images(), []
    target, state = torch.tensor([3, 0, 2]), torch.get_rng_state()

    def explain(inputs, target):
        sizes.append(len(inputs))
        return dg.UniformFullGrad(model).attribute(inputs, target)

    whole = max_sensitivity(explain, x, target, n_draws=4)
    assert sizes == [3] * 5
    for size in (1, 2, 7, 100):
        torch.testing.assert_close(
            max_sensitivity(explain, x, target, n_draws=4, internal_batch_size=size), whole
        )
    torch.testing.assert_close(max_sensitivity(explain, x[1:2], 0, n_draws=4)[0], whole[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert (max_sensitivity(explain, x, target, n_draws=8) >= whole).all()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"attributions": torch.zeros(3, 1, 6, 6)}, r"\(3, 2, 6, 6\), not \(3, 1, 6, 6\)"),
        ({"attributions": torch.full((3, 2, 6, 6), torch.nan)}, "NaN"),
        ({"attributions": None}, "NoneType"),
        ({"perturbation": "squares"}, "square"),
        ({"n_draws": 0}, "n_draws"),
        ({"sigma": 0}, "sigma"),
        ({"internal_batch_size": 0}, "at least 1"),
        ({"target": 9}, "target 9"),
        ({"inputs": torch.zeros(3, 8)}, r"\(3, 8\)"),
    ],
)
def test_wrong_requests_of_infidelity(changed, words):
    request = {"model": convolutional(), "inputs": images(), "target": 0, "attributions": images()}
    with pytest.raises(dg.errors.DistillgradError, match=words):
        infidelity(**{**request, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"target": None}, "name the class"),
        ({"radius": -1}, "radius"),
        ({"n_draws": True}, "n_draws"),
        ({"attribute": lambda inputs, _: inputs[:, 0]}, r"\(3, 6, 6\)"),
    ],
)
def test_wrong_requests_of_sensitivity(changed, words):
    request = {"attribute": lambda inputs, _: inputs, "inputs": images(), "target": 0}
    with pytest.raises(dg.errors.DistillgradError, match=words):
        max_sensitivity(**{**request, **changed})
