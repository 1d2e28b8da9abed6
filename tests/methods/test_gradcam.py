"""Grad-CAM: equal to Captum's, by hand, at the layer that the data's way tells, or refused."""

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import distillgrad as dg
import gradcam_layers
from distillgrad.core.optional import optional
from distillgrad.methods.gradcam import GradCAM
from networks import dense

N_CLASSES = 4


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def random_weights(name):
    loaded = dg.load_model(f"torchvision:{name}", pretrained=False)
    return loaded.model.eval()


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "right", "named", "size"),
    [
        ("resnet18", "layer4.1", "layer4.1.conv2", 64),  # the sum with the shortcut
        ("squeezenet1_1", "classifier.2", "classifier.1", 64),
        ("inception_v3", "Mixed_7c", "Mixed_7c.branch_pool.conv", 128),  # all branches
    ],
)
def test_gradcam_is_captums_at_the_layer_that_it_names(name, right, named, size):
    model, x = random_weights(name).double(), images(2, size, 3)

    def captums(layer):
        maps = LayerGradCam(model, model.get_submodule(layer)).attribute(x, 7, relu_attributions=True)
        return LayerGradCam.interpolate(maps, (size, size), "bilinear").detach()

    method = GradCAM(model)
    assert method.layer_used is None
    found, expected = method.attribute(x, 7), captums(right)
    assert method.layer_used == right
    assert method.notes == (f"The maps are the output of {right}.",)
    assert bool(expected.any())
    close(found, expected)
    close(GradCAM(model, right).attribute(x, 7), found)
    close(GradCAM(model, named).attribute(x, 7), captums(named))
    close(GradCAM(model, model.get_submodule(right)).attribute(x, [7, 7], internal_batch_size=1), found)


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


class Divided(nn.Module):
    """A network of images ``(N, 3, 16, 24)`` in two: ``head(maps(x))``; ``fold`` reads maps (N, K, h, w)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.linear, self.classes = (
            nn.Conv2d(3, 8, 4, 4),
            nn.Linear(8, 8),
            nn.Linear(8, N_CLASSES),
        )
        self.norm = nn.LayerNorm(8)

    def tokens(self, x):
        return self.patches(x).flatten(2).transpose(1, 2)  # (N, 4·6, 8)

    def fold(self, maps):
        return maps

    def forward(self, x):
        return self.head(self.maps(x))


class Branches(Divided):
    """The last convolution sees some of the channels that are pooled, as in DenseNet and Inception."""

    def __init__(self):
        super().__init__()
        self.new = nn.Conv2d(5, 3, 3, 1, 1)

    def maps(self, x):
        maps = self.patches(x)
        return torch.cat([maps[:, :5], functional.relu(self.new(maps[:, :5]))], 1)

    def head(self, maps):
        return self.classes(maps.mean((2, 3)))


class Shortcut(Branches):
    """The convolution that is called last is that of the shortcut; the pooling takes two steps."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 1)

    def maps(self, x):
        before = self.patches(x)
        after = self.one(before).relu_()
        after += self.other(before)
        return after

    def head(self, maps):
        return self.classes(maps.mean(3).amax(2))


class Heads(Divided):
    """The last convolution works on (N·heads, C, h, w), as in MViT."""

    def __init__(self):
        super().__init__()
        self.of_a_head = nn.Conv2d(4, 4, 3, 1, 1)

    def maps(self, x):
        maps = self.patches(x)
        return self.of_a_head(maps.reshape(-1, 4, *maps.shape[2:])).reshape(maps.shape).tanh()

    def head(self, maps):
        return self.classes(functional.adaptive_avg_pool2d(maps, 1).flatten(1))


