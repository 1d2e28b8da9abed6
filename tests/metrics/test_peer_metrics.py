"""Our metrics and those of Quantus and attribench on the same attributions, and where a peer departs.

Each departure is shown by a test of its own, so that a peer that mends it is noticed.
"""

import importlib
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.metrics.removal_correlation import random_masks
from networks import convolutional

perturb = dg.metrics.pixel_perturbation


def peer(module):
    """A peer's module; skips without it. Its import's warnings are its own."""
    optional("torchvision", "vision")  # both import it, and not where its operators do not fit torch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(module.partition(".")[0])
        return importlib.import_module(module)


def seeded(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGET = torch.tensor([0, 3, 1])


def flipped(model, x, attribution, features_in_step, **keywords):
    """The probabilities ``(B, K)`` of Quantus' pixel flipping: those after each step, not the first."""
    metric = peer("quantus").PixelFlipping(
        features_in_step=features_in_step, perturb_baseline=0.2, disable_warnings=True, **keywords
    )
    arrays = [each.numpy() for each in (x, TARGET, attribution)]
    return torch.tensor(metric(model, *arrays, device="cpu"))


@pytest.mark.parametrize("n_steps", [4, 12, 36])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_curves_are_those_of_quantus(n_channels, n_steps):
    """Of an attribution per pixel; Quantus has no LeRF, but MoRF of the negated attribution is one."""
    model, x = convolutional().float(), seeded(3, n_channels, 6, 6)
    if n_channels == 1:
        model = nn.Sequential(nn.Conv2d(1, 2, 1), model).eval()
    pixels = seeded(3, 1, 6, 6, seed=3)
    for order, signed in (("morf", pixels), ("lerf", -pixels)):
        ours = perturb(model, x, TARGET, pixels, order=order, n_steps=n_steps, baseline=0.2)
        theirs = flipped(model, x, signed, n_channels * 36 // n_steps)
        torch.testing.assert_close(ours.probabilities[:, 1:], theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_steps", [8, 24])
def test_quantus_removes_channel_values_of_attributions_with_channels(n_steps):
    """Which Samek et al. do not, whose curves are the ones of the sum over channels."""
    model, x, features = convolutional().float(), seeded(3, 2, 6, 6), seeded(3, 2, 6, 6, seed=3)
    theirs = flipped(model, x, features, 72 // n_steps)
    by_element, by_pixel = (
        perturb(model, x, TARGET, features, n_steps=n_steps, baseline=0.2, element=element).probabilities
        for element in (True, False)
    )
    torch.testing.assert_close(by_element[:, 1:], theirs, rtol=0, atol=1e-4)
    assert (by_pixel[:, 1:] - theirs).abs().max() > 1e-2


def linear(side=6):
    """Its gradient times its input explains it exactly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 4)).eval()


def test_quantus_sensitivity_n_is_another_metric():
    """Of a linear model every sensitivity-n of the exact attribution is 1; Quantus' is not.

    It removes the highest-ranked features, one step after the other and no random set, and compares the
    drop after all steps so far with the attributions of the last step alone, across samples.
    """
    model, x = linear(), seeded(3, 1, 6, 6)
    exact = dg.GradientXInput(model).attribute(x, TARGET)
    ours = dg.metrics.sensitivity_n(model, x, TARGET, exact, grid=6, n_masks=20).correlations
    torch.testing.assert_close(ours, torch.ones_like(ours), rtol=0, atol=1e-4)
    metric = peer("quantus").SensitivityN(
        features_in_step=6, abs=False, normalise=False, perturb_baseline=0.0, disable_warnings=True
    )
    arrays = [each.numpy() for each in (x, TARGET, exact)]
    theirs = np.array(metric(model, *arrays, device="cpu", softmax=False))
    assert theirs.max() < 0.99


class InProcess(torch.utils.data.DataLoader):
    """attribench asks for four worker processes and pinned memory, whatever there is."""

    def __init__(self, dataset, batch_size, **_):
        super().__init__(dataset, batch_size=batch_size)


def attribench_metric(name, monkeypatch):
    module = peer(f"attribench.functional.metrics.{name}._{name}")
    monkeypatch.setattr(module, "DataLoader", InProcess)
    return getattr(module, name)


def dataset_of(x, target, attributions):
    return peer("attribench.data").AttributionsDataset(x, target, attributions=attributions)


def constant(value=0.0):
    return peer("attribench.masking.image").ConstantImageMasker("pixel", value)


def deleted(monkeypatch, model, x, pixels, *, mode, n_steps):
    """The probabilities ``(B, K+1)`` of attribench's Deletion."""
    found = attribench_metric("deletion", monkeypatch)(
        model,
        dataset_of(x, TARGET, {"ours": pixels}),
        batch_size=len(x),
        maskers={"constant": constant(0.2)},
        activation_fns="softmax",
        mode=mode,
        num_steps=n_steps + 1,
    )
    return torch.tensor(found.tree.get(masker="constant", activation_fn="softmax", method="ours"))


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_curves_are_those_of_attribench(order, monkeypatch):
    model, x, pixels = dg.load_model("cifar10-cnn").model, seeded(3, 3, 32, 32), seeded(3, 1, 32, 32, seed=3)
    ours = perturb(model, x, TARGET, pixels, order=order, n_steps=16, baseline=0.2).probabilities
    theirs = deleted(monkeypatch, model, x, pixels, mode=order, n_steps=16)
    torch.testing.assert_close(ours, theirs.to(ours), rtol=0, atol=1e-4)


def test_attribench_may_remove_a_pixel_too_few(monkeypatch):
    """It cuts 5/6·36 = 29.999… to 29 pixels; it is our curve there with 29 removed."""
    model, x, pixels = convolutional().float(), seeded(3, 2, 6, 6), seeded(3, 1, 6, 6, seed=3)
    theirs = deleted(monkeypatch, model, x, pixels, mode="morf", n_steps=6)
    one_by_one = perturb(model, x, TARGET, pixels, n_steps=36, baseline=0.2).probabilities
    torch.testing.assert_close(
        theirs.to(one_by_one), one_by_one[:, [0, 6, 12, 18, 24, 29, 36]], rtol=0, atol=1e-4
    )
    ours = perturb(model, x, TARGET, pixels, n_steps=6, baseline=0.2).probabilities
    torch.testing.assert_close(ours, one_by_one[:, ::6], rtol=0, atol=1e-6)


class Prescribed:
    """Stands in for a generator of random numbers: the given subsets of the pixels, one after the other."""

    def __init__(self, masks):
        self.subsets = [mask.flatten().nonzero()[:, 0].numpy() for mask in masks]

    def choice(self, n_features, size, replace):
        subset = self.subsets.pop(0)
        assert (len(subset), replace) == (size, False)
        return subset


def correlated(monkeypatch, model, x, attributions, masks):
    """attribench's sensitivity-n, ``(B, F)`` by name, with a quarter, half and three quarters removed."""
    masker = constant()
    masker.rng = Prescribed(masks.flatten(0, 1))
    found = attribench_metric("sensitivity_n", monkeypatch)(
        model,
        dataset_of(x, TARGET, attributions),
        batch_size=len(x),
        maskers={"constant": masker},
        activation_fns="linear",
        min_subset_size=0.25,
        max_subset_size=0.75,
        num_steps=3,
        num_subsets=masks.shape[1],
        segmented=False,
    )
    assert not masker.rng.subsets
    return {
        name: torch.tensor(found.tree.get(masker="constant", activation_fn="linear", method=name))
        for name in attributions
    }


QUARTERS = (0.25, 0.5, 0.75)


@pytest.mark.parametrize("grid", [8, 32])
def test_correlations_are_those_of_attribench_with_the_same_masks(grid, monkeypatch):
    model, x = dg.load_model("cifar10-cnn").model, seeded(3, 3, 32, 32)
    attributions = {
        "gradient": dg.GradientXInput(model).attribute(x, TARGET).sum(1, keepdim=True),
        "random": seeded(3, 1, 32, 32, seed=3),
    }
    masks = random_masks(QUARTERS, 10, grid, torch.Generator().manual_seed(5))
    theirs = correlated(
        monkeypatch,
        model,
        x,
        attributions,
        masks.repeat_interleave(32 // grid, 2).repeat_interleave(32 // grid, 3),
    )
    ours = dg.metrics.sensitivity_n(
        model,
        x,
        TARGET,
        attributions,
        fractions=QUARTERS,
        n_masks=10,
        grid=grid,
        generator=torch.Generator().manual_seed(5),
    )
    for name in attributions:
        found = ours[name].correlations
        torch.testing.assert_close(found, theirs[name].to(found), rtol=0, atol=1e-4)


def test_attribench_counts_an_undefined_correlation_as_zero(monkeypatch):
    """Of a constant attribution every set of n pixels has the same sum: we leave the sample out."""
    model, x, equal = linear(4), seeded(3, 1, 4, 4), torch.ones(3, 1, 4, 4)
    masks = random_masks(QUARTERS, 5, 4)
    assert not correlated(monkeypatch, model, x, {"equal": equal}, masks)["equal"].any()
    ours = dg.metrics.sensitivity_n(model, x, TARGET, equal, fractions=QUARTERS, n_masks=5, grid=4)
    assert ours.correlations.isnan().all()


def test_attribench_segments_weigh_by_their_mean():
    """Its Seg-sensitivity-n adds the segments' means: of segments of 1 and 35 pixels, 1 and 1."""
    segments = np.ones((1, 1, 6, 6), int)
    segments[0, 0, 0, 0] = 0
    weigh = peer("attribench._segmentation").segment_attributions
    assert weigh(segments, np.ones((1, 1, 6, 6))).tolist() == [[1, 1]]
