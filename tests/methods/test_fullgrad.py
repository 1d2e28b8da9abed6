"""FullGrad: completeness on real architectures, and its map by the authors' definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from networks import convolutional, lively


@pytest.mark.parametrize(
    ("name", "dtype", "side"),
    [
        ("resnet18", torch.float32, 64),
        ("resnet18", torch.float64, 64),
        ("vgg16", torch.float64, 32),
        ("inception_v3", torch.float64, 80),
        ("squeezenet1_1", torch.float32, 64),
    ],
)
def test_the_decomposition_is_complete(name, dtype, side):
    model = lively(name, dtype)
    x = torch.randn(2, 3, side, side, dtype=dtype)
    score = model(x)[:, 5].detach()
    residual = dg.FullGrad(model).residual(x, 5)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert (residual.abs() <= tolerance * score.abs()).all()


def published_scaling(term):
    """Ψ before enlarging, as the authors published it, for one sample at a time."""
    rows = []
    for row in term.abs():
        shifted = row - row.min()
        rows.append(shifted / (shifted.max() + 1e-6))
    return torch.stack(rows)


def test_the_map_is_the_authors_definition():
    """Every layer by hand: gradients at each layer's output, batch norm's implicit bias, Ψ on all of them."""
    model, x = convolutional(), torch.randn(3, 2, 6, 6).double().requires_grad_()
    first, norm, _, _, second, _, _, head = model
    outputs = [first(x)]
    outputs.append(norm(outputs[0]))
    pooled = functional.max_pool2d(outputs[1].relu(), 2)
    outputs.append(second(pooled))
    score = head(outputs[2].relu().flatten(1))[:, 2]
    gradients = torch.autograd.grad(score.sum(), [x, *outputs])
    implicit = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    expected = published_scaling(gradients[0] * x).sum(1, keepdim=True)
    for gradient, bias in zip(gradients[1:], (first.bias, implicit, second.bias), strict=True):
        scaled = published_scaling(gradient * bias.view(1, -1, 1, 1))
        enlarged = functional.interpolate(scaled, size=(6, 6), mode="bilinear", align_corners=True)
        expected = expected + enlarged.sum(1, keepdim=True)
    found = dg.FullGrad(model).attribute(x.detach(), 2)
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)


def test_the_residual_is_the_curvature_of_smooth_models():
    smooth = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randn(2, 4).double()
    assert dg.FullGrad(smooth).residual(x, 0).abs().min() > 1e-6
    with pytest.raises(dg.errors.InputError, match="uniform_fullgrad"):
        dg.FullGrad(smooth).attribute(x, 0)


class Constants(nn.Module):
    """A piecewise-linear network in which one more operation adds constants to its features."""

    def __init__(self, operation):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 64, 3)
        self.operation, self.table, self.shift = (
            operation,
            torch.randn(4, 8, 8).double(),
            torch.randn(4).double(),
        )
        self.double().eval()

    def forward(self, x):
        x = self.operation(self, self.first(x).relu())
        return self.head(self.second(x).relu().flatten(1))


def slices_assigned(net, x):
    among = net.table.expand(len(x), 4, 8, 8).clone()
    among[:, :, 2:6] = x[:, :, 2:6]
    return among


def parts_changed(net, x):
    x = x.clone()
    x[:, :2].add_(3)
    x[:, 1, 2:4] = 0.5
    return x


def tokens(net, x):
    """A linear layer on tokens, which torch computes on all rows at once."""
    return functional.linear(x.flatten(2).transpose(1, 2), net.table[0, :4, :4], net.shift).mT.reshape(
        x.shape
    )


def bilinear(net, x):
    weight, other = net.table[:, :4, :1].contiguous(), torch.ones(len(x), 8, 8, 1).double()
    return functional.bilinear(x.movedim(1, -1), other, weight, net.shift).movedim(-1, 1)


CONSTANTS = {
    "add": lambda net, x: x + net.table,
    "subtract from": lambda net, x: 1.5 - x,
    "add a detached value": lambda net, x: x + x.detach().mean(),
    "slices assigned": slices_assigned,
    "parts changed": parts_changed,
    "where": lambda net, x: torch.where(net.table > 0, x, net.table),
    "where by the values": lambda net, x: torch.where(x > 0.2, x, net.table),
    "masked_fill": lambda net, x: x.masked_fill(net.table > 0, 1.5),
    "pad": lambda net, x: (
        functional.pad(x, (1, 1), value=2.0)[..., 1:-1] + functional.pad(x[..., 1:], (1, 0), value=2)
    ),
    "cat": lambda net, x: torch.cat([x[:, :3], net.table[:1].expand(len(x), 1, 8, 8)], 1),
    "stack": lambda net, x: torch.stack([x, net.table.expand_as(x)]).sum(0),
    "lerp": lambda net, x: torch.lerp(x, net.table, 0.3),
    "addcmul": lambda net, x: torch.addcmul(net.table, x, net.table, value=0.5),
    "addmm": lambda net, x: torch.addmm(net.table[0], x[0, 0], net.table[1], beta=2).expand_as(x) + x,
    "baddbmm": lambda net, x: torch.baddbmm(net.table, x[:1].expand(4, 4, 8, 8)[:, 0], net.table) + x,
    "bilinear": bilinear,
    "index_put": lambda net, x: net.table.expand(len(x), 4, 8, 8).index_put(
        (torch.arange(len(x)), torch.tensor(1)), x[:, 0]
    ),
    "scatter": lambda net, x: net.table.expand(len(x), 4, 8, 8).scatter(
        1, torch.zeros(len(x), 1, 8, 8).long(), x[:, :1]
    ),
    "batch_norm": lambda net, x: functional.batch_norm(
        x, net.shift, net.shift.square() + 1, net.shift, net.shift
    ),
    "instance norm by given statistics": lambda net, x: functional.instance_norm(
        x, net.shift, net.shift.square() + 1, net.shift, net.shift, use_input_stats=False
    ),
    "linear, channels last": lambda net, x: functional.linear(
        x.movedim(1, -1), net.table[0, :4, :4], net.shift
    ).movedim(-1, 1),
    "linear, tokens": tokens,
    "relu6": lambda net, x: functional.relu6(20 * x),
    "clamp": lambda net, x: x.clamp(0.1, 0.4),
    "maximum": lambda net, x: torch.maximum(x, net.table),
    "softshrink": lambda net, x: functional.softshrink(x - 0.5, 0.2),
    "aten": lambda net, x: torch.ops.aten.add.Tensor(x, net.table),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_constant_that_is_added_counts(name):
    """The network is piecewise linear: what the terms leave out would be a constant that was missed."""
    net, x = Constants(CONSTANTS[name]), torch.randn(1, 3, 8, 8).double()
    method = dg.FullGrad(net)
    assert method.residual(x, 1).abs() <= 1e-12 * net(x)[:, 1].abs()
    assert method.attribute(x, 1).shape == (1, 1, 8, 8)
    assert not method.notes


def written_out(name, x, weight, bias):
    """Return a norm without its bias, and its bias in the shape of a sum with the output."""
    return {
        "group": functional.group_norm(x, 2, weight),
        "instance": functional.instance_norm(x, weight=weight),
        "layer": functional.layer_norm(x.movedim(1, -1), (4,), weight).movedim(-1, 1),
    }[name] + bias.view(-1, 1, 1)


def fused(name, x, weight, bias):
    return {
        "group": functional.group_norm(x, 2, weight, bias),
        "instance": functional.instance_norm(x, weight=weight, bias=bias),
        "layer": functional.layer_norm(x.movedim(1, -1), (4,), weight, bias).movedim(-1, 1),
    }[name]


@pytest.mark.parametrize("norm", ["group", "instance", "layer"])
def test_norms_give_the_map_of_the_norm_with_its_bias_added_after(norm):
    x, weight = torch.randn(2, 3, 8, 8).double(), torch.rand(4).double()
    one = Constants(lambda net, x: written_out(norm, x, weight, net.shift))
    other = Constants(lambda net, x: fused(norm, x, weight, net.shift))
    assert torch.allclose(one(x), other(x))
    expected, found = dg.FullGrad(one), dg.FullGrad(other)
    torch.testing.assert_close(found.attribute(x, 1), expected.attribute(x, 1))
    torch.testing.assert_close(found.residual(x, 1), expected.residual(x, 1))
    assert "leave out more than" in found.notes[0]  # of the norms' curvature


class Attention(nn.Module):
    """Attention with a bias of its logits, as torch's function or step by step."""

    def __init__(self, steps):
        super().__init__()
        torch.manual_seed(0)
        self.mixed, self.head, self.bias = nn.Linear(6, 18), nn.Linear(6, 3), torch.randn(1, 2, 5, 5).double()
        self.steps = steps
        self.double()

    def forward(self, x):
        q, k, v = self.mixed(x).view(len(x), 5, 3, 2, 3).permute(2, 0, 3, 1, 4)
        if self.steps:
            attended = (q @ k.mT / 3**0.5 + self.bias).softmax(-1) @ v
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, self.bias)
        return self.head(attended.transpose(1, 2).reshape(x.shape)).mean(1)


