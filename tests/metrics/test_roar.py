"""ROAR: trials against plain training loops, removal against a literal one, controls and bad requests."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import distillgrad as dg
from distillgrad.metrics.ensemble_memory import TrialMemory, memory_of_a_trial, trials_that_fit
from distillgrad.metrics.ensembles import train_ensemble
from distillgrad.metrics.pixel_ranks import random_ranks, ranks_to_store, without_top
from distillgrad.metrics.roar import Roar, remove_and_retrain
from distillgrad.metrics.roar_networks import CifarNetwork, DigitsNetwork
from distillgrad.sources.digits import normalised_digits, read_digits


def few_classes():
    return DigitsNetwork(3)


def with_batch_norm():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 3))


def labelled(n=22, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = torch.randn(n, 1, 8, 8, generator=generator, dtype=dtype) + labels[:, None, None, None]
    return images, labels


def literally_trained(make_network, images, labels, seed, n_epochs, batch_size, learning_rate):
    """One network, torch's own plain Adam."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make_network().to(images.dtype)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate, foreach=False, fused=False)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            optimizer.zero_grad()
            cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network.eval()


@pytest.mark.parametrize("make_network", [few_classes, with_batch_norm])
@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_trials_are_what_training_them_one_by_one_gives(make_network, at_a_time):
    (images, labels), unseen = labelled(), labelled(7, seed=1)[0]
    setting = {"n_epochs": 3, "batch_size": 8, "learning_rate": 3e-3}  # the last batch of an epoch has 6
    seeds, before = (4, 0, 9), torch.get_rng_state()
    with torch.inference_mode():  # a caller's habit that must not matter
        ensemble = train_ensemble(
            make_network, images, labels, seeds=seeds, trials_at_a_time=at_a_time, **setting
        )
    assert torch.equal(torch.get_rng_state(), before)
    logits = ensemble.logits(unseen)
    assert (len(ensemble), logits.shape) == (3, (3, 7, 3))
    for trial, seed in enumerate(seeds):
        alone = literally_trained(make_network, images, labels, seed, **setting)
        torch.testing.assert_close(logits[trial], alone(unseen), rtol=0, atol=1e-9)
        torch.testing.assert_close(ensemble.network(trial)(unseen), alone(unseen), rtol=0, atol=1e-9)
    correct = logits.argmax(2) == torch.arange(7) % 3
    assert torch.equal(ensemble.accuracy(unseen, torch.arange(7) % 3), correct.double().mean(1))


def test_a_trials_memory_is_four_copies_and_what_its_batch_keeps():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    memory = memory_of_a_trial(network, labelled()[0], batch_size=8)
    assert memory.parameters == 4 * 8 * (64 * 16 + 16 + 16 * 3 + 3)
    # The ReLU's output, which the next layer keeps, too; the log-probabilities; labels and the loss's weight.
    assert 0 <= memory.activations - 8 * (8 * 16 + 8 * 3) <= 8 * 8 + 16
    assert memory.working == 2 * 8 * 8 * 16
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())


def test_as_many_trials_run_as_one_as_fit():
    trial = TrialMemory(parameters=100, activations=300, working=50)
    assert [trials_that_fit(trial, 10, free) for free in (0, 1_111 + 778, 10_000)] == [1, 2, 10]


def test_each_epoch_reports_its_losses_and_bfloat16_learns_too():
    images, labels = labelled(dtype=torch.float32)
    for at_a_time in (1, 2):
        losses = []
        ensemble = train_ensemble(
            few_classes,
            images,
            labels,
            seeds=(0, 1),
            n_epochs=8,
            batch_size=8,
            learning_rate=3e-3,
            bfloat16=True,
            trials_at_a_time=at_a_time,
            on_epoch=lambda epoch, loss, losses=losses: losses.append((epoch, loss)),
        )
        assert [epoch for epoch, _ in losses] == list(range(1, 9))
        assert (losses[-1][1] < losses[0][1] / 2).all()
        assert ensemble.logits(images).dtype == torch.float32


def test_the_networks_are_the_documented_ones():
    assert sum(each.numel() for each in CifarNetwork().parameters()) == 845_738
    assert sum(each.numel() for each in DigitsNetwork().parameters()) == 13_706
    assert CifarNetwork(7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    kinds = [type(each) for each in CifarNetwork().modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.Linear)) == (6, 3)


def test_stored_ranks_are_the_literal_order_with_ties_by_index():
    attributions = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)).round()
    ranks = ranks_to_store(attributions)
    for image, stored in zip(attributions, ranks, strict=True):
        values = image.sum(0).flatten().tolist()
        order = sorted(range(len(values)), key=lambda place: -values[place])
        assert [stored.flatten().tolist()[place] for place in order] == list(range(24))
    assert torch.equal(ranks_to_store(attributions[2:3])[0], ranks[2])


