"""One pass observed: whatever an operation is called as, on the way of the image alone, and nothing stays."""

import threading

import torch
from torch import nn
from torch.nn import functional

from distillgrad.core.batch import checked_batch
from distillgrad.core.forward import value_and_gradient
from distillgrad.core.observation import nodes_between, observed_gradient
from distillgrad.core.operations import KNOWN, operation_name
from networks import convolutional


def test_an_operation_has_one_name():
    functions = (torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, functional.relu)
    operators = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
    assert {operation_name(each) for each in functions + operators} == {"relu"}
    assert operation_name(torch.ops.aten.add_.Tensor) == operation_name(torch.Tensor.add_) == "add"
    assert operation_name(torch.Tensor.T.__get__) == "T"


def names_of(model, x):
    """Return what is observed between image and score, in order."""
    names = []
    observed_gradient("the test", "", model, checked_batch(x, 1), lambda each: names.append(each.name))
    return names


def test_composites_are_seen_as_what_they_are_made_of():
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    names = names_of(lambda x: attention(x, x, x)[0].mean(1), torch.randn(2, 5, 4))
    assert {"mm", "softmax", "bmm", "addmm"} & set(names)
    assert "multi_head_attention_forward" not in names
    assert set(names) <= KNOWN


def test_only_what_depends_on_the_image_is_examined():
    table = torch.randn(3, requires_grad=True)

    def model(x):
        x.detach().exp()  # is examined, for it depends on the image, but has no gradient
        return x + table.cosh()

    assert names_of(model, torch.randn(2, 3)) == ["clone", "detach", "exp", "add", "gather", "select"]


def test_hooks_get_the_gradient_of_a_part_that_is_written_in_place():
    seen = []

    def model(x):
        x = x.clone()
        x[:, 1:3].mul_(2)
        return x * torch.arange(1.0, 6.0)

    def examine(operation):
        if operation.name != "mul" or not operation.in_place:
            return None
        return lambda part, whole, _: seen.append((part.clone(), whole.clone())) or part * 10

    x = torch.randn(2, 5)
    score = lambda output: output.sum(1)  # noqa: E731
    _, gradient = observed_gradient("the test", "", model, checked_batch(x, score), examine)
    weights = torch.arange(1.0, 6.0).expand(2, 5)
    ((part, whole),) = seen
    assert torch.equal(part, weights[:, 1:3])
    assert torch.equal(whole, weights)
    assert torch.equal(gradient, weights * torch.tensor([1.0, 20, 20, 1, 1]))


def test_the_path_leads_from_the_image_to_the_score_alone():
    x, weight = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    hidden, aside = x * weight.exp(), x.sin()
    names = {node.name() for node in nodes_between(x, hidden.sum())}
    assert names == {"SumBackward0", "MulBackward0", "torch::autograd::AccumulateGrad"}
    assert aside.grad_fn not in nodes_between(x, hidden.sum())


def test_the_gradient_is_the_plain_one_and_another_thread_is_not_seen():
    model, x, target = convolutional(), torch.randn(2, 2, 6, 6).double(), torch.tensor([1, 1])
    plain, others = value_and_gradient(model, x, target), []
    names = []

    def examine(operation):
        if not names:
            thread = threading.Thread(target=lambda: others.append(value_and_gradient(model, x, target)))
            thread.start()
            thread.join()
        names.append(operation.name)

    value, gradient = observed_gradient("the test", "", model, checked_batch(x, 1), examine)
    assert torch.equal(value, plain[0])
    assert torch.equal(gradient, plain[1])
    assert torch.equal(others[0][1], plain[1])
    assert names.count("convolution") == 2
    assert not any(each.requires_grad and each.grad is not None for each in model.parameters())
