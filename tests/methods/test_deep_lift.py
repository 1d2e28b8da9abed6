"""DeepLIFT: equal to Captum's where that is right, complete, or refused."""

import warnings

import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.methods.deep_lift import DeepLift
from networks import FunctionalReused, convolutional, dense


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def random_weights(name):
    loaded = dg.load_model(f"torchvision:{name}", pretrained=False)
    return loaded.model.eval()


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


def test_a_sum_that_is_not_the_gain_is_refused(monkeypatch):
    plain = lambda self, module, grad_input, grad_output: grad_input  # noqa: E731  # the gradient, for the rule
    monkeypatch.setattr(CaptumDeepLift, "_backward_hook", plain)
    with pytest.raises(
        dg.errors.ModelError, match=r"do not sum to what the score gains over the baseline, by 0\."
    ):
        DeepLift(convolutional()).attribute(images(), 1)


class Deaf(nn.Linear):
    def forward(self, x):
        return self.weight[:, 0].expand(len(x), -1)


@pytest.mark.parametrize("method", ["deep_lift", "lrp"])
def test_a_score_of_the_weights_alone_has_no_map(method):
    model = Deaf(1, 3)
    with pytest.raises(dg.errors.ModelError, match="does not depend on the inputs"):
        dg.create_method(method, model.double().eval()).attribute(images(), 1)
