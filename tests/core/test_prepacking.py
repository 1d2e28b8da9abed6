"""Layers with weights laid out once beside torch's own, of which they are a faster copy."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import distillgrad as dg
from distillgrad.core.acceleration import prepacked_layer, prepacked_linear
from distillgrad.core.acceleration.prepacked_convolution import PrepackedConv2d
from distillgrad.core.acceleration.prepacked_layer import multiplies_bfloat16
from distillgrad.core.acceleration.prepacked_linear import PrepackedLinear
from distillgrad.core.acceleration.prepacking import prepack
from distillgrad.core.working_copy import working_copy

CHANNELS_LAST = torch.channels_last


@pytest.fixture(params=[True, False], ids=["oneDNN is faster", "torch is faster"])
def onednn_is_faster(request, monkeypatch):
    """What is measured otherwise."""
    monkeypatch.setattr(prepacked_linear, "faster_in_float32", lambda: request.param)
    return request.param


def pair(*arguments: int, **keywords: int | bool) -> tuple[nn.Conv2d, PrepackedConv2d]:
    """A frozen convolution and its prepacked copy."""
    plain = nn.Conv2d(*arguments, **keywords).requires_grad_(False).to(memory_format=CHANNELS_LAST)
    prepacked = copy.deepcopy(plain)
    assert prepack(prepacked) == 1
    assert isinstance(prepacked, PrepackedConv2d)
    return plain, prepacked


def linear_pair(n_in: int, n_out: int, *, bias: bool = True) -> tuple[nn.Linear, PrepackedLinear]:
    """A frozen linear layer and its prepacked copy."""
    plain = nn.Linear(n_in, n_out, bias=bias).requires_grad_(False)
    return plain, PrepackedLinear.made_of(copy.deepcopy(plain))


KINDS = {
    "convolution": lambda: (
        *pair(128, 128, 3, padding=1),
        torch.randn(2, 128, 5, 5).contiguous(memory_format=CHANNELS_LAST),
    ),
    "linear layer": lambda: (*linear_pair(512, 512), torch.randn(4, 8, 512)),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """A layer, its prepacked copy, and inputs."""
    return KINDS[request.param]()


def output_and_gradient(layer: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = inputs.detach().requires_grad_()
    output = layer(leaf)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    (gradient,) = torch.autograd.grad((output * weight).sum(), leaf)
    return output.detach(), gradient


def prepacked_uses(layer: PrepackedConv2d | PrepackedLinear) -> set[str]:
    return {use for use, _, _ in layer.prepacked}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "dilation", "bias"),
    [  # as few channels as make them heavy
        (128, 3, 1, 1, 1, True),
        (128, 3, 2, 1, 1, False),
        (128, 3, 3, 0, 2, True),
        (512, 1, 2, 0, 1, False),
        (128, (2, 5), (3, 1), (0, 2), (2, 1), True),
    ],
)
def test_values_are_torch_s_own_up_to_rounding(channels, kernel, stride, padding, dilation, bias, bfloat16):
    plain, prepacked = pair(
        channels, channels, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias
    )
    for n_rows, height, width in [(1, 9, 8), (2, 12, 13)]:  # what is laid out serves every size
        inputs = torch.randn(n_rows, channels, height, width).contiguous(memory_format=CHANNELS_LAST)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            found, expected = output_and_gradient(prepacked, inputs), output_and_gradient(plain, inputs)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert one.stride() == other.stride()
            assert apart(one, other) < (1e-2 if bfloat16 else 1e-6)
    kept = set() if bfloat16 and not multiplies_bfloat16() else {"output", "gradient"}
    assert prepacked_uses(prepacked) == kept


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_strided_gradient_is_the_convolution_that_it_is(data):
    stride = data.draw(st.integers(2, 5), "stride")
    kernel = data.draw(st.integers(4, 9), "kernel")
    padding = data.draw(st.integers(0, kernel - 1), "padding")
    channels = data.draw(st.integers(1, 4), "channels")
    sides = [data.draw(st.integers(max(1, kernel - 2 * padding), 20), "side") for _ in range(2)]
    plain, prepacked = pair(channels, 5, kernel, stride=stride, padding=padding)
    inputs = torch.randn(2, channels, *sides)
    for layout in (torch.contiguous_format, CHANNELS_LAST):
        found, expected = (
            output_and_gradient(layer, inputs.contiguous(memory_format=layout))
            for layer in (prepacked, plain)
        )
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])
    assert "phases" in prepacked_uses(prepacked)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(100, 256), (3, 20, 256), (2, 5, 10, 256)])
def test_products_are_torch_s_own_up_to_rounding(shape, bias, bfloat16):
    plain, prepacked = linear_pair(256, 384, bias=bias)
    inputs = torch.randn(shape)
    for each in (inputs, inputs.transpose(0, -2).contiguous().transpose(0, -2)):  # laid out in any way
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            found, expected = output_and_gradient(prepacked, each), output_and_gradient(plain, each)
            without_graph = prepacked(each)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            assert apart(one, other) < (1e-2 if bfloat16 else 1e-6)
        assert torch.equal(without_graph, found[0])
    kept = set() if bfloat16 and not multiplies_bfloat16() else {"output", "gradient"}
    assert prepacked_uses(prepacked) == kept


@pytest.mark.parametrize(
    ("inputs", "bfloat16", "ours"),
    [
        (torch.randn(1, 16, 40, 40), False, False),
        (torch.randn(2, 16, 40, 40), False, True),
        (torch.randn(1, 16, 8, 8), False, True),  # which torch convolves slowly
        (torch.randn(1, 16, 8, 8), True, False),
    ],
)
def test_a_single_row_is_torch_s_unless_many_weights_or_few_values_make_that_slow(inputs, bfloat16, ours):
    plain, prepacked = pair(16, 16, 3)
    inputs = inputs.contiguous(memory_format=CHANNELS_LAST)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found, expected = output_and_gradient(prepacked, inputs), output_and_gradient(plain, inputs)
    assert bool(prepacked.prepacked) == ours
    assert all(
        apart(one, other) < (1e-2 if bfloat16 else 1e-6) for one, other in zip(found, expected, strict=True)
    )


def test_weights_are_laid_out_for_each_number_of_rows_but_kept_once_if_alike(monkeypatch):
    plain, prepacked = pair(256, 512, 1)
    rows = torch.randn(4, 256, 6, 6).contiguous(memory_format=CHANNELS_LAST)
    for alike in (True, False):
        monkeypatch.setattr(prepacked_layer, "_alike", lambda one, other, alike=alike: alike)
        prepacked.prepacked.clear()
        for n_rows in (1, 3, 4, 1, 3):
            found, expected = (output_and_gradient(layer, rows[:n_rows]) for layer in (prepacked, plain))
            assert all(apart(one, other) < 1e-6 for one, other in zip(found, expected, strict=True))
        assert len(prepacked.prepacked) == 6
        assert len({id(each) for each in prepacked.prepacked.values()}) == (2 if alike else 6)


def test_a_product_of_few_rows_is_torch_s():
    plain, prepacked = linear_pair(256, 384)
    inputs = torch.randn(2, 256)
    assert torch.equal(prepacked(inputs), plain(inputs))
    assert not prepacked.prepacked


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight.mul_(2),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight * 2, requires_grad=False)),
        lambda layer: setattr(layer.weight, "data", layer.weight * 2),
        lambda layer: layer.load_state_dict({"weight": layer.weight * 2, "bias": layer.bias}),
        lambda layer: layer.load_state_dict({"weight": layer.weight * 2, "bias": layer.bias}, assign=True),
        lambda layer: layer.double(),
    ],
)
def test_other_weights_are_laid_out_anew(kind, change):
    plain, prepacked, inputs = kind
    before = output_and_gradient(prepacked, inputs)
    assert prepacked.prepacked
    with torch.no_grad():
        for layer in (plain, prepacked):
            change(layer)
    inputs = inputs.to(plain.weight)
    found, expected = output_and_gradient(prepacked, inputs), output_and_gradient(plain, inputs)
    assert not torch.equal(found[0], before[0])
    assert all(apart(one, other) < 1e-6 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],  # noqa: S301  # our own, just now
)
def test_a_copy_lays_out_its_own(kind, duplicate):
    _, prepacked, inputs = kind
    expected = prepacked(inputs)
    twin = duplicate(prepacked)
    assert not twin.prepacked
    assert prepacked.prepacked
    torch.testing.assert_close(twin(inputs), expected)


def test_whoever_watches_sees_a_convolution(onednn_is_faster):
    model = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 256, 3), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2)])
    model.requires_grad_(False).to(memory_format=CHANNELS_LAST)
    inputs = torch.randn(2, 3, 20, 20)
    expected = dg.FullGrad(model).attribute(inputs, 0)
    assert prepack(model) == 2 + onednn_is_faster
    torch.testing.assert_close(dg.FullGrad(model).attribute(inputs, 0), expected)
    torch.testing.assert_close(dg.FullGrad(model).residual(inputs, 0), torch.zeros(2), atol=1e-5, rtol=0)


def test_what_else_torch_can_do_it_still_can(kind):
    plain, prepacked, inputs = kind

    def of_the_gradient(layer: nn.Module) -> torch.Tensor:
        leaf = inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(leaf).pow(2).sum(), leaf, create_graph=True)
        return torch.autograd.grad(gradient.pow(2).sum(), leaf)[0]

    def of_the_weights(layer: nn.Module) -> torch.Tensor:
        layer.requires_grad_(True)
        return torch.autograd.grad(layer(inputs).sum(), layer.weight)[0]

    def of_the_bias(layer: nn.Module) -> torch.Tensor:
        layer.bias.requires_grad_(True)
        return torch.autograd.grad(layer(inputs).sum(), layer.bias)[0]

    def by_function(layer: nn.Module) -> torch.Tensor:
        return torch.func.vmap(torch.func.grad(lambda row: layer(row[None]).pow(2).sum()))(inputs)

    for ask in (of_the_gradient, by_function, of_the_bias, of_the_weights):
        torch.testing.assert_close(ask(prepacked), ask(plain), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("in_bfloat16", [True, False])
def test_linear_layers_are_packed_where_that_is_faster(onednn_is_faster, in_bfloat16):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).requires_grad_(False)
    pays = multiplies_bfloat16() if in_bfloat16 else onednn_is_faster
    assert prepack(model, in_bfloat16=in_bfloat16) == 2 * pays
    assert [type(layer) for layer in working_copy(model)] == [nn.Linear, nn.ReLU, nn.Linear]


def test_what_a_large_linear_layer_returns_can_be_written_into(onednn_is_faster):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(64, 512), nn.Linear(512, 64), nn.Linear(64, 3)

        def forward(self, x):
            hidden = self.two(self.one(x).mul_(0.5).relu_())
            hidden += x
            return self.head(hidden.mean(1))

    model, x = InPlace().eval(), torch.randn(2, 129, 64)
    accelerated = dg.accelerate(model, x)
    assert ("weights laid out once: 3" in accelerated.applied) == onednn_is_faster
    for found, expected in zip(*(output_and_gradient(each, x) for each in (accelerated, model)), strict=True):
        assert apart(found, expected) < 1e-5


def test_where_the_processor_has_no_bfloat16_torch_computes_it(monkeypatch):
    monkeypatch.setattr(prepacked_layer, "multiplies_bfloat16", lambda: False)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).requires_grad_(False)
    prepacked = copy.deepcopy(plain)
    assert prepack(prepacked, in_bfloat16=True) == 1
    inputs = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prepacked(inputs), plain(inputs))


@pytest.mark.parametrize(("capability", "by_onednn"), [("AVX512", True), ("AVX2", False)])
def test_the_processor_says_which_multiplies_float32(monkeypatch, capability, by_onednn):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert prepacked_linear.faster_in_float32() == by_onednn


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(512, 512, 3, groups=2),
        nn.Conv2d(512, 512, 3, padding="same"),
        nn.Conv2d(512, 512, 3, padding_mode="reflect"),
        nn.Conv2d(512, 512, 3, dtype=torch.float64),
        nn.Conv1d(512, 512, 3),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(512, 512, 3)),
        nn.Linear(512, 512, dtype=torch.float64),
        nn.utils.parametrizations.weight_norm(nn.Linear(512, 512)),
        nn.modules.linear.NonDynamicallyQuantizableLinear(512, 512),
    ],
)
def test_what_is_no_plain_layer_stays(layer):
    its_class = type(layer)
    assert prepack(layer.requires_grad_(False), in_bfloat16=True) == 0
    assert type(layer) is its_class


def test_weights_to_train_are_not_laid_out():
    assert prepack(nn.Conv2d(512, 512, 3)) == 0
    assert prepack(nn.Linear(512, 512), in_bfloat16=True) == 0
