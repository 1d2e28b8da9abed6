"""What every map takes for granted of a model, tried at its first use: refused by name, or let be."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.examination import findings
from distillgrad.core.examination.findings import findings_of
from distillgrad.testing import check_model


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class WrongOfOneRow(torch.autograd.Function):
    """The identity, whose gradient of a single row is another one, as torch 2.13's batch norm returned it."""

    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, gradient):
        return gradient.flip(-1) if len(gradient) == 1 else gradient


GENERATOR = torch.Generator()
DRAWING = {
    "dropout": lambda x: functional.dropout(x, 0.3, training=True),
    "a layer left out at times": lambda x: x if torch.rand(()) < 0.9 else x * 0,
    "NumPy's": lambda x: x + float(np.random.randn()),  # noqa: NPY002
    "Python's": lambda x: x * random.random(),  # noqa: S311
}
MIXING = {
    "statistics of the batch": nn.BatchNorm2d(8, track_running_stats=False),
    "its mean": Layer(lambda x: x - x.mean(0)),
    "its maximum": Layer(lambda x: x / x.abs().max()),
    "the row before": Layer(lambda x: x + 0.5 * x.roll(1, 0)),
    "the place in it": Layer(lambda x: x * (1 + torch.arange(len(x)).view(-1, 1, 1, 1))),
    "attention": Layer(lambda x: functional.scaled_dot_product_attention(*[x.flatten(1)] * 3).view(x.shape)),
}


def network(layer):
    torch.manual_seed(0)
    head = nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), layer, *head).eval()


def images(n):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def at_any_cost(monkeypatch):
    """Everything is tried at the first call, as after many passes."""
    monkeypatch.setattr(findings, "THRIFT", 0)


@pytest.mark.parametrize("name", ["saliency", "dga", "occlusion"])
@pytest.mark.parametrize("what", DRAWING)
def test_a_model_that_draws_random_numbers_is_refused_by_every_method_at_its_first_call(what, name):
    method = dg.create_method(
        name, network(Layer(DRAWING[what])), **({"window": 3} if name == "occlusion" else {})
    )
    torch.manual_seed(0)
    with pytest.raises(dg.errors.ModelError, match="draws random numbers"):
        method.attribute(images(1), 1)


def test_the_module_that_draws_is_named_and_the_users_random_numbers_stay_as_they_are():
    model = network(Layer(DRAWING["dropout"]))
    torch.manual_seed(7)
    model(images(1))
    expected = torch.rand(3)
    torch.manual_seed(7)
    with pytest.raises(dg.errors.ModelError, match=r"in 1 \(Layer\): asked twice"):
        dg.Saliency(model).attribute(images(1), 1)
    assert torch.equal(torch.rand(3), expected)


def test_random_numbers_of_its_own_are_found_when_it_is_asked_twice(at_any_cost):
    model = network(Layer(lambda x: x + torch.randn(x.shape, generator=GENERATOR)))
    with pytest.raises(dg.errors.ModelError, match=r"answers otherwise in 1 \(Layer\)"):
        dg.Saliency(model).attribute(images(1), 1)


@pytest.mark.parametrize("what", MIXING)
def test_rows_that_depend_on_each_other_are_refused_together_and_explained_alone(what, at_any_cost):
    model, x = network(MIXING[what]), images(3)
    for _ in range(2):
        with pytest.raises(
            dg.errors.ModelError, match=r"other rows of its batch in 1 .*internal_batch_size=1"
        ):
            dg.Saliency(model).attribute(x, 1)
    alone = dg.Saliency(model).attribute(x, 1, internal_batch_size=1)
    for row in range(3):
        leaf = x[row : row + 1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf)[0, 1], leaf)
        torch.testing.assert_close(alone[row], gradient[0].abs())
    if what == "the place in it":
        model[1] = nn.Identity()  # mended: another model
        dg.Saliency(model).attribute(x, 1)


def test_a_batch_norm_without_statistics_is_doubted_whatever_it_costs():
    with pytest.raises(dg.errors.ModelError, match=r"in 1 \(BatchNorm2d\)"):
        dg.Saliency(network(MIXING["statistics of the batch"])).attribute(images(2), 1)


