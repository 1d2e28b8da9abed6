"""Layers whose weights are computed, or no plain tensors: explained as the plain network is, or refused."""

import pytest
import torch
from computed_weights import KINDS, REFUSED, computing, images, plain_of

from distillgrad.errors import ModelError
from networks import made


def state_of(model):
    """What the modules hold, but for the tensors that each call computes anew."""
    return [
        {key: dict(value) if isinstance(value, dict) else value for key, value in vars(each).items()}
        | {"weight": None, "bias": None}
        for each in model.modules()
    ]


@pytest.mark.parametrize("method", ["lrp", "deep_lift", "gradient_x_input"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_that_of_the_plain_network(kind, method):
    model = computing(kind)
    expected = made(method, plain_of(model)).attribute(images(), 1)
    before = state_of(model)
    found = made(method, model).attribute(images(), 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert state_of(model) == before
    assert not any(each._forward_hooks for each in model.modules())


@pytest.mark.parametrize(("method", "words"), [("lrp", r"weights.* 0 \("), ("deep_lift", "Conv2d: 0|score")])
@pytest.mark.parametrize("kind", REFUSED)
def test_weights_that_change_from_call_to_call_are_refused(kind, method, words):
    with pytest.raises(ModelError, match=words):
        made(method, computing(kind)).attribute(images(), 1)
