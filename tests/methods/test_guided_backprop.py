"""Guided back-propagation: rectifiers in every form, and what is refused because it is none."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import distillgrad as dg
from distillgrad.core.forward import value_and_gradient
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
    "clamp": lambda: lambda x: x.clamp(min=0),
    "clamp, in place": lambda: lambda x: x.clamp_(min=0),
    "clamp, by a tensor": lambda: lambda x: x.clamp(min=torch.zeros(())),
    "clamp_min": lambda: lambda x: x.clamp_min(0),
    "clip": lambda: lambda x: torch.clip(x, min=0),
    "threshold": lambda: nn.Threshold(0, 0),
    "maximum": lambda: lambda x: torch.maximum(x, torch.zeros(())),
    "maximum, the other way": lambda: lambda x: torch.maximum(torch.zeros_like(x), x),
    "fmax": lambda: lambda x: torch.fmax(x, torch.zeros(())),
    "where": lambda: lambda x: torch.where(x > 0, x, 0.0),
    "where, the other way": lambda: lambda x: torch.where(x <= 0, torch.zeros_like(x), x),
    "masked_fill": lambda: lambda x: x.masked_fill(x < 0, 0),
    "mask": lambda: lambda x: x * (x > 0),
    "mask of floats": lambda: lambda x: (x >= 0).to(x) * x,
    "operator": lambda: torch.ops.aten.relu.default,
    "prelu": lambda: lambda x: functional.prelu(x, x.new_zeros(1)),
    "on a part": lambda: on_a_part,
    "relu6, clamp": lambda: lambda x: x.clamp(0, 6),
    "relu6, in steps": lambda: lambda x: x.relu().clamp_max(6),
    "relu6, hardtanh": lambda: nn.Hardtanh(0, 6),
    "leaky, where": lambda: lambda x: torch.where(x > 0, x, 0.2 * x),
    "leaky, the other way": lambda: lambda x: torch.where(x < 0, x * 0.2, x),
    "leaky, prelu": lambda: lambda x: functional.prelu(x, x.new_full((1,), 0.2)),
    "leaky, rrelu": lambda: lambda x: functional.rrelu(x, 0.2, 0.2),
    "checkpointed": lambda: lambda x: checkpoint(functional.relu, x, use_reentrant=False),
}


def in_place_and_go_on(x):
    x.relu_()
    return x


def on_a_part(x):
    """Write the ReLU of one half in place, as a view of the whole; the other half in place after."""
    x = x.clone()
    x[:, :5].clamp_(min=0)
    return torch.cat([x[:, :5], x[:, 5:].relu()], 1)


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
        dg.GuidedBackprop(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))).attribute(torch.ones(1, 4))


class Squash(torch.autograd.Function):
    """A function of the model's own, whose inside is not differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


NO_RECTIFIERS = {
    r"gelu\(\)": functional.gelu,
    r"silu\(\)": functional.silu,
    r"hardswish\(\)": functional.hardswish,
    r"elu\(\)": functional.elu,
    r"softplus\(\)": functional.softplus,
    r"abs\(\)": torch.abs,
    r"tanh\(\) as an activation": torch.tanh,
    r"sigmoid\(\) as an activation": lambda x: 2 * torch.sigmoid(x) - 1,
    r"sin\(\) as an activation": torch.sin,
    r"x · g\(x\)": lambda x: x * torch.sigmoid(1.7 * x),
    r"x · g\(x\) as": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    r"hardtanh\(\) at bounds": functional.hardtanh,
    r"clamp_min\(\) at bounds": lambda x: x.clamp_min(0.5),
    r"minimum\(\) at bounds": lambda x: torch.minimum(x, x.new_zeros(())),
    r"threshold\(threshold=1": lambda x: functional.threshold(x, 1, 0),
    r"where\(\) by": lambda x: torch.where(x > 0, x, x.exp() - 1),
    r"masked_fill\(\) by": lambda x: x.masked_fill(x < 1, 0),
    r"a product with a mask": lambda x: x * (x > 1),
    r"autograd function Squash": Squash.apply,
}


@pytest.mark.parametrize("reason", NO_RECTIFIERS)
def test_what_would_pass_the_plain_gradient_is_refused_by_name(reason):
    """Beside a ReLU that is met: the map would be of two kinds, without a word."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = Net(NO_RECTIFIERS[reason])

        def forward(self, x):
            return self.inside(functional.relu(x + 1))

    with pytest.raises(dg.errors.ModelError, match=rf"{reason}.*: inside\."):
        dg.GuidedBackprop(Mixed()).attribute(torch.randn(5, 8).double(), 1)


def test_off_the_path_nothing_counts():
    """A table of positions with a GELU refuses nothing; a ReLU there is none that was met."""

    class Positions(nn.Module):
        def __init__(self, activation, table):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last, self.table = nn.Linear(8, 12), nn.Linear(12, 3), nn.Linear(2, 12)
            self.activation, self.of_table = activation, table

        def forward(self, x):
            return self.last(self.activation(self.first(x) + self.of_table(self.table(x.new_ones(2)))))

    x = torch.randn(2, 8)
    relu, gelu = functional.relu, functional.gelu
    assert dg.GuidedBackprop(Positions(relu, gelu)).attribute(x, 1).any()
    with pytest.raises(dg.errors.ModelError, match=r"gelu\(\)"):
        dg.GuidedBackprop(Positions(gelu, relu)).attribute(x, 1)


def test_gates_norms_attention_and_selections_keep_their_gradient():
    """What Springenberg et al. left alone: squeeze and excitation, gated halves, softmax, max-pooling."""

    class Gated(nn.Module):
        def __init__(self, relu):
            super().__init__()
            torch.manual_seed(0)
            self.relu, self.conv, self.norm = relu, nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)
            self.squeeze, self.attention = nn.Conv2d(8, 8, 1), nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = self.relu(self.norm(self.conv(x)))
            x = functional.max_pool2d(x, 2) * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
            tokens = functional.normalize(functional.glu(x, 1).flatten(2).transpose(1, 2), dim=2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    x = torch.randn(2, 3, 8, 8)
    literal = value_and_gradient(Gated(Literal("relu")).eval(), x, torch.tensor([1, 1]))[1]
    torch.testing.assert_close(dg.GuidedBackprop(Gated(nn.ReLU())).attribute(x, 1), literal)


def test_exported_programs_are_guided():
    model, x = Net(functional.relu), torch.randn(5, 8).double()
    exported = torch.export.export(model, (x,)).module()
    expected = dg.GuidedBackprop(model).attribute(x, 1)
    torch.testing.assert_close(dg.GuidedBackprop(exported).attribute(x, 1), expected)


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
