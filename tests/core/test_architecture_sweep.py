"""A tenth of ``make sweep``: small networks of three libraries, and that the sweep finds what is wrong."""

import json

import pytest
import torch
from torch import nn

import architecture_zoo
import architectures
import distillgrad as dg
from architecture_checks import OK, RAW, REFUSED, WRONG, Subject, judged, used_once
from architectures_page import reason
from networks import convolutional

EVERYWHERE = ("dga", "uniform_fullgrad", "gradient_x_input", "saliency", "integrated_gradients", "idgi")
BY_LAYERS = ("guided_backprop", "gradcam", "deep_lift", "lrp")
NETWORKS = {
    "timm": ["test_byobnet", "test_coatnet", "test_convnext3", "test_resnet", "test_vit_relpos"],
    "torchvision": ["squeezenet1_1"],
    "transformers": [
        "BeitForImageClassification",
        "CvtForImageClassification",
        "LevitForImageClassification",
        "ResNetForImageClassification",
        "Swinv2ForImageClassification",
    ],
}


@pytest.mark.filterwarnings("ignore")  # libraries of their own functions
@pytest.mark.parametrize("name", [each for names in NETWORKS.values() for each in names])
def test_small_networks_are_explained_or_refused(name):
    (network,) = [each for each in architecture_zoo.networks() if each.name == name]
    subject = Subject(network.build(), network.inputs())
    used_once(subject.model, subject.inputs)
    found = {method: judged(method, subject) for method in (*EVERYWHERE, *BY_LAYERS)}
    assert not {method: each for method, each in found.items() if each.outcome in (WRONG, RAW)}
    assert not {method: each for method, each in found.items() if method in EVERYWHERE and each.outcome != OK}


def test_every_installed_family_has_its_network():
    assert not architecture_zoo.families_left_out()
    assert len({str(each) for each in architecture_zoo.networks()}) >= 160


class Explained(Subject):
    """A subject whose maps are what a function of the images and the model makes of them."""

    def explain(self, name, rows=slice(None)):
        if name == "saliency":
            return self.made(self.inputs[rows], self.model)
        return super().explain(name, rows)


def gradient(x, model):
    return dg.create_method("saliency", model).attribute(x, [1, 2][: len(x)])


def centred(x, model):
    return gradient(x, model) - gradient(x, model).mean(0)


def random(x, model):
    return gradient(x, model) + torch.randn_like(x)


def hooked(x, model):
    model[0].register_forward_hook(lambda *_: None)
    return gradient(x, model)


def written(x, model):
    with torch.no_grad():
        model[0].weight.mul_(2)
    return gradient(x, model)


def raw(x, model):
    raise KeyError("layer")


def refused(x, model):
    raise dg.errors.ModelError("no rule")


def refused_alone(x, model):
    if len(x) == 1:
        raise dg.errors.ModelError("one row")
    return gradient(x, model)


@pytest.mark.parametrize(
    ("made", "outcome", "why"),
    [
        (gradient, OK, ""),
        (lambda x, model: 1.001 * gradient(x, model), WRONG, "magnitude of the gradient"),
        (lambda x, model: gradient(x, model)[:, :1], WRONG, "shape"),
        (lambda x, model: gradient(x, model) / 0, WRONG, "not finite"),
        (lambda x, model: 0 * gradient(x, model), WRONG, "magnitude"),
        (centred, WRONG, "a row alone differs"),
        (random, WRONG, "second call"),
        (hooked, WRONG, "hooks of the model"),
        (written, WRONG, "values of the model"),
        (raw, RAW, "KeyError: 'layer'"),
        (refused, REFUSED, "no rule"),
        (refused_alone, WRONG, "one row"),
    ],
)
def test_the_sweep_finds_what_is_wrong(made, outcome, why):
    subject = Explained(convolutional(), torch.randn(2, 2, 6, 6).double())
    object.__setattr__(subject, "made", made)
    found = judged("saliency", subject)
    assert found.outcome == outcome
    assert why in found.why


class Detached(nn.Module):
    """A model whose own gradient misses a term."""

    def __init__(self):
        super().__init__()
        self.inner = convolutional()

    def forward(self, x):
        return self.inner(x) + 0.1 * x.detach().flatten(1)[:, :4]


def test_a_gradient_that_is_none_is_found_by_finite_differences():
    found = judged("gradient_x_input", Subject(Detached(), torch.randn(2, 2, 6, 6).double()))
    assert found.outcome == WRONG
    assert "finite differences" in found.why


def test_a_bias_that_fullgrad_leaves_out_is_found(monkeypatch):
    subject = Subject(convolutional(), torch.randn(2, 2, 6, 6).double())
    assert judged("fullgrad", subject).outcome == OK
    monkeypatch.setattr(dg.FullGrad, "residual", lambda self, inputs, target: torch.ones(2).double())
    assert "left out" in judged("fullgrad", subject).why
    smooth = Subject(nn.Sequential(convolutional(), nn.Sigmoid()), subject.inputs)
    assert judged("fullgrad", smooth).outcome == OK  # of which no sum is promised


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    networks = [each for each in architecture_zoo.networks() if each.name == "ViTForImageClassification"]
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    monkeypatch.setattr(architectures, "networks", lambda: networks)
    command = ["architectures", "--results", str(results), "--page", str(page), "--methods"]
    for methods in ("random,saliency", "random,saliency,deep_lift"):
        monkeypatch.setattr("sys.argv", [*command, methods])
        architectures.main()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["method"], row["outcome"]) for row in rows] == [
        ("random", OK),
        ("saliency", OK),
        ("deep_lift", REFUSED),
    ]
    text = page.read_text()
    assert "Of 3 pairs of a network and a method 2 are OK and 1 refused" in text
    assert "| transformers:vit:ViTForImageClassification | 2 | deep_lift | – |" in text


def test_a_crash_is_a_verdict_and_ends_nothing(tmp_path, monkeypatch):
    networks = [each for each in architecture_zoo.networks() if each.name == "ViTForImageClassification"]
    monkeypatch.setattr(architectures, "networks", lambda: networks)
    judge = architectures.judged
    monkeypatch.setattr(
        architectures, "judged", lambda name, subject: judge(name, subject) if name == "random" else _die()
    )
    results = tmp_path / "results.jsonl"
    monkeypatch.setattr(
        "sys.argv", ["architectures", "--results", str(results), "--methods", "saliency,random"]
    )
    architectures.main()
    outcomes = {row["method"]: (row["outcome"], row["why"]) for row in architectures.read(results)}
    assert outcomes == {"saliency": (RAW, "the process ended with -9"), "random": (OK, "")}


def _die():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_refusals_share_a_reason_whatever_the_names():
    one = reason("LRP has no rule for this model's LayerNorm: blocks.0.norm; or use 'dga'")
    other = reason("LRP has no rule for this model's LayerNorm: layer.3.norm")
    assert one == other == "LRP has no rule for this model's LayerNorm"
    assert reason("the 4 tokens of layer 'a.b' cannot") == reason("the 16 tokens of layer 'c' cannot")
