"""Exit statuses by command and fault: 1 where the work fails, 2 where the request is wrong."""

import os

import pytest
from typer.testing import CliRunner

from distillgrad.cli import app
from distillgrad.runs.folders import alone_in, folder_at

WRITING = {
    "explain": ["explain", "CAT", "--methods", "saliency"],
    "distill": ["distill", "CAT", "--n-steps", "2"],
    "demo": ["demo"],
    "report": ["report", "CAT", "--methods", "saliency", "--output", "OUT/page.html"],
    "attribute": ["attribute", "DATA", "--methods", "saliency"],
    "evaluate": ["evaluate", "DATA", "--methods", "saliency", "--metrics", "sparseness"],
    "stability": ["stability", "DATA", "--methods", "saliency"],
    "roar": ["roar", "digits", "--methods", "saliency", "--trials", "1", "--epochs", "1"],
    "paper": ["paper", "figure-3"],
}
"""A request of each command that writes files, as small as it can be."""
RUNS = ("attribute", "evaluate", "stability", "roar", "paper")
"""The commands that work on a folder for long, where a second start would meet the first."""


@pytest.fixture
def request_of(tmp_path, photograph):
    (tmp_path / "data").mkdir()
    os.symlink(photograph, tmp_path / "data" / "cat.png")

    def words(name):
        known = {
            "CAT": str(photograph),
            "DATA": str(tmp_path / "data"),
            "OUT/page.html": str(tmp_path / "out.html"),
        }
        out = [] if "--output" in WRITING[name] else ["--out", str(tmp_path / "out")]
        return [*(known.get(each, each) for each in WRITING[name]), *out]

    return words


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_failed_work(name, request_of, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distillgrad.runs.files.os.fsync", full)
    result = CliRunner().invoke(app, request_of(name))
    assert result.exit_code == 1, result.output
    assert "cannot write" in result.stderr
    assert "No space left" in " ".join(result.stderr.split())
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", RUNS)
def test_a_second_start_in_a_folder_is_a_wrong_request(name, request_of, tmp_path):
    with alone_in(folder_at(tmp_path / "out")):
        result = CliRunner().invoke(app, request_of(name))
    assert result.exit_code == 2, result.output
    assert "another process is at work" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory has run out; take fewer images at a time"),
        (OSError(24, "Too many open files"), "raise the limit: ulimit -n"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero; --debug shows where"),
    ],
)
def test_what_the_machine_lacks_is_said_in_words(error, words, request_of, monkeypatch):
    def failing(*_arguments, **_named):
        raise error

    monkeypatch.setattr("distillgrad.sources.images.read_image", failing)
    monkeypatch.setattr("distillgrad.cli.explain.load", failing)
    result = CliRunner().invoke(app, request_of("explain"))
    assert result.exit_code == 1
    assert words in " ".join(result.stderr.split())
