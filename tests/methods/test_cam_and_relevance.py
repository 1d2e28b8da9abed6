"""Grad-CAM, DeepLIFT and LRP: equal to the libraries they come from, or refused; nothing is left behind."""

import warnings

import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.methods.deep_lift import DeepLift
from distillgrad.methods.gradcam import GradCAM
from distillgrad.methods.lrp import LRP
from networks import FunctionalReused, Wrapped, convolutional, dense

METHODS = (GradCAM, DeepLift, LRP)


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def random_weights(name):
    loaded = dg.load_model(f"torchvision:{name}", pretrained=False)
    return loaded.model.eval()


def state_of(model):
    return [
        {name: dict(value) if isinstance(value, dict) else value for name, value in vars(module).items()}
        for module in model.modules()
    ]


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


class Branches(nn.Module):
    """Pools over overlapping windows beside a rectifier of the same tensor."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        self.last = nn.Linear(3 * 9 + 3 * 36, 4)

    def forward(self, x):
        x = self.conv(x)
        return self.last(torch.cat([self.pool(x).flatten(1), self.relu(x).flatten(1)], 1))


class Cloned(nn.Module):
    """The same values in a tensor of their own."""

    def forward(self, x):
        return x.clone()


class Calls(nn.Module):
    """A convolution, ``between``, and a linear layer."""

    def __init__(self, between, **modules):
        super().__init__()
        self.conv, self.last, self.between = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(108, 4), between
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.last(self.between(self, self.conv(x)).flatten(1))


def without_biases():
    layers = (
        *(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(3)),
        *(nn.Flatten(), nn.Linear(8, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False)),
    )
    return nn.Sequential(*layers).double()


# Grad-CAM


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        ("resnet18", "layer4.1.conv2", 64),
        ("squeezenet1_1", "classifier.1", 64),
        ("inception_v3", "Mixed_7c.branch_pool.conv", 128),  # not the auxiliary head's
    ],
)
def test_gradcam_is_captums_at_the_last_convolution_of_the_call(name, layer, size):
    model, x = random_weights(name).double(), images(2, size, 3)
    found = GradCAM(model).attribute(x, 7)
    expected = LayerGradCam(model, model.get_submodule(layer)).attribute(x, 7, relu_attributions=True)
    expected = LayerGradCam.interpolate(expected, (size, size), "bilinear")
    assert bool(expected.any())
    close(found, expected.detach())
    close(GradCAM(model, layer).attribute(x, 7), found)
    close(GradCAM(model, model.get_submodule(layer)).attribute(x, [7, 7], internal_batch_size=1), found)


def test_gradcam_by_hand():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        model[3].weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    x = torch.tensor([[[[1.0, -2.0], [0.5, 4.0]]]])
    close(GradCAM(model).attribute(x, 0), torch.relu((3 - 1) * x / 4))
    close(GradCAM(model).attribute(x, 1), torch.relu(-2 * x / 4))


def transformer(kind):
    torch.manual_seed(0)
    if kind == "torchvision":
        vit = optional("torchvision.models", "vision").VisionTransformer
        model = vit(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=5)
        nn.init.normal_(model.heads[-1].weight)  # torchvision's is zero
        return model, "encoder.layers.encoder_layer_1.ln_1", 1
    if kind == "transformers":
        library = optional("transformers", "huggingface")
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = library.ViTConfig(image_size=32, patch_size=8, **sizes)
        return library.ViTForImageClassification(config), "vit.layers.1.layernorm_before", 1
    create = optional("timm", "vision").create_model
    further, prefix = {
        "timm": ({}, 1),
        "timm, registers": ({"reg_tokens": 4}, 5),
        "timm, mean of the tokens": ({"global_pool": "avg", "class_token": False}, 0),
    }[kind]
    model = create(
        "vit_tiny_patch16_224",
        img_size=(32, 48),
        patch_size=8,
        depth=2,
        embed_dim=24,
        num_classes=5,
        **further,
    )
    return model, "blocks.1.norm1", prefix


@pytest.mark.parametrize(
    "kind", ["torchvision", "transformers", "timm", "timm, registers", "timm, mean of the tokens"]
)
def test_gradcam_folds_tokens_back(kind):
    model, layer, prefix = transformer(kind)
    model = model.double().eval()
    x = torch.randn(2, 3, 32, 48 if kind.startswith("timm") else 32).double()
    found = GradCAM(model).attribute(x, 1)
    kept = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, values: kept.append(values[0]))
    output = model(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(getattr(output, "logits", output)[:, 1].sum(), kept[0])
    gradient, tokens = gradient[:, prefix:], kept[0][:, prefix:]
    expected = torch.relu((gradient.mean(1, keepdim=True) * tokens).sum(2)).view(2, 1, 4, -1)
    expected = functional.interpolate(expected, x.shape[2:], mode="bilinear")
    assert bool(expected.any())
    close(found, expected.detach(), 1e-10)


def test_gradcam_refuses_what_has_no_maps():
    timm = optional("timm", "vision")
    vit, _, _ = transformer("timm")
    vit_x = torch.randn(1, 3, 32, 48)
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=2,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(1, 2),
    )
    for model, layer, x, words in [
        (dense(72), None, images(), "no two-dimensional convolution"),
        (vit, "blocks.1", vit_x, "patch tokens of layer 'blocks.1' have no gradient"),
        (vit, "head", vit_x, "layer 'head' gives shape"),
        (swin, None, torch.randn(1, 3, 32, 32), "windowed attention"),
        (random_weights("inception_v3"), "AuxLogits.conv1", torch.randn(1, 3, 80, 80), "takes no part"),
    ]:
        with pytest.raises(dg.errors.ModelError, match=words):
            GradCAM(model.eval(), layer).attribute(x, 1)
    with pytest.raises(dg.errors.InputError, match="images"):
        GradCAM(dense()).attribute(torch.randn(2, 12).double())
    with pytest.raises(dg.errors.UnknownNameError, match=r"'blocks\.1'"):
        GradCAM(vit, "block.1")
    for layer in (nn.ReLU(), 3):
        with pytest.raises(dg.errors.ParameterError, match="layer"):
            GradCAM(vit, layer)


# DeepLIFT


@pytest.mark.parametrize("name", ["dense", "convolutional", "vgg11_bn"])
def test_deep_lift_is_captums(name):
    model = {"dense": lambda: dense(72), "convolutional": convolutional}.get(name)
    model = model() if model else random_weights(name).double()
    x = images(2, 32, 3) if name == "vgg11_bn" else images()
    baselines = x.flip(0) / 2
    found = DeepLift(model).attribute(x, 1, baselines=baselines)
    for module in list(model.modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = False
        for key, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):  # Captum 0.9 is wrong right behind a rectifier
                setattr(module, key, nn.Sequential(Cloned(), child))
    for row in range(len(x)):  # Captum's max-pooling mixes the rows of a batch
        alone = slice(row, row + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = CaptumDeepLift(model).attribute(x[alone], baselines[alone], target=1)
        close(found[alone], expected.detach())


@pytest.mark.parametrize(
    "model", [dense(72), convolutional(), Branches().double(), random_weights("squeezenet1_1")]
)
def test_deep_lift_is_complete_where_windows_overlap_and_branches_share_an_activation(model):
    model = model.double().eval()
    x = images(2, 32, 3) if type(model).__name__ == "SqueezeNet" else images()
    found = DeepLift(model).attribute(x, 2, baselines=0.1)
    expected = model(x)[:, 2] - model(torch.full_like(x, 0.1))[:, 2]
    close(found.flatten(1).sum(1), expected.detach(), 1e-10)


def test_deep_lift_by_hand():
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, 1.0]]))
    # From (−1, 1) to (1, 1): the input of the rectifier goes −1 → 3, its output 0 → 3; so 3/4 of 2·2.
    found = DeepLift(model).attribute(torch.ones(1, 2), 0, baselines=torch.tensor([[-1.0, 1.0]]))
    close(found, torch.tensor([[3.0, 0.0]]))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (FunctionalReused(), r"relu\(\) as a function.*reused ReLU: relu \(2×\)"),
        (Calls(lambda m, x: functional.relu(x)), r"relu\(\) as a function in Calls: the model itself"),
        (Calls(lambda m, x: x.clone().relu_()), r"relu\(\) as a function"),
        (Calls(lambda m, x: functional.max_pool2d(x, 3, 1, 1)), r"max_pool2d\(\) as a function"),
        (Calls(lambda m, x: x.softmax(1)), r"softmax\(\) as a function"),
        (Calls(lambda m, x: x * x), r"mul\(\) of 2 activations"),
        (Calls(lambda m, x: 1 / (5 + x)), r"__rdiv__|reciprocal|division"),
        (Calls(lambda m, x: m.act(x), act=nn.GELU()), "GELU: act"),
        (Calls(lambda m, x: m.act(x), act=nn.Softmax(1)), "Softmax: act.*explain the logits"),
        (Calls(lambda m, x: m.act(x) + x, act=nn.ReLU(inplace=True)), "in-place module has overwritten"),
        (nn.Sequential(nn.Flatten(), *(nn.GELU() for _ in range(9))), r"GELU: 1, 2, 3, 4, 5 and 4 more\."),
    ],
)
def test_deep_lift_refuses_what_captum_would_get_wrong(model, words):
    with pytest.raises(dg.errors.ModelError, match=words):
        DeepLift(model.double().eval()).attribute(images(), 1)


# LRP


def zennits(model, x, target, canonizer=None):
    composite = optional("zennit.composites", "lrp").EpsilonPlusFlat(
        canonizers=[canonizer] if canonizer else []
    )
    gradient = optional("zennit.attribution", "lrp").Gradient
    with gradient(model, composite) as attributor:
        start = torch.eye(model(x).shape[1]).to(x)[[target] * len(x)]
        return attributor(x, lambda output: output * start)[1]


def test_lrp_is_zennits():
    x = images()
    merged = optional("zennit.canonizers", "lrp").SequentialMergeBatchNorm()
    close(LRP(convolutional()).attribute(x, 1), zennits(convolutional(), x, 1, merged))
    resnet, x = random_weights("resnet18").double(), images(2, 64, 3)
    canonizer = optional("zennit.torchvision", "lrp").ResNetCanonizer()
    close(LRP(resnet).attribute(x, 3) * 1e3, zennits(resnet, x, 3, canonizer) * 1e3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lrp_conserves_relevance(dtype):
    """Without biases every rule does: flat, z⁺ and ε, up to ε, as does what passes pooling and rectifiers."""
    model, x = without_biases().to(dtype), images(8).to(dtype)
    logits = model(x).detach()
    for target in (None, 2, lambda output: output[:, 1] - output[:, 3]):
        if target is None:
            score = logits.amax(1)
        else:
            score = target(logits) if callable(target) else logits[:, target]
        sums = LRP(model).attribute(x, target).flatten(1).sum(1)
        torch.testing.assert_close(sums, score, rtol=1e-3, atol=1e-6)


def test_lrp_by_hand():
    """The first layer shares evenly, whatever the weights; ε gives the second ``z_k/Σz`` of the score."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        model[2].weight.copy_(torch.tensor([[3.0, 5.0]]))
    found = LRP(model).attribute(torch.tensor([[2.0, 1.0]]).double(), 0)
    close(found, torch.tensor([[3.0, 3.0]]).double(), 1e-5)


