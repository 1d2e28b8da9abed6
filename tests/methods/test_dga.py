"""Distilled Gradient Aggregation against its equations, closed forms and properties."""

import pytest
import torch
from captum.attr import NoiseTunnel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import distillgrad as dg
import literal
from networks import convolutional, dense, with_ties

NETWORKS = {
    "dense": lambda seed: (dense(12, seed=seed), (12,)),
    "dense, ties": lambda seed: (with_ties(dense(12, seed=seed)), (12,)),
    "convolutional": lambda seed: (convolutional(seed), (2, 6, 6)),
    "convolutional, ties": lambda seed: (with_ties(convolutional(seed)), (2, 6, 6)),
}


def inputs_for(shape, seed, ties):
    torch.manual_seed(seed)
    x = torch.randn(3, *shape).double()
    return (x * 2).round() / 2 if ties else x


@pytest.mark.parametrize("network", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_steps=st.integers(1, 12),
    hundredths=st.integers(1, 100),
    negative_scale=st.sampled_from([0.0, 0.3, 1.0]),
    baseline=st.sampled_from([0.0, 0.5]),
    masks=st.sampled_from(["both", "both", "weak", "extreme"]),
    local=st.sampled_from(["uniform_fullgrad", "gradient_x_input"]),
)
def test_attribute_is_the_literal_algorithm(
    network, seed, n_steps, hundredths, negative_scale, baseline, masks, local
):
    model, shape = NETWORKS[network](seed)
    x = inputs_for(shape, seed, "ties" in network)
    if "ties" in network:
        n_steps = 2 ** (n_steps % 4)  # then n/N is exact too, and no tie is broken by rounding
    method = dg.DGA(model, n_steps, hundredths / 100, negative_scale, local, masks)
    target = [0, 3, 1]
    found = method.attribute(x, target, baselines=baseline)
    steps = method.distill(x, target, baselines=baseline)
    for row in range(3):
        expected, anchors = literal.dga(
            model,
            x[row],
            target[row],
            n_steps=n_steps,
            quantile=hundredths / 100,
            negative_scale=negative_scale,
            baseline=baseline,
            local=getattr(literal, local),
            masks=masks,
        )
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(steps.anchors[:, row], anchors, rtol=0, atol=1e-10)
    assert torch.equal(steps.attribution, found)


def test_closed_form_in_two_dimensions():
    # f = relu(2x₁ + x₂ − ½) at (1, 1): φ is (1¾, ¾), then (−¼, ¾) at (0, 1), then (¾, ¼) at (½, ½).
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, 1.0]]))
        model[0].bias.copy_(torch.tensor([-0.5]))
    x = torch.ones(1, 2).double()
    steps = dg.DGA(model, n_steps=2, epc_quantile=0.5).distill(x)
    assert steps.anchors[:, 0].tolist() == [[1, 1], [0, 1], [0.5, 0.5]]
    assert steps.attributions[:, 0].tolist() == [[1.75, 0.75], [-0.25, 0.75], [0.75, 0.25]]
    assert steps.scores[:, 0].tolist() == [2.5, 0.5, 1.0]
    torch.testing.assert_close(steps.attribution[0], torch.tensor([2.5, 1.75]).double() / 3)
    signed = dg.DGA(model, n_steps=2, epc_quantile=0.5, negative_scale=1.0).attribute(x)
    torch.testing.assert_close(signed[0], torch.tensor([2.25, 1.75]).double() / 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_uniform_fullgrad_sums_to_the_score(network):
    model, shape = NETWORKS[network](3)
    x = inputs_for(shape, 3, "ties" in network)
    for baseline in (0.0, 0.7, torch.full((1, *shape), -0.2).double()):
        attributions = dg.UniformFullGrad(model).attribute(x, 2, baselines=baseline)
        torch.testing.assert_close(attributions.flatten(1).sum(1), model(x)[:, 2], rtol=0, atol=1e-10)


def test_uniform_fullgrad_spreads_the_bias_gradients():
    """Completeness, from the biases themselves: Σ_b ∂f/∂b·b equals f − ⟨∇f, x⟩."""
    model = dense(12, seed=5)
    x = inputs_for((12,), 5, ties=False)[:1]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    gradients = torch.autograd.grad(model(x)[0, 1], biases)
    bias_sum = sum((g * b).sum() for g, b in zip(gradients, biases, strict=True))
    spread = dg.UniformFullGrad(model).attribute(x, 1) - dg.GradientXInput(model).attribute(x, 1)
    torch.testing.assert_close(spread, (bias_sum / 12).expand(1, 12), rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_rows_do_not_depend_on_batch_or_chunks(network):
    model, shape = NETWORKS[network](1)
    x = inputs_for(shape, 1, "ties" in network).repeat(2, *(1,) * len(shape))
    baselines = torch.linspace(-1, 1.5, 6).double().view(6, *(1,) * len(shape)).expand(6, *shape)
    method, target = dg.DGA(model, n_steps=8), torch.tensor([0, 1, 2, 3, 0, 1])
    whole = method.attribute(x, target, baselines=baselines)
    for size in (1, 2, 4, 100):
        chunked = method.attribute(x, target, baselines=baselines, internal_batch_size=size)
        torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)
    for row in range(6):
        alone = method.attribute(x[row : row + 1], [int(target[row])], baselines=baselines[row : row + 1])
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-10)


