"""What a model returned, as the logits that are explained."""

import pytest
import torch

from distillgrad.core.forward import logits_of

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
