"""What a model returned, as the logits that are explained; and models that cannot be called so."""

import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.core.logits import logits_of
from distillgrad.core.working_copy import working_copy
from distillgrad.errors import ModelError
from distillgrad.metrics.randomisation import parameter_randomisation

LOGITS = 30 * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_probabilities_before_their_logits_are_passed_over(dtype):
    logits = LOGITS.to(dtype)
    features = torch.randn(4, 50, dtype=dtype)
    assert logits_of((logits.softmax(1), logits)) is logits
    assert logits_of([logits.softmax(1), features, logits]) is logits
    assert logits_of((logits[:1].softmax(1), logits[:1])).equal(logits[:1])


@pytest.mark.parametrize("others", [(), (torch.randn(4, 7),), (LOGITS.flip(1),), (None, "labels")])
def test_else_the_first_of_several_is_the_logits(others):
    for first in (LOGITS, LOGITS.softmax(1), LOGITS.abs(), LOGITS[:, :1]):
        assert logits_of((first, *others)) is first


def test_lazy_layers_are_refused_before_the_first_call():
    model = nn.Sequential(nn.LazyConv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    x = torch.randn(2, 2, 6, 6)
    for ask in (
        lambda: dg.DGA(model).attribute(x),
        lambda: dg.accelerate(model, x),
        lambda: parameter_randomisation(model, lambda each: dg.Saliency(each).attribute, x, 0),
        lambda: working_copy(model),
    ):
        with pytest.raises(ModelError, match="weights of 0, 3 are made in the model's first call"):
            ask()
    model(x)
    assert dg.Saliency(model).attribute(x, 0).any()


def test_an_exported_program_and_what_has_no_backward_pass_fail_in_words():
    class Forward(nn.Module):
        def forward(self, x):
            if torch.is_grad_enabled() and x.requires_grad:
                raise NotImplementedError("no backward pass here")
            return x.flatten(1)

    x = torch.randn(2, 2, 6, 6)
    exported = torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).eval(), (x,)).module()
    assert dg.Saliency(exported).attribute(x, 0).any()
    with pytest.raises(ModelError, match=r"inputs of shape \(1, 2, 6, 6\).*Guard failed"):
        dg.Saliency(exported).attribute(x[:1], 0)
    for method in (dg.Saliency, dg.IntegratedGradients, dg.LRP, dg.DeepLift):
        with pytest.raises(ModelError, match="no backward pass here"):
            method(Forward()).attribute(x, 0)
