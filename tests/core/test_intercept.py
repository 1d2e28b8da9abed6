"""What is seen inside a call: guided ReLUs of every spelling, every bias that is added."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.intercept import captured_biases, guided_relu
from distillgrad.core.optional import optional
from distillgrad.core.wrappers import unwrapped
from networks import convolutional

SPELLINGS = {
    "module": nn.ReLU,
    "module, in place": lambda: nn.ReLU(inplace=True),
    "function": lambda: functional.relu,
    "function, in place": lambda: lambda x: functional.relu(x, inplace=True),
    "function, in place by position": lambda: lambda x: functional.relu(x, True),
    "function, by name": lambda: lambda x: functional.relu(input=x),
    "torch.relu": lambda: torch.relu,
    "torch.relu_": lambda: torch.relu_,
    "method": lambda: lambda x: x.relu(),
    "method, in place, result unused": lambda: in_place_and_go_on,
    "relu6": nn.ReLU6,
    "relu6, in place": lambda: lambda x: functional.relu6(x, inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.2),
    "leaky, in place": lambda: lambda x: functional.leaky_relu(x, 0.2, True),
}


def in_place_and_go_on(x):
    x.relu_()
    return x


class Literal(nn.Module):
    """Guided back-propagation by its definition: the gradient that reaches an activation, clipped."""

    def __init__(self, kind):
        super().__init__()
        self.activate = {
            "relu6": functional.relu6,
            "leaky": lambda x: functional.leaky_relu(x, 0.2),
        }.get(kind, functional.relu)

    def forward(self, x):
        activated = self.activate(x)
        if activated.requires_grad:
            activated.register_hook(lambda gradient: gradient.clamp(min=0))
        return activated


class Net(nn.Module):
    """Two layers; the same activation is used twice."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.ModuleList([nn.Linear(8, 12), nn.Linear(12, 10), nn.Linear(10, 3)]).double()
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.layers[0](x) * 4)
        return self.layers[2](self.activation(self.layers[1](x) + 0.1))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_guided_gradients_are_the_definition_in_every_spelling(spelling):
    x = torch.randn(5, 8).double()
    literal = Net(Literal(spelling.split(",")[0]))
    _, expected, _ = value_and_gradient(literal, x, torch.full((5,), 1))
    found = dg.GuidedBackprop(Net(SPELLINGS[spelling]())).attribute(x, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    _, plain, _ = value_and_gradient(Net(literal.activation.activate), x, torch.full((5,), 1))
    assert not torch.allclose(found, plain)


def test_inception_equals_a_copy_rewritten_by_hand():
    """Inception-v3 calls functional.relu: hooks on modules would silently give the plain gradient."""
    torchvision = optional("torchvision.models.inception", "vision")
    torch.manual_seed(0)
    model = dg.load_model("torchvision:inception_v3", pretrained=False).model
    for name, parameter in model.named_parameters():
        if "conv.weight" in name:  # the default weights let the signal fade to rounding
            nn.init.kaiming_normal_(parameter)

    class Rewritten(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.conv, self.bn, self.relu = block.conv, block.bn, Literal("relu")

        def forward(self, x):
            return self.relu(self.bn(self.conv(x)))

    rewritten = copy.deepcopy(model)
    for module in list(rewritten.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torchvision.BasicConv2d):
                setattr(module, name, Rewritten(child))
    x = torch.randn(1, 3, 80, 80)
    _, expected, _ = value_and_gradient(rewritten, x, torch.tensor([7]))
    found = dg.GuidedBackprop(model).attribute(x, 7)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-6)
    plain = dg.GradientXInput(model).attribute(x, 7) / x
    assert (found - plain).abs().max() > 0.1 * scale


def test_a_model_without_relu_is_refused():
    with pytest.raises(dg.errors.ModelError, match="no ReLU"):
        dg.GuidedBackprop(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2))).attribute(
            torch.ones(1, 4)
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_wrappers_are_taken_off_and_hidden_parts_refused():
    model, x = convolutional(), torch.randn(2, 2, 6, 6).double()
    expected = dg.GuidedBackprop(model).attribute(x, 1)
    for wrapped in (nn.DataParallel(model), torch.compile(model), nn.DataParallel(nn.DataParallel(model))):
        assert unwrapped(wrapped) is model
        torch.testing.assert_close(dg.GuidedBackprop(wrapped).attribute(x, 1), expected)
    function = torch.compile(model.forward)
    torch.testing.assert_close(dg.GuidedBackprop(function).attribute(x, 1), expected)
    nested = nn.Sequential(nn.Sequential(torch.compile(convolutional())))
    with pytest.raises(dg.errors.ModelError, match=r"0\.0 \(OptimizedModule\)"):
        dg.GuidedBackprop(nested).attribute(x, 1)


def test_another_thread_is_not_seen():
    model, x = convolutional(), torch.randn(2, 2, 6, 6).double()
    target = torch.tensor([1, 1])
    plain = value_and_gradient(model, x, target)[1]
    found = []
    with guided_relu():
        model(x)
        thread = threading.Thread(
            target=lambda: found.append(value_and_gradient(model, x, torch.tensor([1, 1])))
        )
        thread.start()
        thread.join()
    assert torch.equal(found[0][1], plain)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_bias_is_captured_once(dimensions):
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dimensions - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]

    class Every(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = convolution(2, 3, 3, padding=1), norm(3)
            self.bare, self.up = norm(3, affine=False), transposed(3, 2, 2)
            self.unbiased, self.head = convolution(2, 2, 1, bias=False), nn.Linear(2, 3)
            self.unused, self.shift = nn.Linear(2, 3), nn.Parameter(torch.randn(3))

        def forward(self, x):
            x = (x - 0.3) / 2
            x = self.norm(self.first(x)).relu_()
            x = self.bare(1.5 - x)
            x = self.unbiased(functional.relu(self.up(x), inplace=True).mul(2).add_(0.2))
            x = x.flatten(2).mean(2)
            self.unused(x)
            return self.head(x) + self.shift

    model = Every().double()
    model(torch.randn(8, 2, *(4,) * dimensions).double())  # statistics that are not the initial ones
    x = torch.randn(2, 2, *(4,) * dimensions).double()
    residual = dg.FullGrad(model.eval()).residual(x, 1)
    assert (residual.abs() <= 1e-12 * model(x)[:, 1].abs() + 1e-13).all()
    terms = []
    with captured_biases(lambda bias, gradient: terms.append((bias, gradient))):
        value_and_gradient(model, x, torch.tensor([1, 1]))
    # first, norm, bare, up, head; in sums: −0.3, 1.5, 0.2 and the parameter
    assert len(terms) == 9


def test_batch_statistics_are_refused():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    with pytest.raises(dg.errors.ModelError, match="statistics of the batch"):
        dg.FullGrad(model).attribute(torch.randn(2, 2, 4, 4), 0)
