"""Real weights and images: accuracy as their sources state it, heat maps on the object."""

import csv
from contextlib import nullcontext

import pytest
import torch

import distillgrad as dg
from distillgrad.core.acceleration.prepacked_layer import multiplies_bfloat16
from distillgrad.sources.bundled import train
from distillgrad.sources.parquet import read_cifar10

IMAGENET = {"squeezenet1_1": "p_squeezenet1_1", "resnet18": "p_resnet18"}


def samples(data, every=1):
    with (data / "imagenet" / "samples" / "index.csv").open() as file:
        return list(csv.DictReader(file))[::every]


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_samples_are_classified_with_the_stated_probability(data, name):
    loaded = dg.load_model(f"torchvision:{name}@{data}/imagenet/{name}.safetensors")
    rows = samples(data, every=10)
    images = [dg.read_image(data / "imagenet" / "samples" / row["file"]) for row in rows]
    with torch.no_grad():
        probabilities = loaded.model(torch.stack([loaded.preprocess(each) for each in images])).softmax(1)
    for row, found in zip(rows, probabilities, strict=True):
        index = int(row["class_index"])
        assert int(found.argmax()) == index
        assert loaded.classes[index] == row["class_name"].replace("_", " ")
        assert float(found[index]) == pytest.approx(float(row[IMAGENET[name]]), abs=2e-3)


def test_the_bundled_classifier_is_as_accurate_as_its_card_says(data):
    test = read_cifar10(data / "cifar10", "test")
    loaded = dg.load_model("cifar10-cnn")
    assert loaded.classes == test.classes
    measured = train.accuracy(loaded.model, test)
    assert measured >= 0.90
    card = dg.sources.bundled.CARD.read_text()
    assert f"**{measured:.2%}**" in card


def test_the_recipe_trains(data, monkeypatch):
    if not multiplies_bfloat16():  # but emulates it, many times slower
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    examples = read_cifar10(data / "cifar10", "train", limit=128)
    model = train.train(examples, epochs=6, seed=0, batch_size=16)
    assert train.accuracy(model, examples) > 0.25  # chance is 0.10


def test_removing_what_dga_found_hurts_more_than_removing_the_rest(data):
    """Ten images, half of the pixels: the map must order them, whatever it looks like."""
    loaded = dg.load_model(f"torchvision:squeezenet1_1@{data}/imagenet/squeezenet1_1.safetensors")
    rows = samples(data, every=20)
    inputs = torch.stack(
        [loaded.preprocess(dg.read_image(data / "imagenet" / "samples" / row["file"])) for row in rows]
    )
    target = torch.tensor([int(row["class_index"]) for row in rows])
    pixels = dg.DGA(loaded.model).attribute(inputs, target).sum(1, keepdim=True)
    higher = pixels >= pixels.flatten(1).median(1).values.view(-1, 1, 1, 1)
    with torch.no_grad():
        kept, removed = (
            loaded.model(inputs * mask).softmax(1).gather(1, target[:, None]).mean()
            for mask in (higher, ~higher)
        )
    assert kept > 5 * removed
