"""LRP: equal to Zennit's, conserving relevance, or refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.methods.lrp import LRP
from networks import Wrapped, convolutional, dense


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def random_weights(name):
    loaded = dg.load_model(f"torchvision:{name}", pretrained=False)
    return loaded.model.eval()


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


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