def test_a_bias_of_attention_counts_as_in_steps():
    x = torch.randn(2, 5, 6).double()
    expected, found = (dg.FullGrad(Attention(steps)).residual(x, 1) for steps in (True, False))
    torch.testing.assert_close(found, expected)


def test_a_weight_standardised_network_is_complete():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = functional.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
            return functional.conv2d(x, weight, self.bias)

    net = nn.Sequential(
        Standardised(3, 8, 3), nn.ReLU(), Standardised(8, 8, 3), nn.Flatten(), nn.Linear(128, 5)
    )
    x = torch.randn(2, 3, 8, 8).double()
    score = net.double()(x)[:, 1].detach()
    assert (dg.FullGrad(net).residual(x, 1).abs() <= 1e-12 * score.abs()).all()


def test_channels_last_and_tokens_are_drawn_where_they_lie():
    """A bias of channels that lie last, and the same of tokens: one map."""
    x = torch.randn(2, 3, 8, 8).double()
    last = Constants(
        lambda net, x: functional.layer_norm(x.movedim(1, -1), (4,), None, net.shift).movedim(-1, 1)
    )
    by_tokens = Constants(
        lambda net, x: functional.layer_norm(x.flatten(2).mT, (4,), None, net.shift).mT.reshape(x.shape)
    )
    torch.testing.assert_close(dg.FullGrad(by_tokens).attribute(x, 1), dg.FullGrad(last).attribute(x, 1))


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own, at any use of its flags
def test_what_hides_its_bias_is_refused_by_name():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.head = nn.LSTM(24, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.rows(x.transpose(1, 2).flatten(2))[0][:, -1])

    x = torch.randn(2, 3, 8, 8)
    if torch.backends.mkldnn.is_available():
        with pytest.raises(dg.errors.ModelError, match=r"mkldnn_rnn_layer\(\): rows"):
            dg.FullGrad(Recurrent()).attribute(x, 1)
    with torch.backends.mkldnn.flags(enabled=False):
        assert dg.FullGrad(Recurrent()).attribute(x, 1).any()
    batch_norm = nn.BatchNorm2d(3, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), batch_norm, nn.Flatten())
    with pytest.raises(dg.errors.ModelError, match="statistics of the batch: the model itself"):
        dg.FullGrad(model.forward).attribute(x, 0)


def test_rows_that_meet_where_nothing_is_left_of_the_image_are_refused():
    """A norm over one channel leaves constants: the logits show no mixing, the biases' gradients do."""

    class OverRows(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.LayerNorm(1), nn.Linear(48, 3)

        def forward(self, x):
            tokens = self.norm(x.flatten(1)[..., None])[..., 0]
            weights = (tokens @ tokens.mT).softmax(-1)
            return self.head(x.flatten(1) + weights @ tokens)

    torch.manual_seed(0)
    net, x = OverRows().double(), torch.randn(2, 3, 4, 4).double()
    nn.init.ones_(net.norm.bias)
    method = dg.FullGrad(net)
    with pytest.raises(dg.errors.ModelError, match="product of the batch's rows by each other"):
        method.attribute(x, 1)
    alone = torch.cat([method.attribute(each, 1) for each in x.split(1)])
    torch.testing.assert_close(method.attribute(x, 1, internal_batch_size=1), alone)
