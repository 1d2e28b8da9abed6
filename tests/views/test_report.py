"""The report as somebody gets it: one file, opened from disk, without network."""

import dataclasses
import json
import re

import numpy as np
import pytest
from pages import chromium, fits_a_phone, invalid, serious_issues
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Of a hundred small images in two class folders, so that the model is sometimes wrong."""
    folder = tmp_path_factory.mktemp("evaluated")
    names = [f"{'cat' if index % 2 else 'frog'}/{index}.png" for index in range(100)]
    noise_images(folder / "images", names, (32, 32))
    words = ("--methods", "dga(n_steps=2),saliency,random", "--n-steps", 3, "--batch-size", 50)
    return made("evaluate", folder / "images", *words, out=folder / "run")


@pytest.fixture(scope="module")
def run_page(evaluation):
    out = evaluation.parent / "run.html"
    result = run("report", evaluation, "-o", out, "--images", 100)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def short_run_page(evaluation):
    """The same page of few images: each more is like these."""
    out = evaluation.parent / "short.html"
    assert run("report", evaluation, "-o", out, "--images", 4).exit_code == 0
    return out


@pytest.fixture(scope="module")
def image_page(tmp_path_factory):
    from distillgrad.sources.images import sample_photograph

    out = tmp_path_factory.mktemp("page") / "image.html"
    result = run("report", sample_photograph(), "-o", out, "--methods", "dga(n_steps=4),saliency")
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def test_a_hundred_images_fit_into_five_megabytes_with_every_map(run_page):
    page = run_page.read_text()
    assert run_page.stat().st_size < 5e6
    assert page.count('<article class="sample"') == 100
    assert page.count('alt="map by ') == 300
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)


def test_large_pictures_are_made_smaller_until_they_fit():
    from distillgrad.views.html.encoded_pictures import data_uri

    noise = np.random.default_rng(0).random((224, 224, 3))
    assert len(data_uri(noise)) > 20_000
    assert len(data_uri(noise, at_most=6000)) <= 6000


def test_the_leaderboard_is_the_runs_own(run_page, evaluation):
    board = json.loads((evaluation / "leaderboard.json").read_text())
    page = run_page.read_text()
    for metric, content in board["metrics"].items():
        assert metric in page
        for values in content["methods"].values():
            assert f"{values['mean']:.3f}" in page


@pytest.mark.parametrize("page", ["run_page", "image_page"])
def test_a_report_is_valid(page, request):
    assert invalid(request.getfixturevalue(page)) == ""


@pytest.mark.parametrize("page", ["short_run_page", "image_page"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_is_accessible(page, scheme, request, browser):
    opened = browser.new_context(color_scheme=scheme).new_page()
    opened.goto(request.getfixturevalue(page).as_uri())
    assert serious_issues(opened) == []


@pytest.mark.parametrize("page", ["run_page", "image_page"])
def test_a_report_opens_without_network(page, request, browser):
    path = request.getfixturevalue(page)
    for scheme in ("light", "dark"):
        opened = browser.new_context(offline=True, color_scheme=scheme).new_page()
        said = []
        opened.on("console", lambda message: said.append(message.text))  # noqa: B023
        opened.on("pageerror", lambda error: said.append(str(error)))  # noqa: B023
        opened.goto(path.as_uri())
        assert opened.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
        assert said == []


def test_no_script_but_its_own_runs_in_a_report(image_page, browser):
    opened = browser.new_page()
    opened.goto(image_page.as_uri())
    assert opened.locator(".dg-js").count() > 0  # its own has
    opened.evaluate("""() => {
        document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.ran = 1">');
        const script = Object.assign(document.createElement("script"), { textContent: "window.ran = 2" });
        document.body.append(script);
    }""")
    opened.wait_for_timeout(100)
    assert opened.evaluate("window.ran") is None


PAPER = {"width": 688, "height": 1017}  # A4 within the page's margins, in CSS pixels


@pytest.mark.parametrize("page", ["run_page", "image_page"])
def test_a_report_fits_phone_and_paper_on_which_nothing_is_dark_or_to_be_pressed(page, request, browser):
    opened = browser.new_context(color_scheme="dark", viewport=PAPER).new_page()
    opened.goto(request.getfixturevalue(page).as_uri())
    assert fits_a_phone(opened)
    opened.set_viewport_size(PAPER)
    opened.emulate_media(media="print")
    style = "each => [getComputedStyle(each).backgroundColor, getComputedStyle(each).color]"
    ground = opened.locator("html").evaluate(style)[0]
    assert (ground, opened.locator("h1").evaluate(style)[1]) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    cut = "each => each.filter(one => one.scrollWidth > one.clientWidth).map(one => one.outerHTML)"
    assert opened.locator("html, .wide, pre, .frames, figcaption").evaluate_all(cut) == []
    assert opened.locator("input:visible, select:visible, .copy:visible, output:visible").count() == 0
    assert opened.locator(".frame:visible").count() == opened.locator(".frame.printed").count()


def test_the_report_moves(run_page, image_page, browser):
    page = browser.new_page()
    page.goto(image_page.as_uri())
    page.locator("input[data-slides=sequence]").fill("3")
    assert page.locator(".frame.on").count() == 1
    assert page.locator(".frame.on figcaption").inner_text().startswith("n = 3")
    page.locator("input[data-slides=overlay]").fill("20")
    assert page.locator(".over").first.evaluate("each => getComputedStyle(each).opacity") != "0.85"
    page.goto(run_page.as_uri())
    page.get_by_role("button", name="morf").click()
    column = page.locator("tbody td:nth-child(3)").evaluate_all(
        "all => all.map(each => Number(each.dataset.value))"
    )
    assert column == sorted(column, reverse=True)
    page.locator("select").select_option("wrong:down")
    tags = page.locator(".sample .tag").all_inner_texts()
    assert [each.split(":")[0] for each in tags] == sorted(
        (each.split(":")[0] for each in tags), reverse=True
    )


def test_without_scripts_every_anchor_is_there(image_page, browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(image_page.as_uri())
    assert page.locator(".frame:visible").count() == 5
    assert not page.locator(".scripted:visible").count()


def test_the_shown_python_and_command_give_the_librarys_arrays(photograph, tmp_path, monkeypatch):
    import shlex

    from distillgrad.explanations.explanation import explain
    from distillgrad.views.recipe import command_for, python_for

    monkeypatch.chdir(tmp_path)
    name = "a cat's [picture] $(x).png"
    (tmp_path / name).write_bytes(photograph.read_bytes())
    loaded = dg.load_model("cifar10-cnn")
    parameters = {"n_steps": 3, "epc_quantile": 0.8, "negative_scale": 0.5}
    methods = {"dga": ("dga", parameters), "smoothgrad": ("smoothgrad", {})}
    made = explain(loaded, dg.read_image(name), methods, target=3, versus=5)
    space = {}
    exec(python_for(made, name, "cifar10-cnn"), space)  # noqa: S102
    result = run(*shlex.split(command_for(made, name, "cifar10-cnn"))[1:], "--json")
    assert result.exit_code == 0, result.stderr
    files = json.loads(result.stdout)[0]["files"]["attributions"]
    assert list(files) == ["dga(n_steps=3,epc_quantile=0.8,negative_scale=0.5)", "smoothgrad"]
    for (label, expected), path in zip(made.attributions.items(), files.values(), strict=True):
        np.testing.assert_array_equal(space["maps"][label][0].numpy(), expected.numpy())
        np.testing.assert_array_equal(np.load(path), expected.numpy())
    logits = loaded.model(space["inputs"])
    own = dg.DGA(loaded.model, **parameters).attribute(space["inputs"], lambda each: each[:, 3] - each[:, 5])
    assert logits.shape == (1, 10)
    np.testing.assert_array_equal(own[0].numpy(), made.attributions["dga"].numpy())


def test_a_file_name_is_never_taken_for_html(photograph, tmp_path):
    image = tmp_path / '<img src=x onerror=alert(1)>"{{7}}.png'
    image.write_bytes(photograph.read_bytes())
    out = tmp_path / "out.html"
    result = run("report", image, "-o", out, "--methods", "saliency")
    assert result.exit_code == 0, result.stderr
    assert "onerror=alert(1)" in out.read_text()
    assert "<img src=x" not in out.read_text()


@pytest.fixture(scope="module")
def between_two():
    """Why a cat and not a dog."""
    from distillgrad.explanations.explanation import explain
    from distillgrad.sources.images import sample_photograph

    image = dg.read_image(sample_photograph())
    return explain(dg.load_model("cifar10-cnn"), image, {"saliency": ("saliency", {})}, target=3, versus=5)


def test_names_do_not_become_options_or_lines_of_code(between_two):
    from distillgrad.views.recipe import command_for, python_for

    assert command_for(between_two, "-x.png", "cifar10-cnn").startswith("distillgrad explain ./-x.png ")
    assert command_for(between_two, "x.png", "cifar10-cnn").startswith("distillgrad explain x.png ")
    assert command_for(between_two, "x.png", "it", (0, 4095.0)).endswith(" --value-range 0,4095")
    assert "dg.read_image('x.png', value_range=(0, 4095))" in python_for(
        between_two, "x.png", "it", value_range=(0, 4095)
    )
    named = dataclasses.replace(between_two, target_name="cat\nraise SystemExit", versus_name="dog\r1/0")
    assert "# cat raise SystemExit rather than dog 1/0\n" in python_for(named, None, "cifar10-cnn")


def test_explain_records_and_measures_what_decides_between_two_classes(photograph, tmp_path):
    arguments = ("explain", photograph, "--methods", "saliency", "--target", 3, "--out", tmp_path, "--json")
    result = run(*arguments, "--versus", "dog", "--stability")
    assert result.exit_code == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert record["versus"] == {"class": 5, "name": "dog"}
    loaded = dg.load_model("cifar10-cnn")
    expected = dg.metrics.stability(
        loaded.model,
        lambda model: dg.create_method("saliency", model).attribute,
        loaded.preprocess(dg.read_image(photograph))[None],
        lambda logits: logits[:, 3] - logits[:, 5],
    )
    measured = record["stability"]["saliency"]["spearman"]
    assert list(measured.values()) == pytest.approx(expected.spearman[0].tolist(), abs=1e-6)
    assert json.loads(run(*arguments).stdout)[0]["versus"] is None


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("--target", "cat", "--versus", "cat"), "cat is the explained class itself"),
        (("--target", "cat", "--versus", "3"), "--versus 3 is cat, the explained class itself"),
        (("--versus", "cat"), "cat cannot be explained against itself"),  # as is known when it is predicted
    ],
)
def test_a_class_is_not_explained_against_itself(photograph, tmp_path, classes, words):
    result = run("explain", photograph, "--methods", "saliency", *classes, "--out", tmp_path / "out")
    assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_curves_values_are_read_where_they_lie(browser):
    from distillgrad.views.html.page import document
    from distillgrad.views.html.vector_curves import chart

    drawn = chart("broken", "n", "score", [0, 1, 2, 3], {"dga": [0.5, float("nan"), 0.25, 0.125]})
    across = [float(each) for each in re.search('data-across="([^"]*)"', drawn)[1].split()]
    points = re.search('polyline points="([^"]*)"', drawn)[1].split()
    assert [float(each.split(",")[0]) for each in points] == [across[0], *across[2:]]
    page = browser.new_page()
    page.set_content(document("broken", drawn))
    page.locator("svg").focus()
    for expected in ("1: dga: nan", "2: dga: 0.25", "3: dga: 0.125", "3: dga: 0.125"):
        page.keyboard.press("ArrowRight")
        assert page.locator("output").inner_text() == f"n {expected}"
    assert float(page.locator(".at").get_attribute("x1")) == across[3]


def test_a_chart_of_a_single_place_has_one_tick():
    from distillgrad.views.html.vector_curves import chart

    assert chart("one", "n", "score", [2], {"dga": [1.0]}).count('text-anchor="middle">2<') == 1


def test_what_is_no_utf_8_is_shown_as_a_question_mark():
    from distillgrad.views.html.page import document, text

    assert text("caf\udce9<b>") == "caf?&lt;b&gt;"
    assert document("caf\udce9", "").encode()


def test_classes_that_the_model_lacks_are_numbered():
    from distillgrad.views.opened_runs.run_images import Explainable

    explainable = Explainable(None, dg.load_model("cifar10-cnn"))
    assert [explainable.class_name(each) for each in (3, 10, -1, None)] == [
        "cat",
        "class 10",
        "class -1",
        "unknown",
    ]


def _without_values(folder):
    for each in (folder / "parts").iterdir():
        each.write_text(json.dumps({**json.loads(each.read_text()), "values": {}}))


def _manifest(folder, **changes):
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "holds no run"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "holds no evaluation"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot read"),
        (lambda folder: _manifest(folder, format=99), "format 99"),
        (lambda folder: [each.unlink() for each in (folder / "parts").iterdir()], "no finished part"),
        (lambda folder: [each.write_text("{}") for each in (folder / "parts").iterdir()], "another layout"),
        (lambda folder: _manifest(folder, data="here"), "copy holds a manifest in another layout: data"),
        (lambda folder: _manifest(folder, data={"from": "here"}), "another layout: data"),
        (lambda folder: _manifest(folder, methods=["dga"]), "another layout: methods"),
        (lambda folder: _manifest(folder, methods={"dga": "dga"}), "another layout: methods"),
        (lambda folder: _manifest(folder, metrics=3, protocol=[]), "another layout: metrics, protocol"),
        (_without_values, "copy holds no values"),
    ],
)
def test_a_foreign_partial_or_newer_run_is_named(evaluation, tmp_path, change, words):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(evaluation, folder)
    change(folder)
    result = run("report", folder, "-o", tmp_path / "out.html")
    assert (result.exit_code, words in result.stderr, "Traceback" in result.stderr) == (2, True, False)
    assert not (tmp_path / "out.html").exists()


def test_a_runs_folder_cannot_name_code(evaluation, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(evaluation, folder)
    (tmp_path / "trap.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    _manifest(folder, model="trap:factory")
    result = run("report", folder, "-o", tmp_path / "out.html")
    assert result.exit_code == 0, result.stderr
    assert "Maps are not shown" in (tmp_path / "out.html").read_text()


def test_other_weights_draw_no_maps(evaluation, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(evaluation, folder)
    _manifest(folder, weights="0" * 64)
    assert run("report", folder, "-o", tmp_path / "out.html").exit_code == 0
    assert "other weights" in (tmp_path / "out.html").read_text()
