"""The command line from outside: what it writes, prints and answers to wrong requests."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from PIL import Image
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.sources.images import sample_photograph
from networks import SMALL


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_explain_writes_figure_array_and_record(tmp_path, photograph):
    result = run(
        "explain",
        photograph,
        "--methods",
        "dga(n_steps=3), saliency, gradient_x_input",
        "--out",
        tmp_path,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert json.loads((tmp_path / "chelsea.json").read_text()) == record
    assert record["methods"]["dga(n_steps=3)"] == {"n_steps": 3}
    assert list(record["methods"]) == ["dga(n_steps=3)", "saliency", "gradient_x_input"]
    assert record["model"] == "cifar10-cnn"
    assert record["versions"]["distillgrad"] == dg.__version__
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(photograph))[None]
    expected = dg.DGA(loaded.model, n_steps=3).attribute(inputs, record["target"]["class"])[0]
    found = np.load(record["files"]["attributions"]["dga(n_steps=3)"])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    with Image.open(record["files"]["figure"]) as figure:
        assert min(figure.size) > 600
    assert not [each for each in os.listdir(tmp_path) if each.startswith(".")]


def test_explain_and_distill_by_the_faster_model(tmp_path, photograph):
    words = ("--accelerate", "--precision", "bfloat16", "--out", tmp_path, "--json")
    (record,) = json.loads(run("explain", photograph, "--methods", "saliency,gradcam", *words).stdout)
    assert record["precision"] == "bfloat16"
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(photograph))[None]
    fast = dg.accelerate(loaded.model, inputs, precision="bfloat16", channels_last=True)
    for method, model in (("saliency", fast), ("gradcam", loaded.model)):
        expected = dg.create_method(method, model).attribute(inputs, record["target"]["class"])[0]
        np.testing.assert_allclose(np.load(record["files"]["attributions"][method]), expected, atol=1e-6)
    result = run("distill", photograph, "--n-steps", 3, "--columns", 3, *words)
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)
    scores = dg.DGA(fast, n_steps=3).distill(inputs, record["target"]["class"]).scores[:, 0]
    assert record["scores"]["WC + EPC"] == pytest.approx(scores.tolist(), rel=1e-5)


def test_explain_says_where_the_time_went(tmp_path, photograph):
    result = run("explain", photograph, "--methods", "dga(n_steps=3)", "--profile", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[1]: line.split() for line in result.stdout.splitlines() if line.startswith(" dga")}
    assert {"forward", "backward", "selection", "masking", "aggregation", "rest"} == set(rows)
    assert [rows[stage][4] for stage in ("forward", "backward", "masking", "selection")] == [
        "4",
        "4",
        "3",
        "5",
    ]
    seconds = json.loads((tmp_path / "chelsea.json").read_text())["seconds"]["dga(n_steps=3)"]
    assert min(seconds.values()) > 0


def test_demo_explains_the_cat(tmp_path):
    result = run("demo", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "chelsea.png" in result.stdout
    assert (tmp_path / "chelsea.png").is_file()
    record = json.loads((tmp_path / "chelsea.json").read_text())
    assert record["prediction"][0]["name"] == "cat"


def test_distill_writes_strip_and_scores(tmp_path, photograph):
    result = run("distill", photograph, "--target", "dog", "--n-steps", 4, "--columns", 3, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "chelsea.distillation.json").read_text())
    assert record["target"] == {"class": 5, "name": "dog"}
    assert {len(scores) for scores in record["scores"].values()} == {5}
    assert (tmp_path / "chelsea.distillation.png").is_file()


def test_every_method_can_be_asked_for(tmp_path, photograph, few_segments):
    """With few steps, samples or masks: with all, some take seconds."""
    few = {
        name: ",".join(f"{key}={value}" for key, value in SMALL.get(name, {}).items()) for name in dg.METHODS
    }
    labels = [f"{name}({words})" if words else name for name, words in few.items()]
    result = run("explain", photograph, "--methods", ",".join(labels), "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "chelsea.json").read_text())
    assert list(record["methods"]) == list(record["files"]["attributions"]) == labels
    assert all(Path(each).is_file() for each in record["files"]["attributions"].values())


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / folder / "same.png" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        Image.new("RGB", (40, 40), "red").save(path)
    result = run("explain", *paths, "--methods", "saliency", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert {"same-1.json", "same-2.json"} <= set(os.listdir(tmp_path / "out"))


def test_names_are_not_taken_for_markup(tmp_path):
    path = tmp_path / "[bold]cat[red].png"
    path.write_bytes(sample_photograph().read_bytes())
    result = run("explain", path, "--methods", "saliency", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "[bold]cat[red].png: cat" in result.stdout
    missing = run("explain", tmp_path / "[x].png")
    assert (missing.exit_code, "[x].png" in missing.stderr) == (2, True)


def test_methods_and_models_are_listed():
    listed = json.loads(run("methods", "--json").stdout)
    assert [row["method"] for row in listed] == list(dg.METHODS)
    assert "torchvision:NAME" in run("models").stdout
    names = [row["model"] for row in json.loads(run("models", "resnet18", "--json").stdout)]
    assert {"torchvision:resnet18", "timm:resnet18"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "missing.png"], "no such image: missing.png"),
        (["explain", "CAT", "missing.png"], "no such image"),
        (["explain", "CAT", "--methods", "dgaa"], "'dga'"),
        (["explain", "CAT", "--methods", "dga,salience"], "'saliency'"),
        (["explain", "CAT", "--model", "cifar10"], "'cifar10-cnn'"),
        (["explain", "CAT", "--model", "torchvision:resnet81"], "'resnet18'"),
        (["explain", "CAT", "--target", "catt"], "'cat'"),
        (["explain", "CAT", "--target", "10"], "10 classes"),
        (["explain", "CAT", "--methods", "dga(epc_quantile=0)"], "epc_quantile"),
        (["explain", "CAT", "--methods", "stable_dga(epc_quantile=1.5)"], "epc_quantile"),
        (["explain", "CAT", "--methods", "dga(n_steps=0)"], "n_steps"),
        (["distill", "CAT", "--n-steps", "0"], "--n-steps"),
        (["explain", "CAT", "--device", "gpu"], "'cpu'"),
        (["explain", "CAT", "--device", "mps"], "mps"),
        (["explain", "CAT", "--out", "CAT"], "cannot write"),
        (["distill", "missing.png"], "no such image"),
        (["models", "no-such-thing"], "no-such-thing"),
        (["models", "resnt18"], "'resnet18'"),
        (["explain", "."], "name the images in it"),
        (["explain"], "images"),
        (["explian"], "explain"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(tmp_path, photograph, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = run(*[photograph if each == "CAT" else each for each in arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not os.listdir(tmp_path)


def test_failed_work_is_exit_1_and_a_traceback_only_on_demand(tmp_path, photograph, monkeypatch):
    def broken(*arguments, **keywords):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("distillgrad.explanations.explanation.explain", broken)
    arguments = ["explain", photograph, "--out", tmp_path]
    result = run(*arguments)
    assert (result.exit_code, "ZeroDivisionError: a defect" in result.stderr) == (1, True)
    assert isinstance(run(*arguments, "--debug").exception, ZeroDivisionError)


def test_waiting_threads_do_not_spin_long_unless_the_user_says_so():
    script = "import os, distillgrad.cli; print(os.environ.get('GOMP_SPINCOUNT'))"
    unset = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    for given, found in (
        ({}, "5000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ):
        called = [sys.executable, "-c", script]
        assert subprocess.run(
            called, env=unset | given, capture_output=True, text=True, check=True
        ).stdout == (f"{found}\n")


def test_the_module_is_the_command():
    called = [sys.executable, "-m", "distillgrad", "--version"]
    assert subprocess.run(called, capture_output=True, text=True, check=True).stdout == (
        f"distillgrad {dg.__version__}\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_names_that_are_not_utf8(tmp_path, photograph):
    image, output = tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / "said"
    Image.open(photograph).save(tmp_path / "cat.png")
    os.rename(tmp_path / "cat.png", image)
    words = ("explain", image, "--methods", "saliency", "--out", tmp_path / "out")
    for form in ((), ("--json",)):
        output.unlink(missing_ok=True)
        assert processes.finished(processes.MODULE, *words, *form, output=output) == 0, output.read_bytes()
    assert json.loads(output.read_text())[0]["image"] == str(image)
    assert json.loads((tmp_path / "out" / f"{image.stem}.json").read_text())["image"] == str(image)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_whoever_reads_or_waits_may_stop(tmp_path):
    called = [sys.executable, "-m", "distillgrad", "methods", "--json"]
    with subprocess.Popen(called, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        reader.stdout.close()
        assert (reader.stderr.read(), reader.wait()) == (b"", 1)
    # Torch is replaced by what swallows the exception, as compiled code may.
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(1)\n"
        "except KeyboardInterrupt:\n    pass\n"
    )
    # A process that was started in the background may ignore interrupts, as may those that it starts.
    heeding = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    called[1:3] = ["-c", heeding + "runpy.run_module('distillgrad', run_name='__main__')"]
    interrupted = subprocess.run(called, cwd=tmp_path, capture_output=True, check=False)
    assert (interrupted.returncode, interrupted.stdout, interrupted.stderr) == (130, b"", b"")


def test_help_needs_no_torch():
    script = "import sys, distillgrad, distillgrad.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    for command in ("demo", "explain", "distill", "methods", "models"):
        assert "Example: distillgrad" in run(command, "--help").stdout