@pytest.mark.parametrize(
    ("height", "width", "dtype"),
    [(16, 16, torch.uint8), (16, 17, torch.uint16), (256, 256, torch.uint16), (257, 256, torch.int32)],
)
def test_stored_ranks_are_exact_in_the_smallest_type(height, width, dtype):
    values = torch.arange(height * width).view(1, 1, height, width).double()
    ranks = ranks_to_store(-values)
    assert ranks.dtype == dtype
    assert torch.equal(ranks.to(torch.int64), values.long()[0])
    file = ranks.numpy()  # on disk and back
    assert torch.equal(torch.from_numpy(np.frombuffer(file.tobytes(), file.dtype).copy()), ranks.flatten())
    image = torch.rand(1, 2, height, width, dtype=torch.float64)
    removed = without_top(image, ranks, 0.3) != image
    assert removed.sum() == 2 * round(0.3 * height * width)
    assert torch.equal(
        random_ranks(1, height, width, seed=0).flatten().to(torch.int64).sort().values,
        torch.arange(height * width),
    )


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.575, 0.99])
def test_removed_pixels_become_the_intact_images_mean_colour(fraction, keep):
    images = torch.randn(3, 2, 10, 4, generator=torch.Generator().manual_seed(1)).double()
    attributions = images.round()
    ranks, before = ranks_to_store(attributions), images.clone()
    found = without_top(images, ranks, fraction, keep=keep)
    for image, attribution, changed in zip(images, attributions, found, strict=True):
        values = attribution.sum(0).flatten().tolist()
        order = sorted(range(40), key=lambda place: -values[place])
        count = {0.0: 0, 0.1: 4, 0.575: 23, 0.99: 40}[fraction]
        expected = image.clone().flatten(1)
        for place in order[count:] if keep else order[:count]:
            expected[:, place] = image.mean((1, 2))
        torch.testing.assert_close(changed.flatten(1), expected, rtol=0, atol=1e-14)
    assert torch.equal(images, before)
    assert torch.equal(without_top(images[1:2], ranks[1:2], fraction, keep=keep)[0], found[1])


def test_keeping_and_removing_complement_each_other_whatever_stands_in():
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    ranks = ranks_to_store(torch.randn(2, 1, 8, 8))
    top = (ranks < 19)[:, None]
    for replacement in ("mean", "blur", "road", 7.0):
        removed, kept = (
            without_top(images, ranks, 0.3, replacement=replacement, keep=keep) for keep in (False, True)
        )
        assert torch.equal(torch.where(top, kept, removed), images)
        assert bool((torch.where(top, removed, kept) != images).all())


