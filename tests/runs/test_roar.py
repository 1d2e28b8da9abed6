"""ROAR from outside: the default data at a small scale, kills at random moments, wrong requests."""

import json
import os
import shutil

import numpy as np
import processes
import pytest
import torch
from PIL import Image
from small_runs import made
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.metrics.ensembles import train_ensemble
from distillgrad.metrics.roar import remove_and_retrain
from distillgrad.runs.manifest import begun
from distillgrad.runs.roar.worker import RoarRequest
from distillgrad.sources.roar_data import subject_of

ABSENT = "cuda" if torch.backends.mps.is_available() else "mps"
SMALL = (
    *("--limit", 120, "--methods", "gradient_x_input,dga(n_steps=3)", "--fractions", "0.3,0.7"),
    *("--trials", 2, "--epochs", 2),
)


def run(*arguments):
    return CliRunner().invoke(app, ["roar", *(str(each) for each in arguments)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return made("roar", *SMALL, out=tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_run_is_the_library_s_own_and_none_is_plain_training(tmp_path):
    result = run(*SMALL, "--seed", 3, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["explanations"]
    subject = subject_of("digits", limit=120)
    plain = train_ensemble(
        subject.make_network, *subject.train, seeds=(3, 4), n_epochs=2, learning_rate=subject.learning_rate
    )
    assert found["none"]["accuracies"][0] == plain.accuracy(*subject.test).tolist()
    explain = dg.GradientXInput(plain.network(0)).attribute
    ranks = {
        "gradient_x_input": tuple(
            dg.metrics.ranks_to_store(explain(images)) for images, _ in (subject.train, subject.test)
        )
    }
    expected = remove_and_retrain(
        subject.make_network,
        subject.train,
        subject.test,
        ranks,
        fractions=(0.3, 0.7),
        seeds=(3, 4),
        n_epochs=2,
        learning_rate=subject.learning_rate,
    )
    for name in ("gradient_x_input", "random"):
        np.testing.assert_allclose(found[name]["accuracies"], expected[name].accuracies, atol=0.02)
    assert list(found) == ["none", "gradient_x_input", "dga(n_steps=3)", "random"]
    assert {"roar.json", "roar.csv", "roar.md", "roar.png"} <= set(os.listdir(tmp_path))
    (rank,) = (tmp_path / "ranks").glob("gradient_x_input.train.npy")
    assert np.load(rank).dtype == np.uint8  # 64 pixels: a byte each


def test_killed_at_random_moments_it_ends_with_the_same_table(undisturbed, tmp_path):
    said = tmp_path / "said.txt"

    def started(out):
        return processes.started(processes.COMMAND, "roar", *SMALL, "--out", out, output=said)

    def n_files(out):
        return sum(each.is_file() for each in out.rglob("*"))

    chance = np.random.default_rng(3)
    out = tmp_path / "killed"
    for _ in range(4):
        with started(out) as process:
            enough = n_files(out) + chance.integers(1, 3)
            while process.is_alive() and n_files(out) < enough:
                process.join(0.005)
            process.join(chance.uniform(0, 0.1))
    with started(out) as process:
        process.join(120)
        assert process.exitcode == 0, said.read_text()
    tables = [json.loads((each / "roar.json").read_text()) for each in (out, undisturbed)]
    assert tables[0]["explanations"] == tables[1]["explanations"]


def test_kar_and_road(tmp_path):
    for option, folder in (("--keep", "kar"), ("--no-retrain", "road")):
        result = run(*SMALL, option, "--baseline", "road", "--out", tmp_path / folder)
        assert result.exit_code == 0, result.stderr


def test_a_folder_of_images(tmp_path):
    chance = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, brightness in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                pixels = chance.integers(brightness - 30, brightness + 30, (36, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    options = ("--methods", "saliency", "--fractions", "0.5", "--trials", 1, "--epochs", 1)
    result = run(tmp_path / "data", *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / "roar.png").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nothing",), "unknown data set"),
        (("--device", ABSENT), "cannot be used here"),
        (("--device", "gpu"), "unknown device"),
        (("--fractions", "0.5,1"), "fraction"),
        (("--fractions", "half"), "numbers separated by commas"),
        (("--methods", "dgaa"), "did you mean 'dga'"),
        (("--baseline", "blue"), "mean, blur, road"),
        (("--limit", "3"), "no train image of class"),
        (("--methods", "lrp,gradcam(layer='nowhere')"), "nowhere"),
    ],
)
def test_wrong_requests(tmp_path, options, words):
    result = run(*SMALL, *options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run(*SMALL, "--out", tmp_path)
    assert result.exit_code == 2
    assert "is not empty and holds no run (it has thesis.tex)" in " ".join(result.stderr.split())
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "thesis.tex").rename(tmp_path / ".manifest.json.abcd1234.part")  # of a run killed at once
    with begun(tmp_path, {"format": 1}, RoarRequest):
        pass
    assert (tmp_path / "manifest.json").is_file()


def test_another_request_and_broken_files_are_refused(undisturbed, tmp_path):
    out = shutil.copytree(undisturbed, tmp_path / "run")
    assert "its n_trials differs" in " ".join(run(*SMALL, "--trials", 3, "--out", out).stderr.split())
    units, ranks = out / "units", out / "ranks"
    for path in (units / "random 0.7.json", ranks / "gradient_x_input.train.npy"):
        content = path.read_bytes()
        path.write_bytes(b"{}")
        (units / "gradient_x_input 0.3.json").unlink(missing_ok=True)
        result = run(*SMALL, "--out", out)
        assert result.exit_code == 2
        assert path.name in " ".join(result.stderr.split())
        path.write_bytes(content)
    (out / "plain.safetensors").write_bytes(b"broken")
    (units / "none 0.0.json").unlink()
    assert "to train again" in " ".join(run(*SMALL, "--out", out).stderr.split())
