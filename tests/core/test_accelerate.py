"""The accelerated model is the original: in float64 to rounding, or it is left alone or refused."""

import copy
import warnings
from contextlib import nullcontext

import computed_weights
import pytest
import torch
from computed_weights import KINDS, computing
from torch import nn
from torch.nn.functional import batch_norm, dropout, relu

import distillgrad as dg
from distillgrad.core.acceleration import accelerate as accelerating
from distillgrad.core.acceleration.accelerate import accelerate
from distillgrad.core.acceleration.accelerated import Accelerated
from distillgrad.core.acceleration.prepacked_layer import PrepackedLayer
from distillgrad.core.logits import logits_of
from distillgrad.errors import DistillgradError, InputError, ModelError
from networks import convolutional, lively, zoo


def images(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def with_statistics(model):
    """In float64 and eval mode, with batch norms that do something."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.double().eval()


def expect_equal(accelerated, model, x, tolerance=1e-9):
    """Output, and gradient of a logit, on inputs that the acceleration has not seen."""
    found = []
    for each in (accelerated, model):
        leaf = x.clone().requires_grad_()
        output = each(leaf.clone())
        logits = logits_of(output).reshape(len(x), -1)
        (gradient,) = torch.autograd.grad(logits[:, -1].sum(), leaf)
        found.append((type(output), logits.detach(), gradient))
    (kind, logits, gradient), (expected_kind, expected, slopes) = found
    assert kind is expected_kind
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance * expected.abs().max().item())
    torch.testing.assert_close(gradient, slopes, rtol=0, atol=tolerance * slopes.abs().max().item())
    assert gradient.stride() == slopes.stride()


@pytest.mark.parametrize(
    ("name", "side", "folded", "channels_last"),
    [
        ("resnet18", 32, 20, True),
        ("mobilenet_v2", 32, 52, True),
        ("squeezenet1_1", 48, 0, True),
        ("densenet121", 32, 59, False),  # 62 come before their convolutions
        ("googlenet", 32, 57, True),  # 2 are in auxiliary heads
    ],
)
def test_torchvision_models_stay_the_same_function(name, side, folded, channels_last):
    model = lively(name, torch.float64)
    accelerated = accelerate(model, images(1, 3, side, side), channels_last=channels_last)
    done = (f"batch norm folded: {folded}",) if folded else ()
    assert accelerated.applied == done + ("channels_last",) * channels_last
    expect_equal(accelerated, model, images(2, 3, side, side, seed=4))


def test_a_transformer_has_nothing_to_fold_or_lay_out():
    from distillgrad.sources.models import load_model

    load_model("torchvision:squeezenet1_1", pretrained=False)  # makes torchvision importable everywhere
    from torchvision.models import VisionTransformer

    model = VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3).double().eval()
    nn.init.normal_(model.heads.head.weight)
    accelerated = accelerate(model, images(2, 3, 16, 16))
    assert not accelerated.applied
    assert [each.partition(":")[0] for each in accelerated.skipped] == ["batch norm", "channels_last"]
    expect_equal(accelerated, model, images(2, 3, 16, 16, seed=4))


@pytest.mark.parametrize("name", zoo())
def test_every_kind_of_model_and_output(name):
    model, x = zoo()[name], images(3, 2, 6, 6)
    flags = [module.training for module in model.modules()]
    accelerated = accelerate(model, x)
    assert [module.training for module in model.modules()] == flags
    expect_equal(accelerated, model.eval(), images(2, 2, 6, 6, seed=4))
    if name in ("convolutional", "training", "tuple", "dict"):
        assert accelerated.applied[0] == "batch norm folded: 1"


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (2, 4, 9)),
        (nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8), (2, 4, 6, 6)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4), (2, 4, 6, 6)),
        (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False, eps=0.1), (2, 4, 6, 6)),
        (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 2, 3, 4, 4)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2), nn.BatchNorm1d(6), (2, 4, 5)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), (2, 4, 5, 5)),
        (nn.Linear(4, 6), nn.BatchNorm1d(6), (2, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_every_kind_of_layer_takes_its_batch_norm(layer, norm, shape):
    model = with_statistics(nn.Sequential(layer, norm, nn.Tanh(), nn.Flatten()))
    accelerated = accelerate(model, images(*shape))
    assert accelerated.applied[0] == "batch norm folded: 1"
    assert isinstance(accelerated.network[1], nn.Identity)
    expect_equal(accelerated, model, images(*shape, seed=4), 1e-13)


class Summed(nn.Sequential):
    def forward(self, x):
        return super().forward(x).sum()


class Flow(nn.Module):
    """Two convolutions and two batch norms, connected by a function of them and the inputs."""

    def __init__(self, flow):
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.flow = flow

    def forward(self, x):
        return self.flow(self, x).flatten(1)


def sum_with(y, norm):
    return y + norm(y).tanh()


def rectified_for(y, norm):
    y.relu_()
    return norm(y)


def hooked(model):
    model.one.register_forward_hook(lambda _module, _inputs, output: output.tanh())


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.one)


@pytest.mark.parametrize("kind", KINDS)
def test_computed_weights_are_neither_folded_nor_laid_out(kind):
    model, x = computing(kind), computed_weights.images()
    accelerated = accelerate(model, x)
    expect_equal(accelerated, model, computed_weights.images(2) / 2, 1e-5)
    own = kind in ("buffer", "expanded")
    assert ("batch norm folded: 1" in accelerated.applied) == own
    assert any(isinstance(each, PrepackedLayer) for each in accelerated.modules()) == own
    if not own and kind not in ("quantised", "own forward"):  # weights still depend on what they did
        before = accelerated(x)
        with torch.no_grad():
            for name, values in accelerated.network.named_parameters():
                if "bias" not in name and not name.startswith("1."):
                    values.add_(torch.rand_like(values))
        assert not torch.allclose(accelerated(x), before)
    with pytest.raises(ModelError, match="channels_last=False") if kind == "quantised" else nullcontext():
        accelerate(model, x, channels_last=True)


LEFT_ALONE = {
    "a convolution with two norms": (
        lambda m, x: m.norm(m.one(x)) + m.other(m.one(x)).tanh(),
        "more than once",
    ),
    "a norm with two convolutions": (
        lambda m, x: m.norm(m.one(x)) + m.norm(m.two(x)).tanh(),
        "more than once",
    ),
    "an output used twice": (lambda m, x: sum_with(m.one(x), m.norm), "elsewhere"),
    "an output written into": (lambda m, x: rectified_for(m.one(x), m.norm), "elsewhere"),
    "a norm before": (lambda m, x: m.one(m.norm(x)), "right before"),
    "a function between": (lambda m, x: m.norm(relu(m.one(x))), "right before"),
    "weights used elsewhere": (lambda m, x: m.norm(m.one(x)) * m.one.weight.sum(), "parameters"),
    "attributes used elsewhere": (lambda m, x: m.norm(m.one(x)) * m.norm.eps, "float64"),
    "a branch on values": (lambda m, x: m.norm(m.one(x)) if x.sum() > 1e9 else m.one(x), "traced"),
    "a branch on shapes": (lambda m, x: m.norm(m.one(x)) if len(x) > 99 else m.one(x), "traced"),
    "a branch on stand-ins": (
        lambda m, x: m.one(x).tanh() if isinstance(x, torch.Tensor) else m.norm(m.one(x)),
        "float64",
    ),
    "another module's alias": (lambda m, x: m.norm(m.one(x)) + m.alias(x).tanh(), "more than once"),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_cannot_be_folded_is_left_alone(name):
    flow, why = LEFT_ALONE[name]
    model = with_statistics(Flow(flow))
    model.alias = model.one
    accelerated = accelerate(model, images(2, 2, 5, 5), channels_last=False)
    assert not accelerated.applied
    assert any(why in each for each in accelerated.skipped), accelerated.skipped
    expect_equal(accelerated, model, images(2, 2, 5, 5, seed=4), 1e-13)


@pytest.mark.parametrize("change", [hooked, parametrised])
def test_layers_that_do_more_than_their_class_are_left_alone(change):
    model = with_statistics(Flow(lambda m, x: m.other(m.two(m.norm(m.one(x)).tanh()))))
    change(model)
    accelerated = accelerate(model, images(2, 2, 5, 5), channels_last=False)
    assert accelerated.applied == ("batch norm folded: 1",)  # the second pair
    expect_equal(accelerated, model, images(2, 2, 5, 5, seed=4), 1e-13)


def test_a_model_that_fails_in_float64_is_not_folded():
    model = with_statistics(Flow(lambda m, x: m.norm(m.one(x)) @ torch.ones(5, 5))).float()
    accelerated = accelerate(model, images(2, 2, 5, 5).float(), channels_last=False)
    assert any("in which folding is checked, fails" in each for each in accelerated.skipped)


def test_a_norm_over_another_dimension_than_the_layers_outputs():
    model = with_statistics(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Flatten()))
    accelerated = accelerate(model, images(2, 4, 4))
    assert "float64" in accelerated.skipped[0]
    expect_equal(accelerated, model, images(2, 4, 4, seed=4), 1e-13)


def without_statistics():
    model = convolutional()
    model[1] = nn.BatchNorm2d(5, track_running_stats=False).double()
    return model


REFUSED = {
    "twice": Flow(lambda m, x: dropout(m.one(x), training=True)),
    "draws": Flow(lambda m, x: m.one(x) + torch.randn_like(x)),
    "'1' has no running": without_statistics(),
    "other rows": Flow(lambda m, x: m.one(x - x.mean(0))),
    "depend on the other": Flow(lambda m, x: batch_norm(m.one(x), None, None, training=True)),
    "not finite": Flow(lambda m, x: m.one(x) / 0),
    "carries no gradient": Flow(lambda m, x: m.one(x).detach()),
    "runs compiled": nn.DataParallel(nn.Sequential(nn.DataParallel(convolutional()))),
    r"shape \(\) for 4 samples": Summed(convolutional()),
    "lambda|function": lambda x: x,
}


@pytest.mark.parametrize("words", REFUSED)
def test_models_without_a_function_to_preserve_are_refused(words):
    model = REFUSED[words]
    with pytest.raises(ModelError, match=words):
        accelerate(model.double() if isinstance(model, Flow) else model, images(2, 2, 6, 6))


def test_a_wrong_folding_is_not_kept(monkeypatch):
    right = accelerating.fold

    def wrong(network, pairs):
        right(network, pairs)
        for layer, _ in pairs:
            network.get_submodule(layer).bias.data[0] += 1e-6

    monkeypatch.setattr(accelerating, "fold", wrong)
    model, x = convolutional(), images(3, 2, 6, 6)
    accelerated = accelerate(model, x)
    assert "in float64" in accelerated.skipped[0]
    expect_equal(accelerated, model, x, 1e-13)


@pytest.mark.parametrize("wrong", [lambda x: x * 1.001, lambda x: x.detach() + 0 * x])
def test_a_wrong_model_is_never_returned(monkeypatch, wrong):
    forward = Accelerated.forward
    monkeypatch.setattr(Accelerated, "forward", lambda self, x: forward(self, wrong(x)))
    with pytest.raises(ModelError, match="use the original"):
        accelerate(convolutional(), images(3, 2, 6, 6))


def test_the_original_stays_as_it_is_and_the_copy_is_its_own():
    model, x = convolutional().train(), images(3, 2, 6, 6)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, strides = copy.deepcopy(model.state_dict()), model[0].weight.stride()
    with torch.inference_mode():
        accelerated = accelerate(model, x, channels_last=True)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model[0].weight.grad is not None
    assert model[0].weight.stride() == strides
    assert isinstance(model[1], nn.BatchNorm2d)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in accelerated.train().modules())
    assert not any(parameter.requires_grad for parameter in accelerated.parameters())
    expected = accelerated(x)
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(accelerated(x), expected)


@pytest.mark.parametrize("faster", [False, True])
@pytest.mark.parametrize("slow_moment", [[], [1.0, 7.0], [7.0, 0.99]], ids=["even", "its own", "the other's"])
def test_the_faster_layout_is_kept(monkeypatch, faster, slow_moment):
    seconds = iter([9.0, 9.0, *slow_moment, *[1.0, 0.5 if faster else 0.99] * 6])
    monkeypatch.setattr(accelerating, "_seconds", lambda _model, _batch: next(seconds))
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3), nn.Flatten())
    accelerated = accelerate(model, images(2, 2, 6, 6).float())
    assert accelerated.channels_last == faster
    assert f"channels_last: {0.5 if faster else 0.99:.2f} of the time" in (
        accelerated.applied if faster else accelerated.skipped
    )
    leaf = images(2, 2, 6, 6).float().to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(accelerated(leaf).sum(), leaf)
    assert gradient.shape == leaf.shape
    with torch.no_grad():
        accelerated(leaf)


def test_a_layout_that_the_model_cannot_take_is_skipped():
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolutions = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3))

        def forward(self, x):
            return self.convolutions(x).view(len(x), -1)

    x = images(2, 2, 6, 6).float()
    assert "view size" in accelerate(Viewed(), x).skipped[1]
    with pytest.raises(ModelError, match=r"use the original: .*view size"):
        accelerate(Viewed(), x, channels_last=True)


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_warns_where_a_processor_emulates_it(emulated, monkeypatch):
    monkeypatch.setattr(accelerating, "multiplies_bfloat16", lambda: not emulated)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = images(3, 2, 6, 6).float()
        accelerate(convolutional().float(), x, precision="bfloat16", channels_last=False)
    assert [str(each.message)[:25] for each in caught] == ["bfloat16 on this processo"] * emulated


def test_bfloat16_returns_logits_in_float32():
    x = images(3, 2, 6, 6).float()
    for name in ("convolutional", "dict"):
        model = zoo()[name].float()
        accelerated = accelerate(model, x, precision="bfloat16")
        logits, expected = accelerated(x), logits_of(model(x))
        assert accelerated.applied[-1] == "bfloat16"
        assert logits.dtype == torch.float32
        assert 0 < (logits - expected).abs().max() < 0.05 * expected.abs().max()
    with pytest.raises(DistillgradError, match="float64"):
        accelerate(convolutional(), x.double(), precision="bfloat16")


@pytest.mark.parametrize("name", ["convolutional", "weight norm", "shared"])
def test_bfloat16_is_to_the_bit_what_autocast_makes_of_the_same_model(name):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.scale = nn.Linear(72, 72), nn.Module()
            self.scale.weight = self.linear.weight

        def forward(self, x):
            return self.linear(x.flatten(1)) @ self.scale.weight.double().float()

    model = {
        "convolutional": convolutional,
        "weight norm": lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 16, 3)), nn.Flatten(), nn.Linear(256, 5)
        ),
        "shared": Shared,
    }[name]().float()
    x = images(3, 2, 6, 6).float()
    folded = accelerate(model, x, channels_last=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = folded.network(x).float()
    with torch.no_grad():
        assert torch.equal(accelerate(model, x, precision="bfloat16", channels_last=False)(x), expected)


def test_compilation_is_asked_for_and_checked(monkeypatch):
    model, x = convolutional(), images(3, 2, 6, 6)
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    accelerated = accelerate(model, x, compile=True)
    assert accelerated.applied[-1] == "torch.compile"
    expect_equal(accelerated, model, x)
    with pytest.raises(ModelError, match="give the plain module"):
        dg.GuidedBackprop(accelerated).attribute(x)
    monkeypatch.setattr(torch, "compile", lambda call, **_: lambda x: call(x) + 1)
    with pytest.raises(ModelError, match="use the original"):
        accelerate(model, x, compile=True)


def test_methods_explain_the_same_function():
    model, x = convolutional(), images(3, 2, 6, 6)
    accelerated = accelerate(model, x, channels_last=True)
    for made in (lambda f: dg.DGA(f, n_steps=4), dg.GuidedBackprop, lambda f: dg.GuidedIG(f, n_steps=3)):
        expected, found = (made(each).attribute(x, [1, 2, 3]) for each in (model, accelerated))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11 * expected.abs().max().item())
        assert found.is_contiguous()
    assert dg.GradCAM(accelerated, layer="network.4").attribute(x).shape == (3, 1, 6, 6)


def test_further_arguments_are_those_of_the_example():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

        def forward(self, x, scale=None, raw=False):
            x = self.conv(x)
            if raw:
                return x.flatten(1)
            x = self.norm(x)
            return (x if scale is None else x * scale).flatten(1)

    model, x, scale = with_statistics(Scaled()), images(3, 2, 6, 6), images(3, 3, 4, 4)
    plain, scaled = accelerate(model, x), accelerate(model, (x, scale))
    assert plain.applied[0] == scaled.applied[0] == "batch norm folded: 1"
    torch.testing.assert_close(plain(x), model(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(scaled(x, scale), model(x, scale), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="1 further"):
        scaled(x)
    with pytest.raises(InputError, match="0 further"):
        plain(x, None, True)


@pytest.mark.parametrize(
    ("example", "keywords", "words"),
    [
        (images(0, 2, 6, 6), {}, "empty"),
        (images(3, 5, 6, 6), {}, r"\(5, 5, 6, 6\)"),
        (torch.zeros(3, 2, 6, 6, dtype=torch.uint8), {}, "uint8"),
        ((images(3, 2, 6, 6), "mask"), {}, "tuple of tensors"),
        (images(3, 2, 6, 6), {"precision": "float16"}, "bfloat16"),
        (images(3, 72), {"channels_last": True}, r"\(3, 72\)"),
    ],
)
def test_wrong_requests(example, keywords, words):
    with pytest.raises(DistillgradError, match=words):
        accelerate(convolutional(), example, **keywords)
