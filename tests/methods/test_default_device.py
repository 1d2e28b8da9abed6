"""Methods, metrics and models where the user has set another default device: nothing of ours lies there.

Of all devices ``meta`` is the strictest: what is made there has no values, and any use of it fails.
"""

import inspect

import pytest
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.metrics.base import MetricInput, Protocol
from distillgrad.metrics.registry import measure
from distillgrad.sources.model_inputs import preprocessed

SMALL = {"n_steps": 3, "n_samples": 4, "n_masks": 4}


@pytest.fixture
def on_meta():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1, device="cpu"),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(4),
            torch.nn.Flatten(),
            torch.nn.Linear(64, 3, device="cpu"),
        ).eval()


def images():
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), device="cpu")


def explained(name, network, target):
    parameters = inspect.signature(dg.METHODS[name]).parameters
    settings = {key: value for key, value in SMALL.items() if key in parameters}
    return dg.create_method(name, network, **settings).attribute(images(), target)


@pytest.mark.parametrize("name", dg.METHODS)
def test_every_method_gives_the_same_map(name, network, on_meta):
    for target in (1, None):
        found = explained(name, network, target)
        torch.set_default_device(None)
        torch.testing.assert_close(found, explained(name, network, target), rtol=0, atol=0)
        torch.set_default_device("meta")


@pytest.mark.parametrize("name", dg.metrics.METRICS)
def test_every_metric_gives_the_same_values(name, network, on_meta):
    def measured():
        protocol = Protocol(n_steps=2, n_masks=2, fractions=(0.5,))
        given = MetricInput(
            model=network,
            network=network,
            inputs=images(),
            target=torch.tensor([0, 1], device="cpu"),
            attributions={"saliency": dg.Saliency(network).attribute(images(), 0)},
            explainer={"saliency": lambda each: dg.Saliency(each).attribute},
            masks=torch.ones(2, 12, 12, dtype=torch.bool, device="cpu"),
        )
        return measure([name], given, protocol)

    found = measured()
    torch.set_default_device(None)
    for metric, values in measured().items():
        for label, each in values.by_method.items():
            torch.testing.assert_close(found[metric].by_method[label], each, rtol=0, atol=0, equal_nan=True)


def test_models_are_loaded_onto_the_cpu(on_meta):
    for spec in ("cifar10-cnn", "torchvision:squeezenet1_1"):
        loaded = dg.load_model(spec, pretrained=spec == "cifar10-cnn")
        inputs = preprocessed(loaded, Image.new("RGB", (40, 40), "red"))
        assert loaded.device.type == inputs.device.type == "cpu"
        assert loaded.model(inputs[None]).isfinite().all()
        assert dg.accelerate(loaded.model, inputs[None])(inputs[None]).isfinite().all()
