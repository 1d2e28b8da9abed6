"""What Grad-CAM, DeepLIFT and LRP share, which look at layers: nothing is left behind."""

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.methods.deep_lift import DeepLift
from distillgrad.methods.gradcam import GradCAM
from distillgrad.methods.lrp import LRP
from networks import Wrapped, convolutional

METHODS = (GradCAM, DeepLift, LRP)


def images(n=3, size=6, channels=2):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def state_of(model):
    return [
        {name: dict(value) if isinstance(value, dict) else value for name, value in vars(module).items()}
        for module in model.modules()
    ]


def close(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


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
        close(explain(images(), lambda output: dg.core.logits.logits_of(output)[:, 1]), found, 1e-12)


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
    for _ in range(fails_at - 1 if method is GradCAM else 0):
        explain(images(), 1)  # one call each
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


@pytest.mark.parametrize("method", METHODS)
def test_a_head_without_a_gradient_is_refused_in_the_same_words(method):
    class Cut(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.inner, self.cut = convolutional(), cut

        def forward(self, x):
            return self.cut(self.inner, x)

    def without_grad(inner, x):
        with torch.no_grad():
            return inner(x)

    cuts = (
        lambda inner, x: inner(x).detach(),
        lambda inner, x: inner[-1](inner[:-1](x).detach()),
        lambda inner, x: nn.functional.one_hot(inner(x).argmax(1), 4).double(),
        without_grad,
    )
    for cut in cuts:
        with pytest.raises(dg.errors.ModelError, match=r"carries no gradient: .*no_grad, detaches"):
            method(Cut(cut)).attribute(images(), 1)
