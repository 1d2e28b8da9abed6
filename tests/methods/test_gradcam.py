"""Grad-CAM: equal to Captum's, by hand, on tokens, or refused."""

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.methods.gradcam import GradCAM
from networks import dense


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def random_weights(name):
    loaded = dg.load_model(f"torchvision:{name}", pretrained=False)
    return loaded.model.eval()


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


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
