"""Models that keep something from call to call: refused where their answers change with it, else let be."""

import pytest
import torch
from torch import nn

import distillgrad as dg

IMAGES = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


class Keeping(nn.Module):
    """A layer that keeps its last input in some way, and adds a part of it to the next."""

    def __init__(self, how):
        super().__init__()
        self.how, self.kept, self.by_name, self.several = how, None, {}, []
        self.register_buffer("buffer", torch.zeros(16))

    def forward(self, x):
        now = x.detach().mean(0)
        before = {
            "attribute": lambda: self.kept,
            "dictionary": lambda: self.by_name.get("last"),
            "list": lambda: self.several[-1] if self.several else None,
            "buffer in place": self.buffer.clone,
        }[self.how]()
        self.kept = now if self.how == "attribute" else None
        if self.how == "dictionary":
            self.by_name["last"] = now
        if self.how == "list":
            self.several.append(now)
        if self.how == "buffer in place":
            self.buffer.copy_(now)
        return torch.relu(x + (0 if before is None else 0.9 * before))


class Counting(nn.Module):
    """A layer that counts its calls, keeps its output and makes a mask once, all of which does no harm."""

    def __init__(self):
        super().__init__()
        self.n_calls, self.output, self.mask = 0, None, None

    def forward(self, x):
        self.n_calls += 1
        self.mask = torch.ones_like(x[:1]) if self.mask is None else self.mask
        self.output = torch.relu(x * self.mask)
        return self.output


def network(layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), layer, nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("how", ["attribute", "dictionary", "list", "buffer in place"])
@pytest.mark.parametrize("name", ["saliency", "dga", "integrated_gradients", "occlusion"])
def test_a_state_that_changes_answers_is_refused(how, name):
    method = dg.create_method(name, network(Keeping(how)), **({"window": 2} if name == "occlusion" else {}))
    for _ in range(2):
        with pytest.raises(dg.errors.ModelError, match=r"keeps 2\.(kept|by_name|several|buffer|_buffers)"):
            method.attribute(IMAGES, target=1)


def test_distillation_refuses_it_too():
    with pytest.raises(dg.errors.ModelError, match=r"2\.kept"):
        dg.DGA(network(Keeping("attribute")), n_steps=3).distill(IMAGES, 1)


@pytest.mark.parametrize("name", ["saliency", "dga", "integrated_gradients"])
def test_what_does_no_harm_is_let_be(name):
    harmless = dg.create_method(name, network(Counting())).attribute(IMAGES, target=1)
    torch.testing.assert_close(
        harmless, dg.create_method(name, network(nn.ReLU())).attribute(IMAGES, target=1), rtol=0, atol=0
    )


def test_a_function_that_resets_the_state_is_explained():
    model = network(Keeping("attribute"))

    def reset(inputs):
        model[2].kept = None
        return model(inputs)

    expected = dg.Saliency(network(nn.ReLU())).attribute(IMAGES, target=1)
    torch.testing.assert_close(dg.Saliency(reset).attribute(IMAGES, target=1), expected)