class Experts(Divided):
    """Each row has weights of its own, and the rows are convolved as groups of one, as in EfficientNet-CC."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(2, 8, 8, 3, 3))

    def maps(self, x):
        maps = self.patches(x)
        shares = maps.mean((2, 3))[:, :2].softmax(1)
        weights = torch.einsum("ne,eoihw->noihw", shares, self.experts).flatten(0, 1)
        together = maps.reshape(1, -1, *maps.shape[2:])
        mixed = functional.conv2d(together, weights, None, 1, 1, groups=len(maps))
        return mixed.permute(1, 0, 2, 3).view(maps.shape).tanh()

    def head(self, maps):
        return self.classes(maps.mean((2, 3)))


class Mixer(Divided):
    """The only convolution makes the patches; layers over the tokens and over the channels mix them."""

    def __init__(self):
        super().__init__()
        self.mixing = nn.Linear(24, 24)

    def maps(self, x):
        tokens = self.tokens(x)
        tokens = tokens + self.mixing(tokens.transpose(1, 2)).relu().transpose(1, 2)
        return self.norm(tokens + self.linear(tokens).relu())

    def fold(self, maps):
        return maps.transpose(1, 2).unflatten(2, (4, 6))

    def head(self, maps):
        return self.classes(maps.mean(1))


class Attending(Mixer):
    """Self-attention among tokens, class token first; the head reads only that."""

    n_before = 1

    def __init__(self):
        super().__init__()
        self.prefix = nn.Parameter(torch.randn(1, self.n_before, 8))

    def maps(self, x):
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), self.tokens(x)], 1)
        return tokens + self.linear(tokens).tanh()

    def fold(self, maps):
        return super().fold(maps[:, self.n_before :])

    def head(self, maps):
        q, k, v = (self.norm(maps).unflatten(2, (2, 4)).transpose(1, 2) * each for each in (1, 2, 3))
        mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        maps = maps + mixed
        return self.classes(self.norm(maps + self.linear(maps).relu())[:, 0])


class Registers(Attending):
    """Several tokens before the patches', and torch's fused attention."""

    n_before = 3

    def head(self, maps):
        heads = self.norm(maps).reshape(len(maps), -1, 2, 4).permute(0, 2, 1, 3)
        mixed = functional.scaled_dot_product_attention(heads, heads, heads)
        return self.classes((maps + mixed.transpose(1, 2).reshape(maps.shape))[:, 0])


class SequenceFirst(Mixer):
    """torch's encoder with (T, N, K); the tokens are averaged."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, 0.0)

    def maps(self, x):
        return self.encoder(self.tokens(x).transpose(0, 1))

    def fold(self, maps):
        return super().fold(maps.transpose(0, 1))

    def head(self, maps):
        return self.classes(maps.mean(0))


class Windows(Divided):
    """Maps (N, h, w, K), shifted, cut into windows of 2×2, and put together again, without a way around."""

    def maps(self, x):
        maps = self.patches(x).permute(0, 2, 3, 1).roll((-1, -1), (1, 2))
        windows = maps.view(-1, 2, 2, 3, 2, 8).transpose(2, 3).reshape(-1, 4, 8)
        windows = self.norm(windows).transpose(1, 2).softmax(2).transpose(1, 2)
        maps = windows.view(-1, 2, 3, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6, 8)
        return self.linear(maps.roll((1, 1), (1, 2))).sigmoid()

    def fold(self, maps):
        return maps.permute(0, 3, 1, 2)

    def head(self, maps):
        return self.classes(maps.mean((1, 2)))


