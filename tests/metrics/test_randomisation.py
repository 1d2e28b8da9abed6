"""Explanations of models whose parameters are randomised."""

import copy
import threading

import pytest
import torch
from computed_weights import KINDS, computing, plain_of
from torch import nn

import distillgrad as dg
from distillgrad.metrics.randomisation import parameter_randomisation
from networks import FunctionalReused, WithDropout, convolutional


def images(n=3):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(2)).double()


def of_pixels(inputs, target):
    """An explanation of pixels that does not depend on a model."""
    return inputs.sum(1, keepdim=True)


def gradient_of(model):
    return dg.GradientXInput(model).attribute


def test_the_model_and_the_random_numbers_stay_as_they_are():
    model = WithDropout().train()
    before, state, flags = (
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
        [module.training for module in model.modules()],
    )
    first = parameter_randomisation(model, gradient_of, images(), None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    again = parameter_randomisation(model, gradient_of, images(), None)
    assert torch.equal(first.spearman, again.spearman)
    other = parameter_randomisation(model, gradient_of, images(), None, seed=1)
    assert not torch.equal(first.spearman, other.spearman)


def test_stages_go_from_the_output_to_the_input_and_end_in_an_untrained_model():
    model, x, networks, told = convolutional(), images(), [], []
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    nn.init.uniform_(model[1].bias, 0.1, 0.5)

    def explain_and_keep(network):
        networks.append(copy.deepcopy(network.state_dict()))
        return gradient_of(network)

    each = parameter_randomisation(model, explain_and_keep, x, 0, n_stages=None, on_stage=told.append)
    assert each.stages == tuple(told) == ("7", "4", "1", "0")
    trained, *randomised = networks
    for stage, state in enumerate(randomised):
        for name, value in state.items():
            changed = not torch.equal(value, trained[name])
            assert changed == (name.split(".")[0] in each.stages[: stage + 1]), (stage, name)
    last = randomised[-1]
    assert torch.equal(last["1.running_mean"], torch.zeros(5).double())
    assert torch.equal(last["1.weight"], torch.ones(5).double())
    assert last["0.weight"].abs().max() <= 1 / 18**0.5  # PyTorch's own initialisation
    merged = parameter_randomisation(model, gradient_of, x, 0, n_stages=2)
    assert merged.stages == ("4", "0")
    torch.testing.assert_close(merged.spearman, each.spearman[:, [1, 3]])
    torch.testing.assert_close(merged.ssim, each.ssim[:, [1, 3]])


def test_an_explanation_that_ignores_the_model_stays_and_one_of_what_it_learned_goes():
    torch.manual_seed(1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2 * 16 * 16, 3)).double()
    x = torch.randn(4, 2, 16, 16).double()
    edges = parameter_randomisation(linear, lambda model: of_pixels, x, 0)
    torch.testing.assert_close(edges.spearman, torch.ones(4, 1).double())
    torch.testing.assert_close(edges.ssim, torch.ones(4, 1).double())
    gradient = parameter_randomisation(linear, lambda model: dg.Saliency(model).attribute, x, 0)
    assert gradient.spearman.abs().max() < 0.2  # two draws of 512 independent weights


def test_parameters_without_a_reset_keep_their_mean_and_spread():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(3 + 2 * torch.randn(1, 2, 40, 40).double())
            self.gain = nn.Parameter(torch.full((2,), 0.5).double())

        def forward(self, x):
            return (x * self.token).sum((2, 3)) * self.gain

    seen = []
    found = parameter_randomisation(
        Scaled(),
        lambda model: lambda x, _: seen.append(copy.deepcopy(model)) or x * model.token.detach(),
        torch.randn(1, 2, 40, 40).double(),
        0,
    )
    assert found.stages == ("Scaled",)
    trained, random = seen
    assert not torch.equal(trained.token, random.token)
    assert random.token.mean().item() == pytest.approx(3, abs=0.2)
    assert random.token.std().item() == pytest.approx(2, abs=0.2)
    assert torch.equal(trained.gain, random.gain)


def test_any_network_and_a_target_that_is_fixed():
    x, targets = images(), []

    def explain(model):
        return lambda inputs, target: targets.append(target) or gradient_of(model)(inputs, target)

    model = FunctionalReused().double().eval()
    found = parameter_randomisation(model, explain, x, None)
    assert found.stages == ("second", "first")
    assert all(torch.equal(target, model(x.clone()).argmax(1)) for target in targets)
    alone = parameter_randomisation(model, explain, x[1:2], None)
    torch.testing.assert_close(alone.spearman[0], found.spearman[1])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"quantised", "own forward"}))
def test_computed_weights_are_randomised_and_not_what_computes_them_again(kind):
    model, networks, x = computing(kind), [], images().float()
    logits = model(x).detach()

    def keep(network):
        networks.append(copy.deepcopy(network))
        return gradient_of(network)

    found = parameter_randomisation(model, keep, x, 0, n_stages=None)
    trained, *_, last = networks
    torch.testing.assert_close(trained(x), logits)
    assert torch.equal(model(x), logits)
    before = dict(trained.named_parameters())
    for name, values in last.named_parameters():
        assert name == "1.bias" or not torch.equal(values, before[name]), name
    if kind.startswith(("weight", "spectral", "pruned", "channels", "biases", "parametrised", "buffer")):
        expected = parameter_randomisation(plain_of(computing(kind)), gradient_of, x, 0, n_stages=None)
        assert found.stages == expected.stages == ("7", "3", "1", "0")
        torch.testing.assert_close(found.ssim, expected.ssim, rtol=1e-3, atol=1e-4)


def test_a_frozen_batch_norm_is_randomised_too():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in {"weight": 3.0, "bias": 2.0, "running_mean": 1.0, "running_var": 4.0}.items():
                self.register_buffer(name, value + torch.arange(2.0).double())

        def forward(self, x):
            scale = self.weight / self.running_var.sqrt()
            return (x.sum((2, 3)) - self.running_mean) * scale + self.bias

    last = []

    def keep(network):
        last.append(copy.deepcopy(network))
        return of_pixels

    parameter_randomisation(Frozen(), keep, images(), 0)
    trained, random = last
    assert not torch.equal(random.weight, trained.weight)
    assert not torch.equal(random.bias, trained.bias)
    assert random.running_mean.tolist() == [0, 0]
    assert random.running_var.tolist() == [1, 1]


def test_quantised_weights_cannot_be_randomised():
    with pytest.raises(dg.errors.ModelError, match=r"weight of 0 is a Rounded of torch\.float32"):
        parameter_randomisation(computing("quantised"), gradient_of, images().float(), 0)


def test_a_function_that_would_go_on_with_the_trained_layers_is_refused():
    with pytest.raises(dg.errors.ModelError, match=r"0 \(Conv2d\) calls a function that holds layers"):
        parameter_randomisation(computing("own forward"), gradient_of, images().float(), 0)


def test_models_that_cannot_be_randomised():
    uncopied = nn.Linear(72, 2)
    uncopied.lock = threading.Lock()
    for model, words in ((lambda x: x, "nn.Module"), (nn.Flatten(), "no parameters"), (uncopied, "copied")):
        with pytest.raises(dg.errors.ModelError, match=words):
            parameter_randomisation(model, gradient_of, images(), 0)
    with pytest.raises(dg.errors.ParameterError, match="n_stages"):
        parameter_randomisation(convolutional(), gradient_of, images(), 0, n_stages=0)
    with pytest.raises(dg.errors.InputError, match=r"\(3, 12\)"):
        parameter_randomisation(convolutional(), gradient_of, torch.zeros(3, 12), 0)
