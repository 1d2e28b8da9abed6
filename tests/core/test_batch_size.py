"""The number of rows at a time that is found by itself, on models whose cost is known."""

import gc

import pytest
import torch

import distillgrad as dg
from distillgrad.core import batch_size
from distillgrad.testing import check_model
from networks import convolutional


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a model says so."""

    class Clock:
        now = 0.0

    monkeypatch.setattr("time.perf_counter", lambda: Clock.now)
    return Clock


class Priced(torch.nn.Module):
    """A linear model whose pass takes a time that depends on its rows, of which it takes down the numbers."""

    def __init__(self, clock, cost):
        super().__init__()
        self.clock, self.cost, self.rows = clock, cost, []
        self.weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2))

    def forward(self, x):
        self.clock.now += self.cost(len(x))
        self.rows.append(len(x))
        return x @ self.weight


def priced(clock, cost):
    """Such a model after it was examined, as it would be at its first uses."""
    model = Priced(clock, cost)
    check_model(model, torch.randn(1, 3))
    model.rows.clear()
    return model


@pytest.mark.parametrize(
    ("cost", "best"),
    [
        (lambda n: 1.0, 16),  # a device that takes any number at once
        (float, 1),  # nothing is gained by more: least memory
        (lambda n: 1.0 + n if n <= 4 else 3.0 * n, 4),  # a cache that is full
    ],
)
def test_the_cheapest_size_is_found_and_remembered(clock, cost, best):
    model, x = priced(clock, cost), torch.randn(19, 3)
    found = dg.Saliency(model).attribute(x, internal_batch_size="auto")
    chunks = [min(best, 19 - start) for start in range(0, 19, best)]
    assert model.rows[-len(chunks) :] == chunks
    assert torch.equal(found, dg.Saliency(model).attribute(x))
    model.rows.clear()
    dg.Saliency(model).attribute(x, internal_batch_size="auto")
    assert model.rows == chunks


def test_a_larger_batch_is_measured_only_where_it_could_be_better(clock):
    model = priced(clock, lambda n: 1.0)
    dg.Saliency(model).attribute(torch.randn(4, 3), internal_batch_size="auto")
    dg.Saliency(model).attribute(torch.randn(32, 3), internal_batch_size="auto")
    assert model.rows[-1] == 32
    dearer = priced(clock, lambda n: float(n * n))
    dg.Saliency(dearer).attribute(torch.randn(4, 3), internal_batch_size="auto")
    dearer.rows.clear()
    dg.Saliency(dearer).attribute(torch.randn(64, 3), internal_batch_size="auto")
    assert set(dearer.rows) == {1}


def test_running_out_of_memory_ends_the_search(clock):
    def cost(n):
        if n > 4:
            raise torch.OutOfMemoryError("as a device says it")
        return 1.0

    model = priced(clock, cost)
    dg.Saliency(model).attribute(torch.randn(9, 3), internal_batch_size="auto")
    assert model.rows[-3:] == [4, 4, 1]


def test_models_are_not_kept_alive_and_functions_will_do():
    model = convolutional()
    x = torch.randn(2, 2, 6, 6).double()
    expected = dg.RISE(model, n_masks=4, cells=2).attribute(x)
    assert torch.equal(dg.RISE(model, n_masks=4, cells=2).attribute(x, internal_batch_size="auto"), expected)
    dg.Saliency(lambda x: x.sum((1, 2, 3))).attribute(x, internal_batch_size="auto")
    before = len(batch_size._known)
    del model
    gc.collect()
    assert len(batch_size._known) < before


def test_other_words_are_refused():
    with pytest.raises(dg.errors.ParameterError, match="'best'"):
        dg.Saliency(convolutional()).attribute(torch.randn(2, 2, 6, 6).double(), internal_batch_size="best")
