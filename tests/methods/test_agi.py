"""AGI: its algorithm written down for one row, and a closed form."""

import pytest
import torch
from torch import nn

from distillgrad.errors import ModelError, TargetError
from distillgrad.methods.agi import AGI
from networks import convolutional


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear(n_classes=3):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, n_classes)).double()


class Counting:
    """A model that counts its calls and the rows of the largest."""

    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0

    def __call__(self, x):
        self.calls, self.rows = self.calls + 1, max(self.rows, len(x))
        return self.model(x)


def literal_agi(model, x, target, rivals, epsilon, max_steps):
    """One row: the sum over the path towards each false class, divided by their number."""
    low, high, total = x.min(), x.max(), torch.zeros_like(x)
    for rival in rivals:
        here = x.clone()
        for _ in range(max_steps):
            here.requires_grad_()
            output = model(here[None])[0]
            if int(output.argmax()) == rival:
                break
            probabilities = output.softmax(0)
            (up,) = torch.autograd.grad(probabilities[rival], here, retain_graph=True)
            (down,) = torch.autograd.grad(probabilities[target], here)
            here = here.detach()
            there = (here + epsilon * (high - low) * up.sign()).clamp(low, high)
            total -= down * (there - here)
            here = there
    return total / len(rivals)


def test_agi_is_the_algorithm_written_down_for_each_row():
    model, x, target = convolutional(), images(4), [0, 3, 1, 1]
    order = torch.randperm(4, generator=torch.Generator().manual_seed(7)).tolist()
    found = AGI(model, 0.04, 8, n_classes=2, seed=7).attribute(x, target)
    for row, each in enumerate(target):
        rivals = [rival for rival in order if rival != each][:2]
        expected = literal_agi(model, x[row], each, rivals, 0.04, 8)
        torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-13)


def test_agi_of_a_logistic_model_is_what_its_probability_loses_up_to_the_boundary():
    w = torch.linspace(-1, 2, 12).double()

    def model(inputs):
        score = inputs.flatten(1) @ w
        return torch.stack([score, -score], 1)

    x = (0.2 * w).view(1, 3, 4)
    found = AGI(model, epsilon=1e-4, max_steps=2000, clamp=(-5.0, 5.0)).attribute(x, 0)
    # All features move by the same ε, so each loses in proportion to its weight; in all, p − 1/2.
    share = found.flatten() / w.abs()
    torch.testing.assert_close(share, share.mean().expand(12))
    lost = model(x).softmax(1)[0, 0] - 0.5
    torch.testing.assert_close(found.sum(), lost, rtol=0, atol=2e-3)


def test_agi_drops_rows_that_have_arrived():
    model = Counting(lambda x: torch.stack([x[:, 0], x[:, 1]], 1))
    x = torch.tensor([[1.0, 0.9, -4.0, 4.0], [4.0, -4.0, 0.0, 0.0]]).double()
    whole = AGI(model, epsilon=0.05, max_steps=50).attribute(x, 0)
    assert model.calls < 40
    assert bool((whole[:, :2] > 0).any())
    assert not whole[:, 2:].any()  # the model ignores them


def test_agi_needs_classes():
    x = images()
    with pytest.raises(TargetError, match="callable"):
        AGI(linear()).attribute(x, lambda logits: logits[:, 0])
    with pytest.raises(ModelError, match=r"\(3,\) for 3 samples"):
        AGI(lambda inputs: linear()(inputs)[:, 0]).attribute(x)
    with pytest.raises(ModelError, match="two or more"):
        AGI(linear(1)).attribute(x)
    with pytest.raises(TargetError, match="3 class"):
        AGI(linear()).attribute(x, 3)
