"""The tables of agreement: the command, explain --stability, what they keep."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.views.agreement import agreement_rows, agreements, markdown_of, record_of


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(2):
        noise = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(seed))
        Image.fromarray(noise.to(torch.uint8).numpy()).save(folder / f"{seed}.png")
    return folder


def test_the_command_writes_a_table_for_each_model(tmp_path, photographs):
    out = tmp_path / "stability.md"
    methods = "saliency,dga(n_steps=2)"
    arguments = ("stability", "--models", "cifar10-cnn,cifar10-cnn", "--data", photographs)
    result = run(*arguments, "--methods", methods, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)["cifar10-cnn"]
    assert set(record) == {"saliency", "dga(n_steps=2)"}
    assert set(record["saliency"]) == {"overlap", "spearman", "ssim"}
    assert record["saliency"]["spearman"]["float64"] > 0.99
    page = out.read_text()
    assert page.count("## cifar10-cnn, 2 images") == 2
    assert page.count("| dga(n_steps=2) | SSIM |") == 2


def test_data_that_do_not_match_the_models_are_a_wrong_request(tmp_path, photographs):
    arguments = ("stability", "--data", photographs, "--data", photographs, "--out", tmp_path / "a.md")
    result = run(*arguments, "--methods", "saliency")
    assert result.exit_code == 2
    assert "2 --data for 1 models" in result.stderr


def test_explain_keeps_the_agreement_in_its_record(tmp_path, photographs):
    arguments = ("explain", photographs / "0.png", "--method", "saliency", "--out", tmp_path, "--stability")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "top-10 % overlap" in result.stdout
    record = json.loads((tmp_path / "0.json").read_text())
    assert set(record["stability"]["saliency"]["ssim"]) == {"float64", "bfloat16", "alone", "jitter"}
    assert "stability" not in json.loads(run(*arguments[:-1], "--json").stdout)[0]


def test_the_means_are_the_metrics_and_a_refusal_says_why():
    loaded = dg.load_model("cifar10-cnn")
    inputs = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(loaded.model, torch.nn.GELU())
    found = agreements(
        type(loaded)(**{**vars(loaded), "model": network}),
        inputs,
        {"saliency": ("saliency", {}), "lrp": ("lrp", {})},
    )
    expected = dg.metrics.stability(network, lambda model: dg.Saliency(model).attribute, inputs, None)
    record = record_of(found)
    assert record["saliency"]["overlap"]["bfloat16"] == pytest.approx(float(expected.overlap[:, 1].mean()))
    assert "GELU" in record["lrp"]["refused"]
    assert agreement_rows(found)[-1] == ("lrp", "refused", "–", "–", "–", "–")
    assert "- `lrp`: " in markdown_of(found)