def test_lrp_takes_a_rectifier_however_it_is_called():
    torch.manual_seed(0)
    expected = None
    for relu in (nn.ReLU(), functional.relu, nn.ReLU(inplace=True), lambda x: x.clone().relu_()):
        torch.manual_seed(0)
        model = Calls(lambda m, x, relu=relu: relu(m.second(relu(x))), second=nn.Conv2d(3, 3, 3, padding=1))
        found = LRP(model.double()).attribute(images(), 1)
        expected = found if expected is None else expected
        close(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Calls(
                lambda m, x: m.sig(m.act(m.norm(x))), act=nn.GELU(), norm=nn.LayerNorm(6), sig=nn.Sigmoid()
            ),
            "LayerNorm: norm; GELU: act; Sigmoid: sig",
        ),
        (Calls(lambda m, x: x + functional.relu(x)), r"add\(\) of 2 activations"),
        (Calls(lambda m, x: functional.avg_pool2d(x, 3, 1, 1)), r"avg_pool2d\(\) as a function"),
        (Calls(lambda m, x: x * 2), r"mul\(\) as a function"),
        (Calls(lambda m, x: functional.gelu(x)), r"gelu\(\) as a function"),
        (Calls(lambda m, x: m.same(m.same(x)), same=nn.Conv2d(3, 3, 1)), r"reused Conv2d: same \(2×\)"),
        (nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4)), "BatchNorm2d: 0"),
        (nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=False), nn.Flatten()), "BatchNorm2d: 1"),
    ],
)
def test_lrp_refuses_all_that_has_no_rule(model, words):
    model(torch.randn(4, 2, 6, 6))  # batch norm's statistics
    with pytest.raises(dg.errors.ModelError, match=words):
        LRP(model.double().eval()).attribute(images(), 1)


