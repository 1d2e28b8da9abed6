"""ReLUs within convolutions beside torch's own: the same values, gradients and refusals."""

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

import distillgrad as dg
from distillgrad.core.acceleration.data_flow import data_flow
from distillgrad.core.acceleration.prepacked_convolution import PrepackedConv2d
from distillgrad.core.acceleration.relu_fusion import FusedReLU, fusable_relus, fuse_relus

CHANNELS_LAST = torch.channels_last


def images(n=3):
    return torch.randn(n, 2, 9, 9, generator=torch.Generator().manual_seed(1))


class Flow(nn.Module):
    """Convolutions, batch norm and ReLUs, connected by a function of them and the inputs."""

    def __init__(self, flow):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.nothing, self.norm = nn.Identity(), nn.BatchNorm2d(6)
        self.relu, self.in_place = nn.ReLU(), nn.ReLU(inplace=True)
        self.flow = flow
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))
        self.requires_grad_(False).eval()

    def forward(self, x):
        return self.head(self.flow(self, x))


def residual(m, x):
    rest = m.in_place(m.one(x))
    inner = m.in_place(m.norm(m.two(rest))) + rest
    return m.in_place(inner - 0.5)  # the same module: here it has something to do


FLOWS = {
    "in a row": (lambda m, x: m.in_place(m.two(m.relu(m.one(x)))), ["one", "two"]),
    "reused, in place, with a norm between": (residual, ["one", "two"]),
    "an identity between": (lambda m, x: m.relu(m.nothing(m.one(x))), ["one"]),
    "used twice": (lambda m, x: sum(each(y) for y in [m.one(x)] for each in (m.relu, torch.tanh)), []),
    "an identity used twice": (
        lambda m, x: sum(each(y) for y in [m.nothing(m.one(x))] for each in (m.relu, torch.tanh)),
        [],
    ),
    "called twice": (lambda m, x: m.relu(m.one(x)) + m.relu(m.one(-x)), []),
    "a function": (lambda m, x: relu(m.one(x)), []),
    "an activation of something else": (lambda m, x: m.relu(m.one(x) + 1), []),
}


def answers(model, inputs):
    leaf = inputs.clone().requires_grad_()
    logits = model(leaf)
    with torch.no_grad():
        alone = model(inputs)
    return alone, logits.detach(), torch.autograd.grad(logits.square().sum(), leaf)[0]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", FLOWS)
def test_the_function_stays_the_same(name, channels_last):
    flow, expected = FLOWS[name]
    model, x = Flow(flow), images()
    model.norm.running_mean.normal_()
    fast = dg.accelerate(model, x, channels_last=channels_last)
    found = [each for each, module in fast.network.named_modules() if getattr(module, "fuses_relu", False)]
    assert found == expected
    assert (f"ReLUs within convolutions: {len(expected)}" in fast.applied) == bool(expected)
    for n in (3, 1):
        for one, other in zip(answers(fast, x[:n]), answers(model, x[:n]), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_rounds_as_torch_does():
    model, x = Flow(FLOWS["in a row"][0]), images()
    fast = dg.accelerate(model, x, precision="bfloat16", channels_last=True)
    expected = dg.accelerate(model, x, precision="bfloat16", channels_last=True)
    fuse_relus(expected.network, [("one", "relu"), ("two", "in_place")], False)
    for one, other in zip(answers(fast, x), answers(expected, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_it_is_computed_once_and_what_is_written_into_it_is_seen():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()).requires_grad_(False)
    x, plain = images().contiguous(memory_format=CHANNELS_LAST), nn.ReLU()
    expected = model(x)
    fuse_relus(model, fusable_relus(data_flow(model)))
    convolved = model[0](x)
    torch.testing.assert_close(convolved, expected)
    assert model[1](convolved) is convolved
    convolved -= 1
    torch.testing.assert_close(model[1](convolved), plain(expected - 1))


def test_a_gradient_of_the_gradient_and_whoever_watches():
    flow, _ = FLOWS["reused, in place, with a norm between"]
    model, x = Flow(flow), images()
    fast = dg.accelerate(model, x, channels_last=True)

    def curvature(network):
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(leaf).pow(3).sum(), leaf, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), leaf)[0]

    torch.testing.assert_close(curvature(fast), curvature(model), rtol=1e-4, atol=1e-5)
    found, expected = (dg.GuidedBackprop(each).attribute(x, 1) for each in (fast, model))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["deep_lift", "lrp", "gradcam", "fullgrad"])
def test_methods_that_look_at_layers_find_torch_s_own(method):
    model, x = Flow(FLOWS["in a row"][0]), images()
    fast = dg.accelerate(model, x, channels_last=True)
    assert "ReLUs within convolutions: 2" in fast.applied
    found, expected = (dg.create_method(method, each).attribute(x, 1) for each in (fast, model))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.Conv2d(2, 4, 3, dtype=torch.float64),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3)),
        nn.ConvTranspose2d(2, 4, 3),
    ],
)
def test_other_convolutions_keep_out_of_it(layer):
    model = nn.Sequential(layer, nn.ReLU()).requires_grad_(False)
    assert not fusable_relus(data_flow(model))


def test_hooked_or_derived_activations_stay():
    class Louder(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda _module, _inputs, output: output + 1)
    for activation in (Louder(), hooked, nn.ReLU6()):
        model = nn.Sequential(nn.Conv2d(2, 4, 3), activation).requires_grad_(False)
        assert not fusable_relus(data_flow(model))


def test_a_branch_on_stand_ins_is_found_out():
    def flow(m, x):
        y = m.one(x)
        return m.relu(y) + 1e-4 * y.tanh() if isinstance(x, torch.Tensor) else m.relu(y)

    model, x = Flow(flow), images()
    assert fusable_relus(data_flow(model)) == [("one", "relu")]  # it believes so
    fast = dg.accelerate(model, x, channels_last=True)
    assert not any("ReLU" in each for each in fast.applied)
    assert any("ReLU" in each for each in fast.skipped)
    torch.testing.assert_close(fast(x), model(x))


def test_compilers_are_left_the_layers_that_they_know(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda *_: None)
    fast = dg.accelerate(Flow(FLOWS["in a row"][0]), images(), compile=True, channels_last=True)
    assert not any(isinstance(each, PrepackedConv2d | FusedReLU) for each in fast.modules())
    assert "torch.compile" in fast.applied
