"""What every method promises, for every kind of model: nothing changed, nothing mixed, every form taken."""

import threading

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution
from torch import nn

import distillgrad as dg
from distillgrad.core.eval_mode import evaluating
from distillgrad.testing import check
from networks import WithDropout, convolutional, made, zoo

METHODS = list(dg.METHODS)
NETWORKS = ["convolutional", "dense", "functional, in place, reused", "training"]
OUTPUTS = [name for name in zoo() if name not in NETWORKS]
pytestmark = pytest.mark.usefixtures("few_segments")
REFUSED = {
    ("gradcam", "dense"): "no feature maps",
    ("deep_lift", "functional, in place, reused"): r"relu\(\) as a function|reused ReLU",
    ("lrp", "functional, in place, reused"): r"mul\(\) as a function",
    ("agi", "scalar"): "needs",
}
"""Models that a method cannot explain, and what it says: nothing else is refused."""
NEEDS_MODULE = {name for name, method in dg.METHODS.items() if method.needs_module}
NEEDS_CLASSES = {"agi"}
GRADIENTS = [name for name in METHODS if issubclass(dg.METHODS[name], GradientAttribution)]
LOOKING = [name for name in METHODS if name != "random"]  # which never calls the model
THREE = ["dga", "gradcam", "rise"]
"""By gradients, by layers and by perturbation: what they refuse in common is refused in one place."""


