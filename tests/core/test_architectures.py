"""Every method on real architectures, unmodified, with random weights: a map, or a refusal that says why."""

import pytest
import torch

import distillgrad as dg
from distillgrad.core.optional import optional
from networks import lively, made

METHODS = list(dg.METHODS)
SIDES = {"resnet18": 64, "vgg16": 32, "inception_v3": 80, "squeezenet1_1": 64, "vit": 32}
REFUSED = {
    ("deep_lift", "resnet18"): "reused ReLU",
    ("deep_lift", "inception_v3"): r"relu\(\) as a function in BasicConv2d",
    ("deep_lift", "vit"): "GELU",
    ("lrp", "inception_v3"): "as a function in",
    ("lrp", "vit"): "GELU",
    ("guided_backprop", "vit"): r"gelu\(\)",
}

BY_LAYERS = ["guided_backprop", *(name for name, method in dg.METHODS.items() if method.layerwise)]
"""Methods for which the kinds of layers matter, which differ between architectures."""
EVERYWHERE = ["dga", *BY_LAYERS]

pytestmark = pytest.mark.usefixtures("few_segments")


@pytest.fixture(scope="module")
def architecture(request):
    """A name, its model and images for it."""
    torch.manual_seed(0)
    if request.param == "vit":
        create = optional("timm", "vision").create_model
        model = create("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10).eval()
    else:
        model = lively(request.param)
    side = SIDES[request.param]
    return request.param, model, torch.randn(2, 3, side, side)


def traces(model):
    """What a method might leave on a model."""
    return (
        [tensor._version for tensor in (*model.parameters(), *model.buffers())],
        [(each.requires_grad, each.grad) for each in model.parameters()],
        [(module.training, sorted(vars(module))) for module in model.modules()],
        [len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()],
    )


def quickly_made(method, model):
    if method == "occlusion":  # of whose 225 windows four are as good
        return dg.create_method(method, model, window=32, stride=32)
    return made(method, model)


@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        *(("squeezenet1_1", method) for method in METHODS),
        *((name, method) for name in SIDES if name != "squeezenet1_1" for method in EVERYWHERE),
    ],
    indirect=["architecture"],
)
def test_every_method_and_every_architecture(method, architecture):
    name, model, x = architecture
    before = traces(model)
    if (method, name) in REFUSED:
        with pytest.raises(dg.errors.ModelError, match=REFUSED[method, name]):
            quickly_made(method, model).attribute(x, [1, 2])
    else:
        attributions = quickly_made(method, model).attribute(x, [1, 2])
        side = x.shape[-1]
        pixels = dg.METHODS[method].result == "pixels"
        assert attributions.shape == ((2, 1, side, side) if pixels else x.shape)
        assert bool(torch.isfinite(attributions).all())
        assert torch.count_nonzero(attributions) > 0 or method == "lime"  # whose penalty may leave nothing
    assert traces(model) == before


@pytest.mark.parametrize("method", METHODS)
def test_every_method_in_bfloat16(method):  # in float64: the contracts
    torch.manual_seed(0)
    model = dg.load_model("torchvision:squeezenet1_1", pretrained=False).model.bfloat16()
    x = torch.randn(1, 3, 40, 40).bfloat16()
    attributions = quickly_made(method, model).attribute(x, 1)
    assert attributions.dtype == torch.bfloat16
    assert bool(torch.isfinite(attributions).all())


def test_quantus_gets_numpy_arrays():
    explain = dg.quantus_explain("dga", n_steps=2)
    model = dg.load_model("cifar10-cnn", pretrained=False).model
    images = torch.randn(2, 3, 32, 32).numpy()
    found = explain(model=model, inputs=images, targets=[3, 4], device="cpu")
    expected = dg.DGA(model, n_steps=2).attribute(torch.as_tensor(images), [3, 4])
    assert found.shape == images.shape
    torch.testing.assert_close(torch.as_tensor(found), expected)
    with pytest.raises(dg.errors.UnknownNameError):
        dg.quantus_explain("dgaa")
    with pytest.raises(dg.errors.ParameterError):
        dg.quantus_explain("dga", steps=3)
