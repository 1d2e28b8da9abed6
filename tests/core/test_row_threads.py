"""Rows side by side in several threads: the same values, or not at all; errors end all of them."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import distillgrad as dg
from distillgrad.core import plan
from distillgrad.core.chunks import in_chunks
from distillgrad.core.forward import scores
from distillgrad.core.plan import Plan, even_threads
from distillgrad.core.row_threads import in_row_threads
from distillgrad.metrics.perturbation_curves import morf_and_lerf
from networks import convolutional, made, zoo

pytestmark = pytest.mark.usefixtures("few_segments")


@pytest.fixture
def small_passes(monkeypatch):
    """Four threads, which share whatever can be shared."""
    before = torch.get_num_threads()
    monkeypatch.setattr(plan, "LEAST_FEATURES", 1)
    monkeypatch.setattr(plan, "MANY_ROWS", 1)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def images(n=8):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()


class Seen(nn.Module):
    """A model that tells which threads call it, outside itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        THREADS.clear()

    def forward(self, *arguments):
        THREADS.append((threading.current_thread().name, len(arguments[0])))
        return self.model(*arguments)


THREADS: list[tuple[str, int]] = []


def shared():
    """Whether a row thread called the model."""
    return any(name.startswith("distillgrad-rows") for name, _ in THREADS)


@pytest.mark.parametrize("model_name", ["convolutional", "functional, in place, reused"])
@pytest.mark.parametrize("method", [name for name in dg.METHODS if name != "random"])
def test_a_method_finds_the_same(method, model_name, small_passes, monkeypatch):
    model, x = Seen(zoo()[model_name]), images()
    try:
        found = made(method, model).attribute(x, 1)
    except dg.errors.ModelError:
        assert dg.METHODS[method].needs_module  # contracts say which refuse which
        return
    assert shared() == (not dg.METHODS[method].needs_module and method != "lime")
    monkeypatch.setattr(plan, "MANY_ROWS", 10**9)
    THREADS.clear()
    torch.testing.assert_close(made(method, model).attribute(x, 1), found, rtol=0, atol=1e-10)
    assert not shared()


def test_a_metric_finds_the_same_and_rows_at_a_time_are_shared(small_passes, monkeypatch):
    model, x = Seen(convolutional()), images(3)
    pixels = {"one": x.sum(1, keepdim=True), "other": -x}
    found = morf_and_lerf(model, x, None, pixels, n_steps=9, baseline="road", internal_batch_size=8)
    assert shared()
    assert max(rows for name, rows in THREADS if name.startswith("distillgrad-rows")) == 2  # of four threads
    monkeypatch.setattr(plan, "MANY_ROWS", 10**9)
    whole = morf_and_lerf(model, x, None, pixels, n_steps=9, baseline="road", internal_batch_size=8)
    for name in pixels:
        for order in ("morf", "lerf"):
            curves = [getattr(each[name], order).probabilities for each in (found, whole)]
            torch.testing.assert_close(*curves, rtol=0, atol=1e-12)


class Remembers(nn.Module):
    """Writes on itself what it reads again, as a model that keeps its features does."""

    def __init__(self):
        super().__init__()
        self.inner = convolutional()

    def forward(self, x):
        self.features = x * 2
        return self.inner(self.features)


class Appends(Remembers):
    def forward(self, x):
        self.kept = [*getattr(self, "kept", []), x][-1:]
        return self.inner(self.kept[0])


class Counts(Remembers):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


class Mixes(Remembers):
    def forward(self, x):
        return self.inner(x - x.mean(0))


class Scales(Remembers):
    def forward(self, x):
        return self.inner(x / x.abs().max())


class Draws(Remembers):
    def forward(self, x):
        return self.inner(nn.functional.dropout(x, 0.5, training=True))


class Hooked(Remembers):
    def __init__(self):
        super().__init__()
        self.inner.register_forward_hook(lambda *_: None)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("kind", [Mixes, Scales, Draws])
def test_a_model_whose_rows_are_not_their_own_is_refused_when_it_is_tried(kind, small_passes):
    with pytest.raises(dg.errors.ModelError, match="draws" if kind is Draws else "other rows"):
        dg.DGA(Seen(kind()), n_steps=4).attribute(images(), 1)
    assert not shared()


@pytest.mark.parametrize("kind", [Remembers, Appends, Counts, Hooked])
def test_a_model_with_more_than_its_rows_is_called_by_one_thread(kind, small_passes):
    dg.DGA(Seen(kind()), n_steps=4).attribute(images(), 1)
    assert not shared()
    assert {rows for _, rows in THREADS} <= {1, 2, 8}  # but for what was tried, all rows together


def test_a_metric_of_one_image_tries_it_beside_another(small_passes):
    x = images(1)
    for kind, expected in ((Mixes, False), (Scales, False), (convolutional, True)):
        morf_and_lerf(Seen(kind()), x, 1, x, n_steps=9)
        assert shared() == expected


