"""The documentation's code: every block runs, or says why it cannot; every method and metric has its page."""

import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.sources import models
from distillgrad.sources.images import sample_photograph
from distillgrad.sources.preprocess import ResizeAndCrop
from networks import SMALL

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
REASON = re.compile(r"<!-- not run: .+ -->\s*$")
RECORDS = ROOT / "docs" / "results"
"""Pages that say by which commands, on which data and in how many hours, their numbers were made."""
NO_CODE = {"text", "yaml", "json", "toml", "html", "csv"}
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if RECORDS not in path.parents and path.name != "paper.md" and path.parent.name != "make"
]


def blocks(text):
    """Language and code of each block that is to run; a block that is not must say so."""
    for fence in FENCE.finditer(text):
        indent, language, code = fence.groups()
        if language in NO_CODE or REASON.search(text[: fence.start()]):
            continue
        yield language, re.sub(f"^{indent}", "", code, flags=re.MULTILINE)


def run_page(text, namespace):
    """Runs a page's blocks in order: Python in one namespace, commands in the command line's runner."""
    n_run = 0
    for language, code in blocks(text):
        assert language in ("python", "sh"), f"tag this block, or say why it is not run:\n{code}"
        if language == "python":
            exec(compile(code, "<block>", "exec"), namespace)  # noqa: S102  # what is tested
            n_run += 1
            continue
        for command in code.replace("\\\n", " ").strip().splitlines():
            program, *arguments = shlex.split(command, comments=True)
            assert program == "distillgrad", f"only distillgrad's commands can be run here: {command}"
            assert arguments[0] != "explore", "it serves until it is stopped: say that it is not run"
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{command}\n{result.output}{result.exception}"
            n_run += 1
    return n_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages name: images, class folders, boxes; downloaded weights are random ones."""
    image = Image.open(sample_photograph()).convert("RGB")
    image.save(tmp_path / "cat.jpg")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "dog.jpg")
    for folder in ("cat", "dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        image.resize((90, 60)).save(tmp_path / "photos" / folder / "1.png")
    (tmp_path / "boxes").mkdir()
    image.save(tmp_path / "boxes" / "cat.jpg")
    (tmp_path / "boxes" / "index.csv").write_text("file,class_name,x0,y0,x1,y1\ncat.jpg,cat,100,20,420,280\n")
    load = models.load_model

    @cache
    def small(spec, *, pretrained=True):
        """Networks of other libraries at random, and on small images; the rest as it is."""
        if not spec.startswith(("torchvision:", "timm:")):
            return load(spec, pretrained=pretrained)
        loaded = load(spec, pretrained=False)
        size = ResizeAndCrop(32, 32, loaded.mean, loaded.std)
        return type(loaded)(**{**vars(loaded), "preprocess": size, "input_size": (3, 32, 32)})

    monkeypatch.setattr(models, "load_model", small)
    monkeypatch.setattr(dg, "load_model", small, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "make"))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore")  # of other libraries, on which the pages say nothing
def test_what_a_page_shows_runs(page, place):
    if page.name == "huggingface.md":
        pytest.importorskip("transformers")
    text = page.read_text(encoding="utf-8")
    shown = sum(language in ("python", "sh") for language, _ in blocks(text))
    assert run_page(text, {"__name__": "page"}) >= shown


@pytest.mark.parametrize("name", dg.METHODS)
@pytest.mark.filterwarnings("ignore")
def test_a_method_has_a_page_whose_example_runs(name, place, few_segments):
    import reference_pages

    page = reference_pages.method_page(name)
    method = dg.METHODS[name]
    assert f"| cost per image | {method.cost} |" in page
    assert f"| source | {method.source} |" in page
    assert f"::: {method.__module__}.{method.__qualname__}" in page
    (example,) = (code for language, code in blocks(page) if language == "python")
    made = f'dg.create_method("{name}", loaded.model)'
    assert made in example
    namespace = {"few": SMALL.get(name, {})}  # of its steps, samples or masks: with all, some take long
    exec(example.replace(made, f"{made[:-1]}, **few)"), namespace)  # noqa: S102
    assert torch.isfinite(namespace["attributions"]).all()
    assert f"[`{name}`]({name}.md)" in reference_pages.methods_index()


@pytest.mark.parametrize("name", dg.metrics.METRICS)
def test_a_metric_has_a_page_that_describes_what_computes_it(name, place):
    import reference_pages

    page = reference_pages.metric_page(name)
    metric = dg.metrics.METRICS[name]
    assert f"| better | {metric.better} |" in page
    assert f"| source | {metric.source} |" in page
    described = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    assert described
    for path in described:
        module, _, function = path.rpartition(".")
        assert getattr(sys.modules[module], function).__doc__


def test_a_number_from_the_results_is_the_tables(place, tmp_path):
    import measured

    (tmp_path / "page.md").write_text(
        "# P\n\n## First\n\n| method | lerf ↑ | morf ↓ |\n|---|---|---|\n| dga | 0.5 | 0.1 |\n\n"
        "## Second\n\n| method | lerf ↑ | morf ↓ |\n|---|---|---|\n"
        "| dga | 0.486* [0.4, 0.6] | -0.03 [-1, 1] |\n"
    )
    assert measured.cell(tmp_path, "page.md", "Second", "dga", "lerf") == "0.486"
    assert measured.cell(tmp_path, "page.md", "Second", "dga", "morf") == "-0.03"
    with pytest.raises(LookupError, match="lrp"):
        measured.cell(tmp_path, "page.md", "Second", "lrp", "lerf")


def test_an_unmarked_block_that_cannot_run_is_found():
    assert list(blocks("<!-- not run: needs a network -->\n```sh\ncurl x\n```\n")) == []
    assert list(blocks("```\nls\n```\n")) == [("", "ls\n")]
    with pytest.raises(AssertionError, match="only distillgrad's commands"):
        run_page("```sh\ncurl x\n```\n", {})
    with pytest.raises(AssertionError, match="tag this block"):
        run_page("```\nls\n```\n", {})
    with pytest.raises(AssertionError, match="unknown method"):
        run_page("```sh\ndistillgrad explain cat.jpg --methods salience\n```\n", {})
    with pytest.raises(NameError):
        run_page("```python\nmissing\n```\n", {})


def test_a_whole_table_is_taken_as_it_stands(place, tmp_path):
    import measured

    rows = "| claim | outcome |\n|---|---|\n| best | holds |"
    (tmp_path / "page.md").write_text(f"# P\n\n## Other\n\n| a |\n\n## Claims\n\nWords.\n\n{rows}\n\n| b |\n")
    assert measured.first_table(tmp_path / "page.md", "Claims") == rows
    with pytest.raises(LookupError, match="no table under 'None'"):
        measured.first_table(tmp_path / "page.md", "None")