@pytest.mark.parametrize("n", [1, 3])
def test_a_gradient_that_is_another_one_in_a_batch_is_refused(n, at_any_cost):
    model = network(Layer(WrongOfOneRow.apply))
    with pytest.raises(dg.errors.ModelError, match=r"gradient of a row alone is not .* in 1 \(Layer\)"):
        dg.Saliency(model).attribute(images(n), 1)
    dg.create_method("occlusion", model, window=3).attribute(images(n), 1)  # takes no gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Identity(),
        Layer(lambda x: (torch.rand(3), x)[1]),  # random numbers that nothing depends on
        Layer(lambda x: x.to(torch.bfloat16).to(x.dtype)),
        Layer(lambda x: x + torch.linspace(-1e3, 1e3, x[0].numel()).view(x.shape[1:]).to(x)),
    ],
    ids=["plain", "unused numbers", "rounded", "cancelling"],
)
def test_right_models_are_let_be(layer, dtype, at_any_cost):
    model = network(layer).to(dtype)
    dg.Saliency(model).attribute(images(2).to(dtype), 1)
    check_model(model, images(2).to(dtype))


def test_a_chaotic_network_is_not_taken_for_a_fault(at_any_cost):
    """Its gradient hangs on the last bit of the input, and so on the order in which a batch is summed."""

    class Chaotic(nn.Module):
        def forward(self, x):
            z = x.flatten(1).double().sum(1, keepdim=True) + 1e-16 * len(x)
            return torch.cat([torch.sin(z * 1e14) * 1e-14, z], 1).to(x.dtype) + 0 * x.flatten(1)[:, :2]

    found = dg.Saliency(Chaotic()).attribute(images(2).double(), lambda output: output[:, 0])
    assert found.any()


def test_it_is_tried_only_when_it_takes_one_pass_in_thirty_and_once():
    rows = []

    class Counting(nn.Module):
        def forward(self, x):
            rows.append(len(x))
            return x.flatten(1)[:, :4] * 2

    model = Counting()
    n_calls = 0
    while sum(rows) - 3 * n_calls < 3 + 3 + 2:  # the rows that tries take: a pair and one, twice; two
        n_calls += 1
        dg.Saliency(model).attribute(images(3), 1)
        spent = findings_of(model, images(1)).spent
        assert spent * 30 <= 9 * n_calls
        assert n_calls < 100
    rows.clear()
    dg.Saliency(model).attribute(images(3), 1)
    assert rows == [3]


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda x: {"a": x.mean((2, 3)), "b": x.sum((2, 3))}, ""),
        (lambda x: x.view(3, -1)[:, :4], "shape"),
    ],
    ids=["an output of its own", "three rows exactly"],
)
def test_what_cannot_be_tried_is_explained_as_before(forward, words, at_any_cost):
    model, x = Layer(forward), images(3)
    dg.Saliency(model).attribute(
        x, lambda output: output["a"][:, 0] if isinstance(output, dict) else output[:, 0]
    )
    if words:
        with pytest.raises(dg.errors.ModelError, match=f"cannot be tried .*{words}"):
            check_model(model, x)


def test_a_model_that_is_checked_beforehand_is_not_tried_again():
    model = network(nn.Identity())
    check_model(model, images(1))
    spent = findings_of(model, images(1)).spent
    dg.DGA(model).attribute(images(8), 1)
    assert findings_of(model, images(1)).spent == spent
    for layer, words in ((MIXING["its mean"], "other rows"), (Layer(WrongOfOneRow.apply), "gradient")):
        with pytest.raises(dg.errors.ModelError, match=words):
            check_model(network(layer), images(1))


def test_progress_counts_the_passes_of_the_method_alone(at_any_cost):
    from distillgrad.core.forward import counted

    passes = []
    dg.DGA(counted(network(nn.Identity()), lambda: passes.append(1)), n_steps=3).attribute(images(2), 1)
    assert len(passes) == 4


@pytest.mark.parametrize("result", ["features", "pixels"])
def test_a_map_of_another_shape_is_refused(result):
    class Squeezed(dg.Method):
        signed, source = False, "nowhere"

        def _attribute(self, batch):
            return batch.inputs[..., 1:]

    Squeezed.result = result
    with pytest.raises(dg.errors.ModelError, match=r"map of shape \(2, 3, 6, 5\)"):
        Squeezed(network(nn.Identity())).attribute(images(2))


def test_logits_that_are_not_finite_are_the_methods_own_to_refuse(at_any_cost):
    model = network(Layer(lambda x: (torch.rand(3), x * torch.inf)[1]))
    with pytest.raises(dg.errors.ModelError, match="not finite for sample"):
        dg.create_method("occlusion", model, window=3).attribute(images(2), 1)