@pytest.mark.parametrize(
    "explain",
    [
        lambda model, x: dg.DGA(model.forward, n_steps=4).attribute(x, 1),
        lambda model, x: dg.DGA(model, n_steps=4).attribute(x, lambda output: output[:, 0]),
        lambda model, x: dg.DGA(model, n_steps=4, local_attribution=lambda _, x, __: x).attribute(x, 1),
        lambda model, x: dg.DGA(model, n_steps=4).attribute(x, 1, additional_forward_args=(1.0,)),
        lambda model, x: dg.DGA(model, n_steps=4).attribute(x, 1, internal_batch_size=1),
        lambda model, x: dg.DGA(model, n_steps=4).attribute(x[:5], 1),  # two and three would wait
    ],
    ids=["callable", "callable target", "callable rule", "further arguments", "one by one", "odd"],
)
def test_what_cannot_be_shared_is_not(explain, small_passes):
    class Takes(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = convolutional()

        def forward(self, x, factor=1.0):
            return self.inner(x) * factor

    torch.set_num_threads(2)
    explain(Seen(Takes()), images())
    assert not shared()


@pytest.mark.parametrize("watching", ["torch functions", "dispatch", "autocast", "anomalies"])
def test_whoever_watches_the_calling_thread_sees_all(watching, small_passes):
    watch = {
        "torch functions": torch.overrides.BaseTorchFunctionMode,
        "dispatch": lambda: FlopCounterMode(display=False),
        "autocast": lambda: torch.autocast("cpu"),
        "anomalies": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    }[watching]
    model = Seen(convolutional())
    with watch():
        dg.DGA(model, n_steps=4).attribute(images(), 1)
    assert not shared()
    dg.DGA(model, n_steps=4).attribute(images(), 1)
    assert shared()


def test_a_hook_put_on_later_is_heeded(small_passes):
    model, x = Seen(convolutional()), images()
    dg.DGA(model, n_steps=4).attribute(x, 1)
    assert shared()
    THREADS.clear()
    handle = model.model.register_forward_hook(lambda *_: None)
    dg.DGA(model, n_steps=4).attribute(x, 1)
    assert not shared()
    handle.remove()


def test_an_error_ends_the_others_at_their_next_pass_and_leaves_everything_as_it_was(small_passes):
    model, x = convolutional().train(), images()
    threads = torch.get_num_threads()
    n_passes = []

    def work(rows):
        if rows.start == 0:
            raise KeyError("the first")
        while True:
            n_passes.append(scores(model, x[rows], None)[0])

    with pytest.raises(KeyError, match="the first"):
        in_chunks(work, Plan(8, 8, 4))
    assert torch.get_num_threads() == threads

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = convolutional()

        def forward(self, x):
            if len(x) == 2 and x.requires_grad and (x == images()[7]).flatten(1).all(1).any():
                raise RuntimeError("the last image is not for me")
            return self.inner(x)

    failing = Fails().train()
    with pytest.raises(dg.errors.ModelError, match="the last image is not for me"):
        dg.DGA(failing, n_steps=4).attribute(images(), 1)
    assert failing.training
    assert all(each.requires_grad for each in failing.parameters())


def test_out_of_memory_goes_on_in_one_thread_with_half_of_the_rows(small_passes):
    sizes = []

    def work(rows):
        sizes.append(rows.stop - rows.start)
        if threading.current_thread() is not threading.main_thread():
            raise torch.OutOfMemoryError("full")
        return torch.arange(rows.start, rows.stop)

    assert in_chunks(work, Plan(8, 8, 2)).tolist() == list(range(8))
    assert sizes[-2:] == [4, 4]


def test_row_threads_share_out_the_threads_instead_of_having_as_many_each():
    before = torch.get_num_threads()

    def threads_at_work(_rows):
        torch.ones(2**16).add_(1)  # an operation that threads share, before anything asks for their number
        return torch.tensor(torch.get_num_threads())

    torch.set_num_threads(6)
    try:
        found = in_row_threads(threads_at_work, [slice(n, n + 1) for n in range(3)], 3)
        assert [int(each) for each in found] == [2, 2, 2]
        assert torch.get_num_threads() == 6
    finally:
        torch.set_num_threads(before)


def test_threads_that_start_later_have_all_cores(small_passes):
    dg.DGA(Seen(convolutional()), n_steps=4).attribute(images(), 1)
    assert shared()
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [4]


@given(st.integers(1, 200), st.integers(1, 64), st.integers(1, 16))
def test_row_threads_are_even_and_keep_to_the_rows_at_a_time(n_rows, size, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = even_threads(n_rows, size, plan.LEAST_FEATURES)
    finally:
        torch.set_num_threads(before)
    assert n_threads % found == 0
    if found > 1:
        rows = Plan(n_rows, size, found).rows_each
        assert rows >= 1
        assert n_rows <= size or rows * found <= size
        n_slices = -(-n_rows // rows)
        assert -(-n_slices // found) * rows <= 1.1 * n_rows / found
