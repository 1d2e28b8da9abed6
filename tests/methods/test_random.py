"""The random control."""

import torch

from distillgrad.methods.random import Random


def unasked(inputs):
    raise AssertionError(f"the model was asked about {len(inputs)} rows")


def test_random_is_normal_repeatable_and_asks_no_model():
    x = torch.randn(2, 3, 64, 64)
    found = Random(unasked).attribute(x)
    assert found.shape == x.shape
    assert abs(float(found.mean())) < 0.03
    assert abs(float(found.std()) - 1) < 0.03
    assert torch.equal(found, Random(unasked).attribute(x.clone(memory_format=torch.channels_last)))
    assert torch.equal(found[1], Random(unasked).attribute(x[1:])[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found, Random(unasked, seed=1).attribute(x))
    assert Random(unasked).attribute(x.bfloat16()).dtype == torch.bfloat16
    assert Random(unasked).n_passes == 0