class Merged(Windows):
    """A grid that is halved by a merging of 2×2 patches into the channels, in either spelling."""

    def __init__(self):
        super().__init__()
        self.merging, self.conv = nn.Linear(32, 8), nn.Conv2d(3, 8, 2, 2)

    def maps(self, x):
        maps = self.conv(x).permute(0, 2, 3, 1)
        corners = [maps[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        sliced = self.merging(torch.cat(corners, -1))
        reshaped = maps.reshape(-1, 4, 2, 6, 2, 8).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.norm(self.merging(reshaped).relu() + sliced)


class Unseen(Divided):
    """An activation with a backward pass of its own, and checkpointed blocks."""

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            return 2 * values

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    def maps(self, x):
        return checkpoint(lambda maps: self.Doubled.apply(maps).tanh(), self.patches(x), use_reentrant=True)

    def head(self, maps):
        return self.classes(checkpoint(lambda maps: maps.flatten(2).amax(2), maps, use_reentrant=False))


DIVIDED = [
    Branches,
    Shortcut,
    Heads,
    Experts,
    Mixer,
    Attending,
    Registers,
    SequenceFirst,
    Windows,
    Merged,
    Unseen,
]


@pytest.mark.parametrize("kind", DIVIDED)
def test_the_last_maps_that_all_of_the_gradient_passes(kind):
    model = kind().double().eval()
    x = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(2)).double()
    target = torch.tensor([0, 1, 3])
    maps = model.maps(x)
    (gradient,) = torch.autograd.grad(model.head(maps).gather(1, target[:, None]).sum(), maps)
    values, weights = model.fold(maps), model.fold(gradient).mean((2, 3), keepdim=True)
    assert values.shape == (3, 8, 4, 6)
    expected = (weights * values).sum(1, keepdim=True).relu()
    expected = functional.interpolate(expected, (16, 24), mode="bilinear").detach()
    assert bool(expected.any())
    method = GradCAM(model)
    close(method.attribute(x, target), expected, 1e-12)
    assert method.layer_used in method.notes[0]
    alone = [method.attribute(x[row : row + 1], target[row : row + 1]) for row in range(3)]
    close(torch.cat(alone), expected, 1e-12)


class Overwritten(Branches):
    """The output of one layer is overwritten, that of another comes twice."""

    def maps(self, x):
        return self.norm(functional.relu(self.patches(x), inplace=True).movedim(1, -1))

    def head(self, maps):
        return self.classes(self.norm(maps.mul(2).add_(1)).mean((1, 2)))


@pytest.mark.parametrize("layer", ["patches", "norm"])
def test_a_layer_by_name_is_what_it_put_out_last(layer):
    model, x = Overwritten().double().eval(), images(2, 16, 3)
    patches = model.patches(x)
    norm = model.norm(2 * model.norm(patches.relu().movedim(1, -1)) + 1)
    output = {"patches": patches, "norm": norm}[layer]
    (gradient,) = torch.autograd.grad(model.classes(norm.mean((1, 2)))[:, 2].sum(), output)
    if layer == "norm":
        gradient, output = gradient.movedim(-1, 1), output.movedim(-1, 1)
    expected = (gradient.mean((2, 3), keepdim=True) * output).sum(1, keepdim=True).relu()
    expected = functional.interpolate(expected, (16, 16), mode="bilinear").detach()
    assert bool(expected.any())
    method = GradCAM(model, layer)
    close(method.attribute(x, 2), expected, 1e-12)
    assert method.layer_used == layer
    assert any("norm 2 times" in note for note in method.notes) == (layer == "norm")


def test_it_costs_the_pass_that_it_says():
    n_passes = []

    class Counted(Mixer):
        def forward(self, x):
            n_passes.append(1)
            return super().forward(x)

    method = GradCAM(Counted().double().eval())
    method.attribute(images(2, 24, 3)[:, :, :16])
    assert len(n_passes) == method.n_passes == 1


def transformer(kind):
    torch.manual_seed(0)
    if kind == "torchvision":
        vit = optional("torchvision.models", "vision").VisionTransformer
        model = vit(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=5)
        nn.init.normal_(model.heads[-1].weight)  # torchvision's is zero
        return model, "encoder.layers.encoder_layer_0", 1
    if kind == "transformers":
        library = optional("transformers", "huggingface")
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = library.ViTConfig(image_size=32, patch_size=8, **sizes)
        return library.ViTForImageClassification(config), "vit.layers.0", 1
    create = optional("timm", "vision").create_model
    layer, further, prefix = {
        "timm": ("blocks.0", {}, 1),
        "timm, registers": ("blocks.0", {"reg_tokens": 4}, 5),
        "timm, mean of the tokens": ("blocks.1", {"global_pool": "avg", "class_token": False}, 0),
        "timm, mean without the class token": ("blocks.1", {"global_pool": "avg"}, 1),
    }[kind]
    sizes = {"img_size": (32, 48), "patch_size": 8, "depth": 2, "embed_dim": 24, "num_classes": 5}
    return create("vit_tiny_patch16_224", **sizes, **further), layer, prefix


@pytest.mark.parametrize(
    "kind",
    [
        "torchvision",
        "transformers",
        "timm",
        "timm, registers",
        "timm, mean of the tokens",
        "timm, mean without the class token",
    ],
)
def test_gradcam_folds_tokens_back(kind):
    model, layer, prefix = transformer(kind)
    model = model.double().eval()
    x = torch.randn(2, 3, 32, 48 if kind.startswith("timm") else 32).double()
    method = GradCAM(model)
    found = method.attribute(x, 1)
    assert method.layer_used == layer
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    output = model(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(getattr(output, "logits", output)[:, 1].sum(), kept[0])
    gradient, tokens = gradient[:, prefix:], kept[0][:, prefix:]
    expected = torch.relu((gradient.mean(1, keepdim=True) * tokens).sum(2)).view(2, 1, 4, -1)
    expected = functional.interpolate(expected, x.shape[2:], mode="bilinear")
    assert bool(expected.any())
    close(found, expected.detach(), 1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet10t",
        "timm:resnest14d",
        "timm:convnext_atto",
        "timm:swin_tiny_patch4_window7_224",
        "timm:hiera_tiny_224",
        "timm:mvitv2_tiny",
        "timm:deit_tiny_distilled_patch16_224",
        "timm:xcit_nano_12_p16_224",
    ],
)
def test_maps_made_by_hand_of_named_architectures(name):
    right, what = gradcam_layers.verdict(name)
    assert right, what


class TwoWays(Divided):
    """The ways of two grids meet in the classes only, as in CrossViT."""

    def __init__(self):
        super().__init__()
        self.coarse = nn.Conv2d(3, 8, 8, 8)

    def maps(self, x):
        return [self.patches(x), self.coarse(x)]

    def head(self, maps):
        return self.classes(maps[0].mean((2, 3))) + self.classes(maps[1].mean((2, 3)))


class Pair(TwoWays):
    """The same with a module that gives both."""

    def __init__(self):
        super().__init__()
        self.both = TwoWays()

    def maps(self, x):
        self.both.forward = self.both.maps
        return self.both(x)


class Sorted(Branches):
    """The places are sorted after the last maps that have them."""

    def head(self, maps):
        return self.classes(maps.flatten(2).sort(2).values.mul(torch.arange(24).to(maps)).sum(2))


class Turned(Branches):
    """The image is turned over within the model, so that no place of the maps is one of its own."""

    def maps(self, x):
        return super().maps(x.flip(3))


def test_gradcam_refuses_what_has_no_maps():
    vit, _, _ = transformer("timm")
    vit_x, x = torch.randn(1, 3, 32, 48), torch.randn(2, 3, 16, 24)
    for model, layer, inputs, words in [
        (dense(72), None, images(), "no feature maps that all"),
        (TwoWays(), None, x, "no feature maps that all"),
        (Pair(), "both", x, r"gives 2 feature maps, \(2, 8, 4, 6\), \(2, 8, 2, 3\)"),
        (Sorted(), None, x, r"cannot follow the image's grid through sort\(\) in the model"),
        (Turned(), None, x, r"through flip\(\)"),
        (Turned(), "patches", x, r"layer 'patches' gives shape \(2, 8, 4, 6\), in which no grid"),
        (Heads(), "of_a_head", x, r"gives shape \(4, 4, 4, 6\)"),
        (vit, "blocks.1", vit_x, "patch tokens of layer 'blocks.1' have no gradient"),
        (vit, "head", vit_x, "layer 'head' gives shape"),
        (random_weights("inception_v3"), "AuxLogits.conv1", torch.randn(1, 3, 80, 80), "takes no part"),
        (TwoWays(), "norm", x, "takes no part"),
    ]:
        with pytest.raises(dg.errors.ModelError, match=words):
            GradCAM(model.to(inputs.dtype).eval(), layer).attribute(inputs, 1)
    with pytest.raises(dg.errors.InputError, match="images"):
        GradCAM(dense()).attribute(torch.randn(2, 12).double())
    with pytest.raises(dg.errors.UnknownNameError, match=r"'blocks\.1'"):
        GradCAM(vit, "block.1")
    for layer in (nn.ReLU(), 3):
        with pytest.raises(dg.errors.ParameterError, match="layer"):
            GradCAM(vit, layer)