class AsModule(nn.Module):
    """A function of inputs as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


class Around(nn.Module):
    """A network that is called by a function: ``function(network, x, …)``."""

    def __init__(self, function):
        super().__init__()
        self.inner, self.function = convolutional(), function

    def forward(self, x, *arguments):
        return self.function(self.inner, x, *arguments)


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def state_of(model, x):
    return check.state_of(model), (x.clone(), x.requires_grad, x.grad)


def expect_same(before, after):
    check.require_same_state(before[0], after[0])
    assert torch.equal(before[1][0], after[1][0])
    assert before[1][1:] == after[1][1:]


@pytest.mark.parametrize(
    ("method", "model_name"),
    [
        *((method, name) for method in METHODS for name in NETWORKS),
        # What a model returns is taken apart in one place, except by those that wrap its layers.
        *((method, name) for method in ("dga", "rise", "agi", *sorted(NEEDS_MODULE)) for name in OUTPUTS),
    ],
)
def test_shape_dtype_rows_and_cleanliness(method, model_name):
    model, x = zoo()[model_name], images()
    before = state_of(model, x)
    if (method, model_name) in REFUSED:
        with pytest.raises(dg.errors.ModelError, match=REFUSED[method, model_name]):
            made(method, model).attribute(x)
        expect_same(before, state_of(model, x))
        return
    attributions = made(method, model).attribute(x)
    expect_same(before, state_of(model, x))
    assert attributions.shape == (x.shape if dg.METHODS[method].result == "features" else (3, 1, 6, 6))
    if not dg.METHODS[method].signed and method != "xrai":  # whose regions rank below 0, too
        assert float(attributions.min()) >= 0
    assert torch.equal(made(method, model).attribute(x), attributions)
    assert attributions.dtype == x.dtype
    assert not attributions.requires_grad
    assert bool(torch.isfinite(attributions).all())
    alone = made(method, model).attribute(x[1:2])
    torch.testing.assert_close(alone[0], attributions[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions(method, dtype):
    model, x = convolutional().to(dtype), images().to(dtype)
    attributions = made(method, model).attribute(x, 1)
    assert attributions.dtype == dtype
    if method == "random":
        return
    exact = made(method, convolutional()).attribute(images(), 1)
    # A map may differ (DESIGN: DGA amplifies rounding); its total is a property of the model.
    tolerance = 1e-4 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(
        attributions.double().flatten(1).sum(1), exact.flatten(1).sum(1), rtol=tolerance, atol=2 * tolerance
    )


@pytest.mark.parametrize("method", METHODS)
def test_forms_of_target_agree(method):
    model, x = convolutional(), images()
    explain = made(method, model).attribute
    expected = explain(x, 2)
    forms = ([2, 2, 2], (2, 2, 2), torch.full((3,), 2), torch.tensor(2), np.int64(2), np.full(3, 2))
    for target in forms if method in THREE else forms[:1]:
        assert torch.equal(explain(x, target), expected)
    if method in NEEDS_CLASSES:
        with pytest.raises(dg.errors.TargetError, match="callable target"):
            explain(x, lambda logits: logits[:, 2])
    elif method != "rise":  # which takes a class's probability, but a callable's score
        assert torch.equal(explain(x, lambda logits: logits[:, 2]), expected)
    assert torch.equal(explain(x), explain(x, model(x).argmax(1)))


@pytest.mark.parametrize("method", METHODS)
def test_no_grad_inference_frozen_and_odd_layouts(method):
    model, x = convolutional(), images()
    expected = made(method, model).attribute(x, 1)
    for module in model.parameters():
        module.requires_grad_(False)
    wide = torch.randn(3, 6, 2, 12).double()
    wide[..., ::2] = x.permute(0, 2, 1, 3)
    strided = wide[..., ::2].permute(0, 2, 1, 3)
    assert not strided.is_contiguous()
    leaf = x.clone().requires_grad_()
    explain = made(method, model).attribute
    with torch.no_grad():
        found = [explain(each, 1) for each in (x, strided, x.to(memory_format=torch.channels_last), leaf)]
    with torch.inference_mode():
        found.append(explain(x.clone(), 1))
    for each in found:
        torch.testing.assert_close(each, expected, rtol=0, atol=1e-10)
    assert leaf.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("n_good_calls", [0, 1, 2])
@pytest.mark.parametrize("method", LOOKING)
def test_clean_after_an_exception(method, n_good_calls):
    left = [n_good_calls]

    class Failing(WithDropout):
        def forward(self, x):
            x = self.inner[0](x)
            if not left[0]:
                raise ZeroDivisionError("the model's own error")
            left[0] -= 1
            for layer in self.inner[1:]:
                x = layer(x)
            return x

    model, x = Failing().train(), images()
    before = state_of(model, x)
    if made(method, model).n_passes > n_good_calls:
        with pytest.raises(ZeroDivisionError):
            made(method, model).attribute(x)
    expect_same(before, state_of(model, x))


@pytest.mark.parametrize("method", METHODS)
def test_further_arguments_are_cut_with_the_rows(method):
    def scaled(inner, x, scale, shift):
        assert len(x) == len(scale)
        # LRP has no rule for products; that its rows keep their argument is checked above.
        return inner(x) + shift if method == "lrp" else inner(x) * scale[:, None] + shift

    model = Around(scaled)
    arguments = (torch.tensor([1.0, 2.0, 3.0]).double(), 0.5)
    whole = made(method, model).attribute(images(), 1, additional_forward_args=arguments)
    chunked = made(method, model).attribute(
        images(), 1, additional_forward_args=arguments, internal_batch_size=2
    )
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("unexamined")
@pytest.mark.parametrize("method", LOOKING)
def test_out_of_memory_halves_the_chunk(method):
    sizes = []

    def limited(inner, x):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("simulated")
        return inner(x)

    x = images(7)
    expected = made(method, convolutional()).attribute(x, 1)
    found = made(method, Around(limited)).attribute(x, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    # Why XRAI's maps of so small images are the same everywhere is looked up in one more pass.
    assert sizes.count(7) == 1 + (method == "xrai")
    assert sizes[-1] <= 2
    with pytest.raises(torch.OutOfMemoryError):
        made(method, Around(lambda inner, x: limited(inner, x.repeat(3, 1, 1, 1)))).attribute(x, 1)


@pytest.mark.parametrize("method", THREE)
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (
            lambda x: x.index_put((torch.tensor(1),), torch.tensor(torch.nan).double()),
            "InputError",
            "sample 1",
        ),
        (lambda x: (x * 10).to(torch.uint8), "InputError", "uint8"),
        (lambda x: x[:0], "InputError", "empty"),
        (lambda x: x[0, 0, 0], "InputError", "shape"),
        (lambda x: x.numpy(), "InputError", "ndarray"),
        (lambda x: x.to_sparse(), "InputError", "to_dense"),
        (lambda x: x.to("meta"), "InputError", "meta device"),
    ],
)
def test_inputs_that_cannot_be_explained(method, spoil, error, words):
    with pytest.raises(getattr(dg.errors, error), match=words):
        made(method, convolutional()).attribute(spoil(images()))


@pytest.mark.parametrize("method", THREE)
@pytest.mark.parametrize(
    ("target", "words"),
    [
        (4, "4 class"),
        (-1, "-1"),
        ([0, 1], "3 samples"),
        (torch.tensor([[0], [1], [2]]), "3 samples"),
        (1.5, "class number"),
        (torch.ones(3), "float32"),
        ("cat", "class number"),
        (lambda logits: logits.sum(), "one scalar per sample"),
        (lambda logits: 3.0, "one scalar per sample"),
    ],
)
def test_targets_that_the_output_does_not_have(method, target, words):
    with pytest.raises(dg.errors.TargetError, match=words):
        made(method, convolutional()).attribute(images(), target)


WITHOUT_GRADIENT = [
    (lambda x: torch.zeros(len(x), 3), "no gradient"),
    (lambda x: nn.Parameter(torch.ones(3)).expand(len(x), 3), "does not depend"),
    (lambda x: x.flatten(1).argsort(1)[:, :3], "no gradient"),
]
NOT_EXPLAINABLE = [
    (lambda x: x, r"\(3, 2, 6, 6\)"),
    (lambda x: {"out": x, "aux": x}, "'out', 'aux'"),
    (lambda x: "cat", "str"),
    (lambda x: x.flatten(1)[:, :3].to(torch.complex64), "complex"),
    (lambda x: x.flatten(1)[:, :3].square().relu() * torch.inf, "not finite for samples 0, 1, 2"),
]


@pytest.mark.parametrize("method", THREE)
@pytest.mark.parametrize(("model", "words"), [*WITHOUT_GRADIENT, *NOT_EXPLAINABLE])
def test_models_that_cannot_be_explained(method, model, words):
    if (model, words) in WITHOUT_GRADIENT and method not in GRADIENTS:
        return
    x = images()
    if method in NEEDS_MODULE:  # such models have no layers, which these methods may say first
        model, words = AsModule(model), "."
    with pytest.raises(dg.errors.ModelError, match=words):
        made(method, model).attribute(x)


@pytest.mark.parametrize("method", THREE)
@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"baselines": torch.zeros(5)}, "InputError", "broadcast"),
        ({"baselines": float("nan")}, "InputError", "finite"),
        ({"baselines": None}, "InputError", "a number or a tensor"),
        ({"baselines": torch.full((1, 2, 6, 6), torch.inf)}, "InputError", "finite|infinity"),
        ({"internal_batch_size": 0}, "ParameterError", "at least 1"),
    ],
)
def test_wrong_requests(method, keywords, error, words):
    with pytest.raises(getattr(dg.errors, error), match=words):
        made(method, convolutional()).attribute(images(), **keywords)


@pytest.mark.parametrize("method", THREE)
def test_inputs_of_another_shape(method):
    with pytest.raises(dg.errors.ModelError, match=r"\(3, 1, 6, 6\)"):
        made(method, convolutional()).attribute(images()[:, :1])


def test_unknown_methods_and_parameters_name_what_there_is():
    with pytest.raises(dg.errors.UnknownNameError, match="'dga'"):
        dg.create_method("dgaa", convolutional())
    with pytest.raises(dg.errors.ParameterError, match="n_stepz"):
        dg.create_method("dga", convolutional(), n_stepz=3)
    with pytest.raises(dg.errors.ParameterError, match="did you mean 'n_steps'"):
        dg.create_method("dga", convolutional(), n_step=3)


@pytest.mark.parametrize("method", THREE)
def test_what_is_no_model(method):
    loaded = dg.load_model("cifar10-cnn", pretrained=False)
    for given, mend in ((loaded, "give its .model"), (None, "nn.Module")):
        with pytest.raises(dg.errors.ModelError, match=mend):
            made(method, given)


@pytest.mark.parametrize("measure", ["morf_and_lerf", "pixel_perturbation", "sensitivity_n", "infidelity"])
def test_what_is_no_model_to_measure_on(measure):
    loaded, x = dg.load_model("cifar10-cnn", pretrained=False), torch.rand(2, 3, 32, 32)
    attributions = {"a": x} if measure in ("morf_and_lerf", "sensitivity_n") else x
    with pytest.raises(dg.errors.ModelError, match=r"give its \.model"):
        getattr(dg.metrics, measure)(loaded, x, 1, attributions)


@pytest.mark.parametrize("method", LOOKING)
def test_weights_made_in_inference_mode(method):
    """No gradient can be taken through them: torch says so deep inside, and we who said it to."""
    with torch.inference_mode():
        model = convolutional()
    if method in GRADIENTS:
        with pytest.raises(dg.errors.ModelError, match="nference"):
            made(method, model).attribute(images())
    else:
        made(method, model).attribute(images())


def test_threads_that_explain_at_once_leave_the_flags_as_they_were():
    model, inside, leave = nn.BatchNorm1d(2).train(), threading.Event(), threading.Event()

    def hold():
        with evaluating(model):
            inside.set()
            assert leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(10)
    with evaluating(model):
        assert not model.training
    assert not model.training  # the other thread is still at work
    assert not model.weight.requires_grad
    leave.set()
    holder.join()
    assert model.training
    assert model.weight.requires_grad


def test_a_training_step_that_waits_is_not_disturbed():
    """Weights are frozen meanwhile: those that were frozen stay so, the others still get their gradients."""
    model, expected = convolutional(), convolutional()
    first, *others = model.parameters()
    first.requires_grad_(False)
    loss = model(images()).sum()
    dg.DGA(model, n_steps=2).attribute(images())
    with pytest.raises(ZeroDivisionError):
        dg.DGA(model, n_steps=2).attribute(images(), lambda _: 1 / 0)
    loss.backward()
    expected(images()).sum().backward()
    assert not first.requires_grad
    assert first.grad is None
    for each, other in zip(others, [*expected.parameters()][1:], strict=True):
        assert each.requires_grad
        assert torch.equal(each.grad, other.grad)


@pytest.mark.parametrize(
    "method",
    # Guided back-propagation refuses a model without ReLU.
    [name for name, kind in dg.METHODS.items() if not kind.needs_module and name != "guided_backprop"],
)
def test_a_gradient_that_is_one_number_seen_everywhere(method, few_segments):
    """The gradient of a sum is an expanded tensor, into which nothing can be written."""
    x = images(2)
    found = made(method, lambda x: torch.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)).attribute(x, 0)
    assert torch.isfinite(found).all()
