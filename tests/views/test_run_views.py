"""Runs of attributions looked at, as a report and in the browser, and the order of their images."""

import dataclasses
import gc
import json
import math
import shutil

import numpy as np
import pytest
import torch
from pages import chromium, fits_a_phone, invalid, serious_issues
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.explanations.disagreement import disagreement
from distillgrad.views.opened_runs.run_images import COMPARED, disagreements, in_order
from distillgrad.views.opened_runs.run_view import run_view

pytest.importorskip("zarr", reason="zarr is not installed")
METHODS = "saliency,dga(n_steps=2),gradcam"


def command(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def attributions(tmp_path_factory):
    """Of six images in two class folders and a broken one."""
    folder = tmp_path_factory.mktemp("attributed")
    names = [f"{'cat' if index % 2 else 'frog'}/{index}.png" for index in range(6)]
    noise_images(folder / "images", names, (32, 40))
    (folder / "images" / "cat" / "broken.png").write_bytes(b"no image")
    return made("attribute", folder / "images", "--methods", METHODS, out=folder / "run")


@pytest.fixture
def copy(attributions, tmp_path):
    return shutil.copytree(attributions, tmp_path / "copy")


@pytest.fixture(scope="module")
def page(attributions):
    out = attributions.parent / "run.html"
    result = command("report", attributions, "-o", out)
    assert result.exit_code == 0, result.stderr
    return out


def test_a_report_shows_what_was_explained_and_what_failed(page, attributions):
    words = page.read_text()
    opened = dg.open_run(attributions)
    assert words.count('<article class="sample"') == 6
    assert words.count('alt="map by ') == 6 * 3
    assert "6 of 7 images explained, 1 failed" in words
    assert "<h2>What failed</h2>" in words
    assert "cat/broken.png" in words
    for place in np.flatnonzero(opened.explained):
        seen = f"{opened.classes[opened.predicted[place]]} ({opened.probabilities[place]:.1%})"
        assert f"seen as {seen}" in words
    for fact in ("n_steps=2", opened.manifest["model"]["weights"], opened.manifest["versions"]["torch"]):
        assert fact in words


def test_the_maps_are_the_runs_own(attributions):
    view, opened = run_view(attributions), dg.open_run(attributions)
    for sample in view.samples:
        for label, (values, _) in view.maps(sample).items():
            np.testing.assert_array_equal(values.numpy(), opened.attribution(label, sample.id))
        image = view.explainable.image(sample)
        picture = view.explainable.seen(image)
        expected = dg.load_model("cifar10-cnn")
        inputs = expected.preprocess(image)
        np.testing.assert_allclose(picture.permute(2, 0, 1), expected.displayable(inputs), atol=1e-6)


def test_the_report_is_valid_and_accessible_and_its_images_grow(page):
    assert invalid(page) == ""
    with chromium() as browser:
        opened = browser.new_context(offline=True).new_page()
        opened.goto(page.as_uri())
        assert serious_issues(opened) == []
        card = opened.locator(".sample").first
        before = card.locator("img").first.bounding_box()["width"]
        card.locator(".enlarge").first.press("Enter")
        assert card.locator("img").first.bounding_box()["width"] > before
        assert serious_issues(opened) == []
        assert fits_a_phone(opened)


def test_disagreement_is_one_less_the_mean_rank_correlation_of_pixels():
    first = torch.arange(9.0).reshape(1, 3, 3)
    maps = {"a": first, "b": 5 * first + 1, "c": -first}
    assert disagreement({name: maps[name] for name in "ab"}) == pytest.approx(0)
    assert disagreement({name: maps[name] for name in "ac"}) == pytest.approx(2)
    assert disagreement(maps) == pytest.approx(1 - (1 - 1 - 1) / 3)
    # Channels are summed: here they cancel but for the order of the first map.
    spread = torch.cat([first * 3, -first, -first])
    assert disagreement({"a": first, "d": spread}) == pytest.approx(0)
    assert math.isnan(disagreement({"a": first}))
    assert math.isnan(disagreement({"a": first, "e": torch.zeros(1, 3, 3)}))
    assert math.isnan(disagreement({"a": first, "f": torch.zeros(1, 2, 2)}))


def test_images_are_ordered_by_the_disagreement_of_their_maps(attributions):
    scipy = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    view, opened = run_view(attributions), dg.open_run(attributions)
    expected = {}
    for sample in view.samples:
        maps = [
            each[sample.position].astype(np.float64).sum(0).ravel() for each in opened.attributions.values()
        ]
        correlations = scipy.spearmanr(np.stack(maps, 1)).statistic
        expected[sample.position] = 1 - correlations[np.triu_indices(3, 1)].mean()
    values = disagreements(view)
    assert values == pytest.approx(expected, abs=1e-9)
    order = [each.position for each in in_order(view, "disagreement", values)]
    assert order == sorted(expected, key=expected.get, reverse=True)
    wrong = [each.wrong for each in in_order(view, "wrong", {})]
    assert wrong == sorted(wrong, reverse=True)
    assert any(wrong)


def test_only_so_many_images_are_compared_and_the_others_follow(attributions):
    view = run_view(attributions)
    read = []
    many = tuple(dataclasses.replace(view.samples[0], position=each) for each in range(COMPARED + 5))
    view = dataclasses.replace(view, samples=many, maps=lambda sample: read.append(sample.position) or {})
    values = disagreements(view, {0: 0.5})
    assert read == list(range(1, COMPARED))
    assert [each.position for each in in_order(view, "disagreement", values)] == list(range(COMPARED + 5))


def test_without_its_images_or_model_a_run_shows_its_maps(copy, attributions, tmp_path):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["data"]["from"] = str(tmp_path / "gone")
    manifest["model"]["from"] = "trap:factory"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "complete.json").unlink()  # which vouches for the manifest
    (tmp_path / "trap.py").write_text("raise SystemExit('code was run')")
    result = command("report", copy, "-o", tmp_path / "out.html")
    assert result.exit_code == 0, result.stderr
    words = (tmp_path / "out.html").read_text()
    assert words.count('alt="map by ') == 6 * 3
    assert "The pictures are not shown" in words
    assert "seen as" in words


