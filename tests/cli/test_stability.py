"""The tables of stability: the command, explain --stability, what they keep."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.explanations.stability import stability_of_methods
from distillgrad.views.stability import stability_markdown, stability_record, stability_rows
from distillgrad.views.stability_record import StabilityRecord, StabilityTable, write_page


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
    methods = "saliency,dga(n_steps=2)"
    arguments = ("stability", photographs, "--models", "cifar10-cnn,cifar10-cnn")
    result = run(*arguments, "--methods", methods, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)["cifar10-cnn"]
    assert set(record) == {"saliency", "dga(n_steps=2)"}
    assert set(record["saliency"]) == {"overlap", "spearman", "ssim"}
    assert record["saliency"]["spearman"]["float64"] > 0.99
    page = (tmp_path / "out" / "stability.md").read_text()
    assert page.count("## cifar10-cnn, 2 images") == 2
    assert page.count("| dga(n_steps=2) | SSIM |") == 2


def test_the_page_of_a_table_is_not_its_values_file(tmp_path):
    with pytest.raises(dg.errors.ParameterError, match=r"give the tables another, like \.md"):
        StabilityRecord(tmp_path / "stability.json")


def test_what_was_measured_is_not_measured_again(tmp_path, photographs):
    page, values = tmp_path / "stability.md", tmp_path / "stability.json"
    arguments = ("stability", photographs, "--out", tmp_path, "--json", "--methods")
    assert run(*arguments, "saliency").exit_code == 0
    record = json.loads(values.read_text())
    (table,) = record["tables"].values()
    assert table["model"] == "cifar10-cnn"
    table["methods"]["saliency"]["overlap"] = [[0.25, 1, 1, None], [0.5, 1, 1, None]]
    values.write_text(json.dumps(record))

    found = json.loads(run(*arguments, "saliency,gradient_x_input").stdout)["cifar10-cnn"]
    assert found["saliency"]["overlap"] == {"float64": 0.375, "bfloat16": 1, "alone": 1, "jitter": None}
    assert found["gradient_x_input"]["overlap"]["alone"] > 0.9
    assert "| saliency | top-10 % overlap | 0.375 (0.000 … 1.000) |" in page.read_text()

    of_one = json.loads(run(*arguments, "saliency", "--limit", 1).stdout)["cifar10-cnn"]
    assert of_one["saliency"]["overlap"]["float64"] > 0.9
    fast = json.loads(run(*arguments, "saliency", "--accelerate").stdout)["cifar10-cnn"]
    assert fast["saliency"]["overlap"]["float64"] > 0.9
    assert len(json.loads(values.read_text())["tables"]) == 3


def test_a_page_says_what_is_not_measured(tmp_path):
    subject = StabilityTable(dg.load_model("cifar10-cnn"), torch.zeros(2, 3, 32, 32), {"saliency": "no"})
    write_page(tmp_path / "partly.md", [subject], ["saliency", "dga"])
    assert (tmp_path / "partly.md").read_text().endswith("- `saliency`: no\n\nNot measured: `dga`.\n")


@pytest.mark.parametrize(
    ("further", "words"),
    [
        (("photographs",), "2 DATA for 1 models"),
        (("--limit", 1, "--limit", 2), "2 --limit for 1 models"),
    ],
)
def test_wrong_requests(tmp_path, photographs, monkeypatch, further, words):
    monkeypatch.chdir(tmp_path)
    result = run("stability", photographs, *further, "--methods", "saliency")
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_record_of_something_else_is_left_alone(tmp_path, photographs):
    (tmp_path / "stability.json").write_text('{"mine": 1}')
    result = run("stability", photographs, "--methods", "saliency", "--out", tmp_path)
    assert result.exit_code == 2
    assert "holds something else" in result.stderr
    assert (tmp_path / "stability.json").read_text() == '{"mine": 1}'


def test_explain_keeps_the_stability_in_its_record(tmp_path, photographs):
    arguments = ("explain", photographs / "0.png", "--methods", "saliency", "--out", tmp_path, "--stability")
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
    found = stability_of_methods(
        type(loaded)(**{**vars(loaded), "model": network}),
        inputs,
        {"saliency": ("saliency", {}), "lrp": ("lrp", {})},
    )
    expected = dg.metrics.stability(network, lambda model: dg.Saliency(model).attribute, inputs, None)
    record = stability_record(found)
    assert record["saliency"]["overlap"]["bfloat16"] == pytest.approx(float(expected.overlap[:, 1].mean()))
    assert "GELU" in record["lrp"]["refused"]
    assert stability_rows(found)[-1] == ("lrp", "refused", "–", "–", "–", "–")
    assert "- `lrp`: " in stability_markdown(found)