def test_controls_units_and_their_order():
    train, test = labelled(), labelled(9, seed=1)
    ranks = {"signal": tuple(ranks_to_store(images) for images, _ in (train, test))}
    setting = {"n_epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "seeds": (1, 2)}
    units = []
    found = remove_and_retrain(
        few_classes,
        train,
        test,
        ranks,
        fractions=(0, 0.5),
        on_unit=lambda *unit: units.append(unit),
        **setting,
    )
    plain = train_ensemble(few_classes, *train, **setting)
    assert list(found) == ["none", "signal", "random"]
    assert torch.equal(found["none"].accuracies, plain.accuracy(*test)[None])
    for name in ("signal", "random"):  # without removal all are plain training
        assert found[name].fractions.tolist() == [0, 0.5]
        assert torch.equal(found[name].accuracies[0], found["none"].accuracies[0])
    assert [unit[:2] for unit in units] == [
        ("none", 0),
        ("signal", 0),
        ("signal", 0.5),
        ("random", 0),
        ("random", 0.5),
    ]
    changed = [
        without_top(data[0], each, 0.5) for data, each in zip((train, test), ranks["signal"], strict=True)
    ]
    again = train_ensemble(few_classes, changed[0], train[1], **setting).accuracy(changed[1], test[1])
    assert torch.equal(found["signal"].accuracies[1], again)

    road = remove_and_retrain(
        few_classes,
        train,
        test,
        {"random": ranks["signal"]},
        fractions=(0.5,),
        retrain=False,
        replacement="road",
        **setting,
    )
    assert list(road) == ["none", "random"]
    expected = plain.accuracy(without_top(test[0], ranks["signal"][1], 0.5, replacement="road"), test[1])
    assert torch.equal(road["random"].accuracies[0], expected)


def test_mean_and_standard_error_over_trials():
    accuracies = torch.tensor([[0.5, 0.7, 0.9], [0.2, 0.2, 0.2]], dtype=torch.float64)
    roar = Roar(torch.tensor([0.1, 0.5]).double(), accuracies)
    torch.testing.assert_close(roar.mean, torch.tensor([0.7, 0.2]).double())
    torch.testing.assert_close(roar.standard_error, torch.tensor([0.2 / 3**0.5, 0]).double())
    assert Roar(roar.fractions, accuracies[:, :1]).standard_error.isnan().all()


def test_the_pixels_that_tell_digits_apart_hurt_most():
    """Removed at the same places of every image, so that the holes say nothing about the class."""
    train, test = map(normalised_digits, read_digits())
    train = train[0][:600], train[1][:600]
    means = torch.stack([train[0][train[1] == label].mean(0) for label in range(10)])
    telling = means.var(0)
    ranks = {
        name: tuple(
            ranks_to_store(sign * telling.expand(len(images), 1, 8, 8)) for images, _ in (train, test)
        )
        for name, sign in (("most", 1), ("least", -1))
    }
    found = remove_and_retrain(
        DigitsNetwork, train, test, ranks, fractions=(0.7,), seeds=(0,), n_epochs=8, learning_rate=5e-3
    )
    most, least, random, none = (found[name].mean.item() for name in ("most", "least", "random", "none"))
    assert most < random - 0.1 < least - 0.1
    assert abs(least - none) < 0.04
    assert none > 0.85


def test_digits_are_split_class_by_class():
    train, test = read_digits()
    assert (len(train.labels), len(test.labels)) == (1438, 359)
    assert (train.images.shape[1:], train.images.dtype, train.images.max()) == ((8, 8, 1), np.uint8, 255)
    shares = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert (abs(shares - 0.2) < 0.003).all()
    assert np.array_equal(read_digits()[1].images, test.images)
    assert not np.array_equal(read_digits(seed=1)[1].images[:300], test.images[:300])
    inputs, labels = normalised_digits(train)
    assert inputs.shape == (1438, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert abs(inputs.mean()) < 0.01
    assert abs(inputs.std() - 1) < 0.01
    with pytest.raises(dg.errors.ParameterError, match="of class 0 into the test"):
        read_digits(test_share=0.001)


def with_dropout():
    return nn.Sequential(few_classes(), nn.Dropout(0.5))


SHARED = few_classes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fractions": (1.0,)}, "below 1, not 1.0"),
        ({"fractions": (0.1, -0.1)}, "at least 0"),
        ({"fractions": (float("nan"),)}, "below 1"),
        ({"fractions": ()}, "at least one fraction"),
        ({"make_network": lambda: DigitsNetwork(5)}, "no train image of classes 3, 4"),
        ({"make_network": lambda: DigitsNetwork(2)}, "label 2 is outside the network's 2 classes"),
        ({"make_network": CifarNetwork}, r"failed on inputs of shape \(1, 1, 8, 8\)"),
        ({"make_network": with_dropout}, "leave dropout out"),
        ({"make_network": lambda: SHARED}, "same network twice"),
        ({"make_network": lambda: None}, "an nn.Module, not a NoneType"),
        ({"make_network": nn.Flatten}, "64 classes"),
        ({"train": (labelled()[0], labelled()[1][:-1])}, "each of 22 images"),
        ({"train": (labelled()[0][:0], labelled()[1][:0])}, r"\(0, 1, 8, 8\)"),
        ({"test": (labelled()[0].float(), labelled()[1])}, "make them alike"),
        ({"ranks": {"none": ()}}, "call the explanation something else"),
        ({"ranks": {"a": torch.zeros(2)}}, "as two tensors"),
        ({"ranks": {"a": (labelled()[0][:, 0], random_ranks(22, 8, 8, seed=0))}}, "ranks_to_store"),
        (
            {"ranks": {"a": (random_ranks(22, 8, 8, seed=0), random_ranks(22, 8, 7, seed=0))}},
            "test ranks of 'a'",
        ),
        ({"ranks": {"a": (torch.zeros(22, 8, 8).int(),) * 2}}, "each number from 0 to 63 once"),
        ({"ranks": {"a": (torch.full((22, 8, 8), -1),) * 2}}, "each number from 0 to 63 once"),
        ({"seeds": (1, 1)}, "none twice"),
        ({"seeds": ()}, "one per trial"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": 1e300, "n_epochs": 2}, "diverged in epoch 2 for seeds 0, 1"),
        ({"replacement": "median"}, "'median'"),
        ({"train": (labelled()[0] * torch.inf, labelled()[1])}, "NaN or infinity"),
    ],
)
def test_wrong_requests(changes, words):
    request = {
        "make_network": few_classes,
        "train": labelled(),
        "test": labelled(),
        "ranks": {},
        "seeds": (0, 1),
        "n_epochs": 1,
        **changes,
    }
    positional = [request.pop(name) for name in ("make_network", "train", "test", "ranks")]
    with pytest.raises(dg.errors.DistillgradError, match=words):
        remove_and_retrain(*positional, **request)


def test_attributions_that_rank_nothing():
    for attributions, words in (
        (torch.full((1, 1, 2, 2), torch.nan), "NaN"),
        (torch.zeros(0, 1, 2, 2), "empty"),
    ):
        with pytest.raises(dg.errors.InputError, match=words):
            ranks_to_store(attributions)
