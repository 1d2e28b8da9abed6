"""Integrated gradients: Captum's values."""

import captum.attr
import pytest
import torch

from distillgrad.methods.integrated_gradients import QUADRATURES, IntegratedGradients
from networks import FunctionalReused, convolutional, dense


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("model", [convolutional(), FunctionalReused().double()])
def test_integrated_gradients_are_captums(model, quadrature):
    x, target = images(), torch.tensor([0, 3, 1])
    baselines = torch.randn(1, 2, 6, 6).double()

    def out_of_place(inputs):
        return model(inputs.clone())

    expected = captum.attr.IntegratedGradients(out_of_place).attribute(
        x.clone(), baselines.expand_as(x), target, n_steps=7, method=quadrature
    )
    found = IntegratedGradients(model, 7, quadrature).attribute(x, target, baselines=baselines[0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_integrated_gradients_of_one_score_per_sample_take_class_0():
    def model(x):
        return dense(72)(x)[:, 0]

    x = images()
    method = IntegratedGradients(model, 3)
    assert torch.equal(method.attribute(x, 0), method.attribute(x))