def test_another_image_of_the_same_name_is_not_shown(attributions, copy, tmp_path):
    view = run_view(copy)
    assert view.explainable.image(view.samples[0]) is not None
    changed = dataclasses.replace(view.samples[0], pixels="0" * 32)
    assert view.explainable.image(changed) is None


def test_a_torn_map_is_said_on_its_card(copy, tmp_path):
    for path in (copy / "attributions.zarr" / "saliency").glob("c.*"):
        path.write_bytes(path.read_bytes()[:40])
    result = command("report", copy, "-o", tmp_path / "out.html")
    assert result.exit_code == 0, result.stderr
    assert "cannot be read" in (tmp_path / "out.html").read_text()


@pytest.mark.filterwarnings("ignore")  # gradio's and starlette's own, of each other
def test_the_explorer_shows_a_run_in_order_and_each_image_large(attributions):
    pytest.importorskip("gradio", reason="gradio is not installed")
    from distillgrad.views.explorer.server import launched

    view = run_view(attributions)
    values = disagreements(view)
    with launched(attributions, (), "127.0.0.1", 0) as (url, _), chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.goto(url)
        assert "6 of 7 images explained, 1 failed" in page.locator("#leaderboard").inner_text()
        assert "cat/broken.png" in page.locator("#made").inner_text()
        page.locator("#show-images").click()
        page.locator("#gallery .sample").nth(5).wait_for()
        positions = page.locator("#gallery .sample").evaluate_all(
            "all => all.map(each => Number(each.dataset.position))"
        )
        assert positions == [each.position for each in in_order(view, "disagreement", values)]
        page.locator("#order input").click()
        page.get_by_role("option", name="where the model is wrong first").click()
        page.locator(
            f"#gallery .sample:first-child[data-position='{in_order(view, 'wrong', {})[0].position}']"
        ).wait_for()
        card = page.locator("#gallery .sample").nth(2)
        name = card.locator("header strong").inner_text()
        card.locator(".enlarge").press("Enter")
        page.locator("#large h2", has_text=name).wait_for()
        assert page.locator("#large .card figcaption").all_inner_texts() == [
            "saliency",
            "dga(n_steps=2)",
            "gradcam",
        ]
        page.locator("#large input[data-slides=overlay]").fill("30")
        assert page.locator("#large .slides output").inner_text() == "30 %"
        assert serious_issues(page) == []
    gc.collect()  # the server's event loop complains when it goes: here, where that is expected


def _manifest(folder, **changes):
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))


def _unfinished(folder):
    (folder / "complete.json").unlink()
    for path in (folder / "shards").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: _manifest(folder, kind="paper"), "a run of another kind, 'paper'"),
        (lambda folder: _manifest(folder, format=99), "newer distillgrad (format 99"),
        (lambda folder: _manifest(folder, methods=["dga"]), "is broken"),
        (lambda folder: _manifest(folder, model="cifar10-cnn"), "is broken"),
        (lambda folder: _manifest(folder, data=None), "is broken"),
        (lambda folder: shutil.rmtree(folder / "attributions.zarr"), "zarr.json is missing"),
        (lambda folder: (folder / "entries.parquet").write_bytes(b"PAR1"), "entries.parquet is broken"),
        (_unfinished, "has explained no image yet"),
    ],
)
def test_a_foreign_partial_or_newer_run_is_named(copy, tmp_path, change, words):
    change(copy)
    result = command("report", copy, "-o", tmp_path / "out.html")
    assert (result.exit_code, words in result.stderr, "Traceback" in result.stderr) == (2, True, False), (
        result.stderr
    )
    assert not (tmp_path / "out.html").exists()


def test_an_unfinished_run_shows_what_there_is(copy, tmp_path):
    (copy / "complete.json").unlink()
    result = command("report", copy, "-o", tmp_path / "out.html", "--images", 1)
    assert result.exit_code == 0, result.stderr
    words = (tmp_path / "out.html").read_text()
    assert "the run is not finished" in words
    assert words.count('<article class="sample"') == 1


def test_an_order_that_the_run_does_not_have_is_named(attributions, tmp_path):
    result = command("report", attributions, "-o", tmp_path / "out.html", "--order", "faithfulness")
    assert (result.exit_code, "unknown order 'faithfulness'" in result.stderr) == (2, True)