def test_a_callable_local_attribution_is_given_model_anchor_and_target():
    model, x = dense(), inputs_for((12,), 0, ties=False)

    def local(model, anchors, target):
        return dg.UniformFullGrad(model).attribute(anchors, target)

    own, callable_ = dg.DGA(model, n_steps=5), dg.DGA(model, n_steps=5, local_attribution=local)
    torch.testing.assert_close(callable_.attribute(x), own.attribute(x))
    torch.testing.assert_close(callable_.distill(x).scores, own.distill(x).scores)
    wrong = dg.DGA(model, local_attribution=lambda model, anchors, target: anchors[:, :3])
    with pytest.raises(dg.errors.ModelError, match=r"\(3, 3\)"):
        wrong.attribute(x)


@pytest.mark.usefixtures("unexamined")
def test_it_costs_n_plus_one_passes_and_no_more():
    calls = []
    model = dense()

    def counted(x):
        calls.append(len(x))
        return model(x)

    method = dg.DGA(counted, n_steps=4)
    method.attribute(inputs_for((12,), 0, ties=False))
    assert calls == [3] * 5
    assert method.n_passes == 5


def test_the_prediction_at_the_input_is_explained_throughout():
    """With no target given, later anchors may be classified otherwise; the class stays."""
    model, x = convolutional(), inputs_for((2, 6, 6), 4, ties=False)
    method, predicted = dg.DGA(model), model(x).argmax(1)
    assert torch.equal(method.attribute(x), method.attribute(x, predicted))
    assert torch.equal(method.distill(x).scores, method.distill(x, predicted).scores)


def test_captums_noise_tunnel_runs_it():
    x = inputs_for((2, 6, 6), 0, ties=False)
    tunnel = NoiseTunnel(dg.DGA(convolutional(), n_steps=3))
    smoothed = tunnel.attribute(x, nt_samples=4, stdevs=0.1, target=2)
    assert smoothed.shape == x.shape
    assert bool(torch.isfinite(smoothed).all())


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_steps": 2.5}, "n_steps"),
        ({"n_steps": True}, "n_steps"),
        ({"epc_quantile": 0.0}, "epc_quantile"),
        ({"epc_quantile": 1.01}, "epc_quantile"),
        ({"epc_quantile": float("nan")}, "epc_quantile"),
        ({"negative_scale": -1.0}, "negative_scale"),
        ({"masks": "strong"}, "masks"),
        ({"local_attribution": "uniform_fulgrad"}, "uniform_fullgrad"),
    ],
)
def test_parameters_outside_their_range_are_refused(parameters, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        dg.DGA(dense(), **parameters)
