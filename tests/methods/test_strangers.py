"""Methods, metrics and data of the user's own: by module, by registration, by entry point."""

import json
import os
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import processes
import pytest
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.methods import find_method, register_method
from distillgrad.methods.parsing import parse_methods
from distillgrad.metrics.registry import find_metric, register_metric

MODULE = '''
import torch

import distillgrad as dg
from distillgrad.metrics import Axis, Metric, Values
from distillgrad.sources.open_data import open_data


class MyMethod(dg.GradientMethod):
    """The squared gradient, scaled."""

    signed = False
    source = "a stranger"

    def __init__(self, model, n_steps=1, scales=(1.0,)):
        super().__init__(model)
        self.n_steps, self.scales = n_steps, scales

    def _attribute(self, batch):
        _, gradient, _ = dg.value_and_gradient(self.forward_func, batch.inputs, batch.target, batch.extra)
        return gradient**2 * self.n_steps * sum(self.scales)


class NoMethod:
    pass


def inked(given, protocol):
    return {name: maps.abs().flatten(1).mean(1) for name, maps in given.attributions.items()}


def along(given, protocol):
    shares = (1, 5, 10)
    return Values(
        {
            name: torch.stack([maps.flatten(1).abs().topk(share).values.sum(1) for share in shares], 1)
            for name, maps in given.attributions.items()
        },
        axis=shares,
    )


my_metric = Metric(better="lower", source="a stranger", measurement=inked)
my_curve = Metric(
    better="higher", source="a stranger", measurement=along, axis=Axis("The strongest ↑", "pixels", "sum")
)
unworded = Metric(better="higher", source="a stranger", measurement=along)


def my_data():
    return open_data("images")
'''
METHODS = "my_module:MyMethod(n_steps=2,scales=[1.0, 2.0]),my_module:MyMethod,saliency"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the stranger's module and two images, where commands run as a user runs them."""
    (tmp_path / "my_module.py").write_text(MODULE)
    (tmp_path / "images").mkdir()
    for index in range(2):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 256, (40, 40, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield tmp_path
    sys.modules.pop("my_module", None)
    for registry in (dg.METHODS, dg.metrics.METRICS):
        for name in [each for each in registry._loaded if ":" in each]:
            del registry._loaded[name]


def commands(*lines):
    """Run command lines in a process of their own, whose path lacks the current folder as the script's."""
    script = (
        "import os, sys, shlex\n"
        f"os.chdir({os.getcwd()!r})\n"
        "sys.path = [each for each in sys.path if each]\n"
        "from distillgrad.cli import app\n"
        "for line in sys.argv[1:]:\n"
        "    code = app(shlex.split(line), standalone_mode=False)\n"
        "    assert not code, line\n"
    )
    said = Path("said.txt").absolute()
    assert processes.finished(script, *lines, output=said) == 0, said.read_text()


def test_a_strangers_method_and_metrics_by_the_command_line(place):
    metrics = "my_module:my_metric,lerf,my_module:my_curve,my_module:unworded"
    commands(
        "explain images/0.png --methods my_module:MyMethod,saliency --out explained",
        f"evaluate images --methods '{METHODS}' --metrics {metrics} --n-steps 2 --out run",
        "report images/0.png --methods my_module:MyMethod,saliency -o image.html",
        "report run -o run.html",
        "attribute my_module:my_data --methods my_module:MyMethod --out maps",
    )
    board = json.loads((place / "run" / "leaderboard.json").read_text())
    assert ",".join(board["metrics"]) == "lerf,my_module:my_metric,my_module:my_curve,my_module:unworded"
    assert board["metrics"]["my_module:my_metric"]["better"] == "lower"
    labels = ["my_module:MyMethod(n_steps=2,scales=[1.0, 2.0])", "my_module:MyMethod", "saliency"]
    means = {name: each["mean"] for name, each in board["metrics"]["my_module:my_metric"]["methods"].items()}
    assert set(means) == set(labels)
    assert means[labels[0]] == pytest.approx(6 * means[labels[1]])
    assert (place / "run" / "curves.png").is_file()
    page = (place / "run.html").read_text()
    assert "The strongest ↑" in page
    assert "my_module:unworded ↑" in page
    assert "Not known here" not in page
    assert "my_module:MyMethod" in (place / "image.html").read_text()
    assert dg.open_run(place / "maps").attribution("my_module:MyMethod", "0.png").shape[-2:] == (32, 32)


def test_a_runs_module_is_imported_only_if_it_is_named(place):
    metrics = "my_module:my_metric,sparseness"
    commands(f"evaluate images --methods my_module:MyMethod,saliency --metrics {metrics} --out run")
    commands("report run -o closed.html", "report run --import my_module -o open.html")
    closed, opened = ((place / f"{name}.html").read_text() for name in ("closed", "open"))
    assert "Not known here: my_module:MyMethod, my_module:my_metric" in closed
    assert "my_module:my_metric ↓" not in closed
    assert "sparseness ↑" in closed
    assert "my_module:my_metric ↓" in opened
    assert opened.count("<figure") > closed.count("<figure")


@pytest.mark.parametrize(
    ("words", "error", "mend"),
    [
        ("my_module:NoMethod", dg.errors.ParameterError, "derive it from distillgrad.GradientMethod"),
        ("my_module:Missing", dg.errors.SourceError, "cannot import Missing from my_module"),
        ("no_such_module:Any", dg.errors.SourceError, "the folder that holds no_such_module"),
        ("my_module:MyMethod(n_step=2)", dg.errors.ParameterError, "did you mean 'n_steps'"),
        ("my_module:", dg.errors.UnknownNameError, "unknown method"),
        ("my_module:MyMethod(2)", dg.errors.ParameterError, "name=value"),
        ("my_module:MyMethod(**{'n_steps': 2})", dg.errors.ParameterError, "name=value"),
    ],
)
def test_what_is_no_method(place, words, error, mend):
    with pytest.raises(error, match=mend):
        parse_methods(words)


def test_arguments_of_any_literal_form(place):
    words = "my_module:MyMethod(scales=(1, [2, 3]), n_steps=4), my_module:MyMethod(scales={'a,(': \"b)\"})"
    assert list(parse_methods(words).values()) == [
        ("my_module:MyMethod", {"scales": (1, [2, 3]), "n_steps": 4}),
        ("my_module:MyMethod", {"scales": {"a,(": "b)"}}),
    ]
    for label, spec in parse_methods(words).items():
        assert parse_methods(label) == {label: spec}


def test_what_is_no_metric(place):
    with pytest.raises(dg.errors.ParameterError, match=r"a function, no distillgrad\.metrics\.Metric"):
        find_metric("my_module:inked")
    with pytest.raises(dg.errors.UnknownNameError, match="'sparseness'"):
        find_metric("sparsenes")


def test_methods_and_metrics_that_are_added_by_name(place):
    class Squared(dg.Saliency):
        """The squared gradient."""

    register_method("squared", Squared)
    decorate = register_metric("mean_of_map", better="higher", source="me")
    try:
        assert find_method("squared") is Squared
        assert isinstance(dg.create_method("squared", torch.nn.Linear(2, 2)), Squared)
        assert "squared" in list(dg.METHODS)
        with pytest.raises(dg.errors.ParameterError, match="exists already"):
            register_method("dga")(Squared)
        with pytest.raises(dg.errors.ParameterError, match="derive it from"):
            register_method("another", torch.nn.Linear)
        with pytest.raises(dg.errors.ParameterError, match="cannot name a method"):
            register_method("a name", Squared)
        metric = decorate(lambda given, _: dict(given.attributions))
        assert find_metric("mean_of_map") is metric
        assert metric.arrow == "↑"
    finally:
        dg.METHODS.unregister("squared")
        dg.metrics.METRICS.unregister("mean_of_map")
    with pytest.raises(dg.errors.UnknownNameError):
        find_method("squared")


def test_entry_points(place, monkeypatch):
    offered = {
        "distillgrad.methods": [
            EntryPoint("strange", "my_module:MyMethod", "distillgrad.methods"),
            EntryPoint("dga", "my_module:MyMethod", "distillgrad.methods"),
            EntryPoint("broken", "my_module:Missing", "distillgrad.methods"),
        ]
    }
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: offered.get(group, []))
    monkeypatch.delitem(vars(dg.METHODS), "_entry_points", raising=False)
    try:
        assert find_method("strange").__name__ == "MyMethod"
        assert find_method("dga") is dg.DGA
        assert list(dg.METHODS)[-2:] == ["strange", "broken"]
        assert list(parse_methods("strange(n_steps=3)")) == ["strange(n_steps=3)"]
        with pytest.raises(dg.errors.SourceError, match="mend or uninstall it"):
            find_method("broken")
    finally:
        dg.METHODS._loaded.pop("strange", None)
        vars(dg.METHODS).pop("_entry_points", None)
