"""Callable targets that hold a label for each row: right however the rows are cut."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

import distillgrad as dg


class Pair(NamedTuple):
    logits: torch.Tensor
    tokens: torch.Tensor


WRAPPED = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, logits[:, None]),
    "mapping": lambda logits: {"logits": logits, "loss": None},
    "named tuple": lambda logits: Pair(logits, logits),
    "object": lambda logits: SimpleNamespace(logits=logits, cache=object()),
}
LOGITS = {
    "tensor": lambda out: out,
    "tuple": lambda out: out[0],
    "mapping": lambda out: out["logits"],
    "named tuple": lambda out: out.logits,
    "object": lambda out: out.logits,
}
LABELS = torch.tensor([2, 0, 1, 1, 2])
HOLDING = {
    "index": lambda logits: logits[torch.arange(len(logits)), LABELS],
    "cut to fit": lambda logits: logits.gather(1, LABELS[: len(logits), None])[:, 0],
    "one-hot": lambda logits: (logits * nn.functional.one_hot(LABELS, 3)).sum(1),
    "list": lambda logits: torch.stack([row[label] for row, label in zip(logits, LABELS.tolist())]),  # noqa: B905
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double()


@pytest.fixture
def inputs():
    return torch.rand(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("held", HOLDING)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_label_for_each_row_stays_with_its_row(network, inputs, kind, held, size):
    def model(images):
        return WRAPPED[kind](network(images))

    def target(output):
        return HOLDING[held](LOGITS[kind](output))

    expected = dg.GradientXInput(network).attribute(inputs, LABELS)
    actual = dg.GradientXInput(model).attribute(inputs, target, internal_batch_size=size)
    torch.testing.assert_close(actual, expected)


def test_labels_are_noticed_where_the_first_row_scores_all_classes_alike(network, inputs):
    with torch.no_grad():
        network[3].bias.sub_(network(inputs[:1])[0])
    expected = dg.GradientXInput(network).attribute(inputs, LABELS)
    actual = dg.GradientXInput(network).attribute(inputs, HOLDING["cut to fit"], internal_batch_size=1)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ["lime", "samp", "deep_lift", "integrated_gradients", "occlusion"])
def test_methods_that_cut_or_repeat_rows_themselves_keep_labels_with_them(network, inputs, name):
    parameters = {"lime": {"n_samples": 30, "cells": 2}}.get(name, {})
    method = dg.create_method(name, network, **parameters)
    expected = method.attribute(inputs, LABELS)
    torch.testing.assert_close(method.attribute(inputs, HOLDING["index"]), expected)


def test_a_target_of_any_rows_gets_them_as_they_are(network, inputs):
    shapes = []

    def target(output):
        shapes.append(output.shape[0])
        return output[:, 1] - output[:, 2]

    dg.Saliency(network).attribute(inputs, target, internal_batch_size=2)
    assert shapes == [
        5,
        2,
        2,
        2,
        1,
    ]  # asked once about all places, once whether fewer rows do, then in earnest


def test_an_output_that_cannot_be_taken_apart_is_refused_in_chunks_alone(network, inputs):
    class Sealed:
        __slots__ = ("logits",)

        def __init__(self, logits):
            self.logits = logits

    method = dg.Saliency(lambda images: Sealed(network(images)))
    method.attribute(inputs, lambda out: out.logits[torch.arange(5), LABELS])
    with pytest.raises(dg.errors.TargetError, match=r"Sealed.*class numbers as target="):
        method.attribute(inputs, lambda out: out.logits[:, 0], internal_batch_size=2)
