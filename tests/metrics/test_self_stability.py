"""Agreement of a method with itself."""

import pytest
import torch
from torch import nn

import distillgrad as dg
from networks import convolutional

X = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 4))


def test_the_gradient_of_a_linear_model_is_the_same_everywhere():
    model = linear()
    with torch.no_grad():
        model[1].weight.copy_((8 * model[1].weight).round() / 8 + torch.arange(72) / 128)  # exact in bfloat16
    found = dg.metrics.stability(model, lambda model: dg.Saliency(model).attribute, X, 1)
    assert found.conditions == ("float64", "bfloat16", "alone", "jitter")
    torch.testing.assert_close(found.spearman, torch.ones(3, 4).double())
    torch.testing.assert_close(found.overlap, torch.ones(3, 4).double())
    torch.testing.assert_close(found.ssim, torch.ones(3, 4).double())


def test_each_condition_is_what_it_says():
    """Explainers that look at one thing alone: only that condition tells them apart."""

    def by_dtype(model):
        sign = 1 if next(model.parameters()).dtype == torch.float32 else -1
        return lambda x, _: sign * X[: len(x)].to(x)

    def by_batch(model):
        return lambda x, _: X[: len(x)].to(x) * (1 if len(x) == 3 else -1)

    def by_content(model):
        same = {0: None}

        def explain(x, _):
            same[0] = x if same[0] is None else same[0]
            return X[: len(x)].to(x) * (1 if torch.equal(x, same[0][: len(x)].to(x)) else -1)

        return explain

    signs = {}
    for name, explainer in {"dtype": by_dtype, "batch": by_batch, "content": by_content}.items():
        signs[name] = dg.metrics.stability(linear(), explainer, X, 0).spearman[0].round().tolist()
    assert signs == {"dtype": [-1, -1, 1, 1], "batch": [1, 1, -1, 1], "content": [1, 1, 1, -1]}


def test_a_jitter_of_nothing_changes_nothing_and_the_model_stays_as_it_is():
    model = convolutional().float()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    found = dg.metrics.stability(model, lambda model: dg.DGA(model, n_steps=4).attribute, X, None, jitter=0.0)
    torch.testing.assert_close(found.spearman[:, 3], torch.ones(3).double())
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    ("model", "keywords", "words"),
    [
        (linear(), {"jitter": -1.0}, "jitter must be"),
        (linear(), {"jitter": float("nan")}, "jitter must be"),
        (lambda x: x.flatten(1)[:, :4], {}, "give the nn.Module"),
    ],
)
def test_wrong_requests(model, keywords, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        dg.metrics.stability(model, lambda model: dg.Saliency(model).attribute, X, 0, **keywords)