def test_lrp_refuses_parameters_and_targets():
    for epsilon in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(dg.errors.ParameterError, match="epsilon"):
            LRP(dense(), epsilon=epsilon)
    model = Wrapped(lambda logits: {"logits": logits * 1, "other": logits}).eval()
    model.wrap = lambda logits: {"logits": logits.clone(), "other": logits}
    with pytest.raises(dg.errors.TargetError, match="logits"):
        LRP(model).attribute(images(), lambda output: output["other"][:, 0])


# All of them


@pytest.mark.parametrize("method", METHODS)
def test_unwrapped_outputs_rows_and_a_model_as_it_was(method):
    model = convolutional()
    expected = method(model).attribute(images(), 1)
    for wrap in (lambda logits: (logits, logits * 2), lambda logits: {"logits": logits, "loss": None}):
        wrapped = Wrapped(wrap).train()
        before, weights = state_of(wrapped), [each.clone() for each in wrapped.state_dict().values()]
        explain = method(wrapped).attribute
        found = explain(images(), 1)
        assert state_of(wrapped) == before
        assert all(map(torch.equal, wrapped.state_dict().values(), weights))
        assert all(parameter.grad is None for parameter in wrapped.parameters())
        close(found, expected, 1e-12)
        for row in range(3):
            close(explain(images()[row : row + 1], 1), found[row : row + 1], 1e-12)
        close(explain(images(), lambda output: dg.core.forward.logits_of(output)[:, 1]), found, 1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_nothing_is_left_after_an_exception(method, fails_at):
    calls = []

    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = convolutional()

        def forward(self, x):
            logits = self.inner(x)
            calls.append(1)
            if len(calls) == fails_at:
                raise ZeroDivisionError("the model's own")
            return logits

    model = Failing().train()
    before = state_of(model)
    explain = method(model).attribute
    if method is GradCAM and fails_at == 3:
        explain(images(), 1)  # two calls
    with pytest.raises(ZeroDivisionError):
        explain(images(), 1)
    assert state_of(model) == before


@pytest.mark.parametrize("method", METHODS)
def test_models_that_have_no_layers_to_see(method):
    with pytest.raises(dg.errors.ModelError, match=r"function.*'dga'"):
        method(lambda x: x.flatten(1))
    with pytest.raises(dg.errors.ModelError, match="no gradient"):
        method(Wrapped(lambda logits: logits.detach())).attribute(images(), 1)
    stubborn = convolutional()
    stubborn.held = (each for each in ())
    with pytest.raises(dg.errors.ModelError, match="cannot be copied"):
        method(stubborn).attribute(images(), 1)
