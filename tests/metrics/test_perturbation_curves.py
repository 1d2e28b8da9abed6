"""MoRF and LeRF against closed forms, a literal loop and their properties."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import distillgrad as dg
from networks import convolutional

perturb = dg.metrics.pixel_perturbation


def images(n=3):
    return torch.randn(n, 2, 6, 6, generator=torch.Generator().manual_seed(2)).double()


def literal(model, image, target, attribution, order, n_steps, baseline, element=False):
    """One image, one step at a time, in Python's own stable sort."""
    pixels = (attribution if element else attribution.sum(0)).flatten().tolist()
    places = sorted(range(len(pixels)), key=lambda j: -pixels[j] if order == "morf" else pixels[j])
    curve, counts = [], [round(k * len(pixels) / n_steps) for k in range(n_steps + 1)]
    for count in counts:
        removed = image.clone()
        (removed.view(1, -1) if element else removed.flatten(1))[:, places[:count]] = baseline
        curve.append(model(removed.view_as(image)[None]).softmax(1)[0, target].item())
    area = sum(
        (a + b) / 2 * (after - before) / len(pixels)
        for (a, b), (before, after) in zip(pairwise(curve), pairwise(counts), strict=True)
    )
    return torch.tensor(curve, dtype=torch.float64), area


@pytest.mark.parametrize("element", [False, True])
@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize("n_steps", [1, 7, 36])
def test_curves_are_the_literal_ones(order, n_steps, element):
    model, x, target = convolutional(), images(), [0, 3, 1]
    attributions = {"ties": x.round(), "gradient": dg.GradientXInput(model).attribute(x, target)}
    found = perturb(
        model, x, target, attributions, order=order, n_steps=n_steps, baseline=0.2, element=element
    )
    for name, attribution in attributions.items():
        for row in range(3):
            curve, area = literal(model, x[row], target[row], attribution[row], order, n_steps, 0.2, element)
            torch.testing.assert_close(found[name].probabilities[row], curve, rtol=0, atol=1e-12)
            assert found[name].auc[row].item() == pytest.approx(area, abs=1e-12)
    fractions = found["ties"].fractions
    assert (fractions[0], fractions[-1], len(fractions)) == (0, 1, n_steps + 1)


def test_an_additive_model_has_the_analytic_curve():
    class Additive(nn.Module):
        def forward(self, x):
            total = x.sum((1, 2, 3))
            return torch.stack([total, torch.zeros_like(total)], 1)

    x = images()
    found = perturb(Additive(), x, 0, x, order="morf", n_steps=36)
    contributions = x.sum(1).flatten(1).sort(descending=True).values
    left = contributions.sum(1, keepdim=True) - contributions.cumsum(1)
    expected = torch.cat([contributions.sum(1, keepdim=True), left], 1).sigmoid()
    torch.testing.assert_close(found.probabilities, expected, rtol=0, atol=1e-12)


def test_orders_transforms_chunks_and_batches():
    model, x = convolutional(), images()
    pixels = torch.randn(3, 1, 6, 6).double()
    curve = perturb(model, x, None, pixels, n_steps=9).probabilities
    mirrored = perturb(model, x, None, -pixels, order="lerf", n_steps=9).probabilities
    torch.testing.assert_close(mirrored, curve, rtol=0, atol=1e-12)
    monotone = perturb(model, x, None, pixels.exp() * 3, n_steps=9).probabilities
    torch.testing.assert_close(monotone, curve, rtol=0, atol=1e-12)
    for size in (1, 4, 100):
        chunked = perturb(model, x, None, pixels, n_steps=9, internal_batch_size=size).probabilities
        torch.testing.assert_close(chunked, curve, rtol=0, atol=1e-12)
    alone = perturb(model, x[1:2], None, pixels[1:2], n_steps=9).probabilities
    torch.testing.assert_close(alone[0], curve[1], rtol=0, atol=1e-12)


def test_several_attributions_and_both_orders_share_both_ends():
    rows, model, x = [], convolutional(), images()

    def counted(inputs):
        rows.append(len(inputs))
        return model(inputs)

    perturb(counted, x, 1, {"a": x, "b": -x}, n_steps=5)
    assert sum(rows) == 3 * 2 + 2 * 3 * 4
    rows.clear()
    both = dg.metrics.morf_and_lerf(counted, x, 1, {"a": x, "b": x.round()}, n_steps=5)
    assert sum(rows) == 3 * 2 + 2 * 2 * 3 * 4
    for name, attribution in {"a": x, "b": x.round()}.items():
        for order in ("morf", "lerf"):
            alone = perturb(model, x, 1, attribution, order=order, n_steps=5)
            torch.testing.assert_close(getattr(both[name], order).probabilities, alone.probabilities)
        between = both[name].lerf.auc - both[name].morf.auc
        assert torch.equal(both[name].area_between, between)


@pytest.mark.parametrize("kind", ["mean", "blur", "road"])
def test_the_image_itself_can_stand_in_for_what_is_removed(kind):
    model, x = convolutional(), images()
    pixels = torch.randn(3, 1, 6, 6).double()
    found = perturb(model, x, 2, pixels, n_steps=9, baseline=kind)
    seen = []
    perturb(
        lambda inputs: seen.append(inputs.clone()) or model(inputs),
        x[:1],
        2,
        pixels[:1],
        n_steps=9,
        baseline=kind,
    )
    whole, nothing, *steps = seen[0]
    assert torch.equal(whole, x[0])
    order = pixels[0].flatten().argsort(descending=True)
    for k, step in enumerate(steps, 1):
        assert torch.equal(step.flatten(1)[:, order[4 * k :]], x[0].flatten(1)[:, order[4 * k :]])
    if kind == "mean":
        torch.testing.assert_close(nothing, x[0].mean((1, 2), keepdim=True).expand_as(nothing))
    if kind == "blur":
        assert nothing.std() < x[0].std() / 3
    alone = perturb(model, x[1:2], 2, pixels[1:2], n_steps=9, baseline=kind)
    torch.testing.assert_close(alone.probabilities[0], found.probabilities[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("attribution", "keywords", "words"),
    [
        (torch.zeros(3, 2, 5, 6), {}, r"\(3, 2, 5, 6\)"),
        (torch.zeros(2, 1, 6, 6), {}, r"\(2, 1, 6, 6\)"),
        (torch.full((3, 1, 6, 6), torch.nan), {}, "NaN"),
        (torch.zeros(3, 1, 6, 6), {"n_steps": 37}, "36 pixels"),
        (torch.zeros(3, 1, 6, 6), {"n_steps": 0}, "36 pixels"),
        (torch.zeros(3, 1, 6, 6), {"order": "roar"}, "morf"),
        (torch.zeros(3, 1, 6, 6), {"internal_batch_size": 0}, "at least 1"),
        (torch.zeros(3, 1, 6, 6), {"element": True}, "nothing about single features"),
        (torch.zeros(3, 1, 6, 6), {"baseline": "means"}, "did you mean 'mean'"),
        ({}, {}, "no attribution"),
        ([1.0], {}, "a list, not a tensor"),
    ],
)
def test_wrong_requests(attribution, keywords, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        perturb(convolutional(), images(), 0, attribution, **{"n_steps": 6, **keywords})


def test_a_constant_attribution_removes_by_index():
    model, x = convolutional(), images(1)
    found = perturb(model, x, 0, torch.zeros(1, 1, 6, 6), n_steps=6).probabilities[0]
    halved = x.clone()
    halved[:, :, :3] = 0
    torch.testing.assert_close(found[3], model(halved).softmax(1)[0, 0].detach(), rtol=0, atol=1e-12)
