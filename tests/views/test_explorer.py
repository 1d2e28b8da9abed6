"""The explorer's page, driven as a visitor does; and what visitors must not be able to do."""

import gc
import io
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from pages import chromium, fits_a_phone, serious_issues
from PIL import Image
from small_runs import made, noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.errors import DistillgradError, InputError, UnknownNameError
from distillgrad.views.explorer.models import Models
from distillgrad.views.explorer.session import checked_settings, explain_picture
from distillgrad.views.explorer.uploads import picture_of

pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = [pytest.mark.filterwarnings("ignore")]  # gradio's and starlette's own, of each other


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    names = [f"{name}/{index}.png" for index, name in enumerate(("cat", "dog", "frog"))]
    noise_images(folder / "images", names, (32, 32))
    words = ("--methods", "saliency,random", "--n-steps", 3)
    return made("evaluate", folder / "images", *words, out=folder / "run")


@pytest.fixture(scope="module")
def server(run):
    """The server's address; nothing in this process may ask another machine for anything."""
    from distillgrad.views.explorer.server import launched

    hosts, connect, look_up = set(), socket.socket.connect, socket.getaddrinfo

    def noted_connect(self, address):
        hosts.add(address[0] if isinstance(address, tuple) else "this machine")
        return connect(self, address)

    def noted_look_up(host, *arguments, **options):
        hosts.add(host)
        return look_up(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket.socket, "connect", noted_connect)
        patched.setattr(socket, "getaddrinfo", noted_look_up)
        with launched(run, (), "127.0.0.1", 0, token=False) as (url, _):
            yield url.rstrip("/")
    assert "127.0.0.1" in hosts
    assert hosts <= {"127.0.0.1", "localhost", "::1", "this machine", None}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser, server):
    """The tab for images, in a context of its own; it asks only the server, and may all that it tries."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    opened, outside = context.new_page(), []
    opened.on(
        "request",
        lambda each: None if each.url.startswith((server, "data:", "blob:")) else outside.append(each.url),
    )
    opened.on(
        "console",
        lambda each: outside.append(each.text) if "Content Security Policy" in each.text else None,
    )
    opened.set_default_timeout(90_000)
    opened.goto(server)
    opened.get_by_role("tab", name="Explain an image").click()
    yield opened
    assert outside == []
    context.close()


def upload(page, path):
    page.locator("#upload input[type=file]").set_input_files(path)


def test_upload_explain_slide_compare_and_download(page, photograph, tmp_path):
    upload(page, photograph)
    page.locator("#maps .card").nth(2).wait_for()
    assert page.locator("#maps figcaption").all_inner_texts()[1:] == ["uniform_fullgrad", "gradient_x_input"]
    assert page.locator("#prediction .explained").inner_text().startswith("cat")
    page.locator("#maps input[data-slides=overlay]").fill("30")
    assert page.locator("#maps .slides output").inner_text() == "30 %"
    page.get_by_label("the map alone").check()
    assert page.locator("#maps .map").first.evaluate("each => getComputedStyle(each).visibility") == "visible"

    page.get_by_role("tab", name="How DGA got there").click()
    page.locator("#distil").click()
    page.locator("#sequence .frame.on").wait_for()
    page.locator("#sequence input").fill("7")
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(photograph))[None]
    score = dg.DGA(loaded.model).distill(inputs, 3).scores[7, 0].item()
    assert page.locator("#sequence .frame.on figcaption").inner_text() == f"n = 7: logit of cat {score:.2f}"

    page.get_by_role("tab", name="Whether to believe it").click()
    page.locator("#measure").click()
    page.locator("#curves table").wait_for()
    expected = dg.DGA(loaded.model).attribute(inputs, 3)
    curves = dg.metrics.morf_and_lerf(loaded.model, inputs, 3, expected, n_steps=20)
    assert page.locator("#curves tbody td").first.inner_text() == f"{curves.lerf.auc.item():.3f}"

    page.get_by_role("tab", name="Take it with you").click()
    page.locator("#pack").click()
    link = page.locator("#downloads a", has_text=".npy").or_(page.locator("#downloads a[href$='.npy']")).first
    with page.expect_download() as download:
        link.click()
    np.testing.assert_array_equal(np.load(download.value.path()), expected[0].numpy())
    space = {}
    code = page.locator("#live-python").inner_text().replace("'chelsea.png'", repr(str(photograph)))
    exec(code, space)  # noqa: S102
    np.testing.assert_array_equal(space["maps"]["dga"].numpy(), expected.numpy())


def test_the_page_of_an_explained_picture_is_accessible(page):
    page.locator("#example").click()
    page.locator("#maps .card").first.wait_for()
    page.get_by_role("tab", name="Take it with you").click()
    assert serious_issues(page) == []
    page.get_by_role("tab", name="Maps").click()
    assert serious_issues(page) == []


def test_a_run_is_opened(page, run):
    page.get_by_role("tab", name=f"Run: {run.name}").click()
    assert "saliency" in page.locator("#leaderboard table").inner_text()
    page.locator("#show-images").click()
    page.locator("#gallery .sample").nth(2).wait_for()
    assert page.locator("#gallery img").count() == 3 * 3


def test_the_page_of_a_run_is_accessible(page, run):
    page.get_by_role("tab", name=f"Run: {run.name}").click()
    page.locator("#show-images").click()
    page.locator("#gallery .sample").nth(2).wait_for()
    assert serious_issues(page) == []
    assert fits_a_phone(page)
    assert serious_issues(page) == []


def contents_that_are_no_pictures():
    """Yield names, contents and what is said of them."""
    cut, bomb = io.BytesIO(), io.BytesIO()
    Image.effect_noise((300, 300), 90).save(cut, "JPEG")
    Image.new("1", (8000, 7000)).save(bomb, "PNG")
    yield "notes.png", b"no image at all", "not an image"
    yield "cut.jpg", cut.getvalue()[:9000], "broken or truncated"
    yield "bomb.png", bomb.getvalue(), "pixels; at most 50,000,000"
    yield "<img src=x onerror=alert(1)>.png", b"{{7*7}} ${1}", "not an image"


def test_what_cannot_be_explained_is_said_on_the_page(page, tmp_path):
    alert = page.locator("#maps [role=alert]")
    for name, content, words in contents_that_are_no_pictures():
        (tmp_path / name).write_bytes(content)
        upload(page, tmp_path / name)
        alert.wait_for()
        assert words in alert.inner_text()
        assert tempfile.gettempdir() not in alert.inner_text()
        page.locator("#example").click()
        page.locator("#maps .card").first.wait_for()
        alert.wait_for(state="detached")


def test_too_large_a_file_is_refused(page, tmp_path, server):
    path = tmp_path / "large.png"
    path.write_bytes(os.urandom(21 * 2**20))
    upload(page, path)
    page.get_by_text("maximum allowed size").or_(page.get_by_text("exceed")).first.wait_for()
    with urllib.request.urlopen(server) as answer:  # noqa: S310
        assert answer.status == 200


@pytest.mark.parametrize(
    "name",
    [
        "os:getcwd",
        "torchvision:resnet18@/etc/passwd",
        "hf:some/model",
        "trap:factory",
        "/etc/passwd",
        "",
        "timm:../x",
    ],
)
def test_a_name_typed_in_the_page_never_loads_code_or_files(name, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DistillgradError):
        Models().load(name)


def test_a_path_in_an_uploads_name_leads_nowhere(server, photograph):
    name, edge = "../../../../escaped.png", "edge-of-a-part"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    content = head.encode() + photograph.read_bytes() + f"\r\n--{edge}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310
        f"{server}/gradio_api/upload", content, {"Content-Type": f"multipart/form-data; boundary={edge}"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        (path,) = map(Path, json.load(answer))
    assert path.name == "escaped.png"
    assert path.resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve())
    assert picture_of(str(path)).name == "escaped.png"


def test_visitors_see_only_their_own(page, browser, server, tmp_path):
    page.locator("#example").click()
    page.locator("#maps .card").first.wait_for()
    other = browser.new_context().new_page()
    other.set_default_timeout(90_000)
    other.goto(server)
    other.get_by_role("tab", name="Explain an image").click()
    assert "Drop a picture" in other.locator("#maps").inner_text()
    Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / "noise.png")
    upload(other, tmp_path / "noise.png")
    other.locator("#maps .card").first.wait_for()
    for visitor, named in ((page, "sample_photograph()"), (other, "'noise.png'")):
        visitor.get_by_role("tab", name="Take it with you").click()
        assert named in visitor.locator("#live-python").inner_text()
    other.context.close()


def test_a_wrong_model_is_said_on_the_page(page):
    page.locator("#example").click()
    page.locator("#maps .card").first.wait_for()
    page.locator("#model input").fill("os:getcwd")
    page.locator("#model input").press("Enter")
    page.locator("#model input").press("Tab")
    page.locator("#maps [role=alert]").wait_for()
    assert "unknown model on this page" in page.locator("#maps [role=alert]").inner_text()


def test_a_failed_request_leaves_nothing_of_the_picture_before(page, tmp_path):
    page.locator("#example").click()
    page.locator("#maps .card").first.wait_for()
    page.get_by_role("tab", name="Take it with you").click()
    page.locator("#pack").click()
    page.locator("#downloads a").first.wait_for()
    (tmp_path / "none.png").write_bytes(b"no image")
    upload(page, tmp_path / "none.png")
    page.locator("#downloads a").first.wait_for(state="detached")
    assert page.locator("#recipe").inner_text() == "Explain a picture first."
    assert page.locator("#prediction").inner_text().strip() == ""
    page.locator("#pack").click()
    page.locator("#pack-message [role=alert]").wait_for()
    page.get_by_role("tab", name="Maps").click()
    assert "not an image" in page.locator("#maps [role=alert]").inner_text()


def test_two_classes_are_compared_map_by_map(page, photograph):
    page.locator("#example").click()
    page.locator("#maps .card").first.wait_for()
    page.locator("#versus input").fill("5: dog")
    page.locator("#versus input").press("Enter")
    page.locator("#explain").click()
    page.get_by_role("heading", name="Why cat and not dog?").wait_for()
    assert page.locator("#maps h3").count() == 3  # the methods
    titles = page.locator("#maps .cards").first.locator("figcaption").all_inner_texts()
    assert [each.split("\n")[0] for each in titles] == ["cat", "dog", "cat less dog", "cat rather than dog"]
    assert page.locator("#maps .scale").count() == 3  # one for a method's four maps

    page.get_by_role("tab", name="How DGA got there").click()
    page.locator("#distil").click()
    page.locator("#sequence .frame.on").wait_for()
    caption = page.locator("#sequence .frame.on figcaption").inner_text()
    assert caption.startswith("n = 0: logit of cat minus that of dog ")

    page.get_by_role("tab", name="Take it with you").click()
    space = {}
    exec(page.locator("#live-python").inner_text(), space)  # noqa: S102
    page.locator("#pack").click()
    page.locator("#downloads a").first.wait_for()
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(dg.read_image(photograph))[None]
    for name, target in (("dga", None), ("dga.class-3", 3), ("dga.class-5", 5)):
        with page.expect_download() as download:
            page.locator(f"#downloads a[href$='{name}.npy']").first.click()
        wanted = (lambda logits: logits[:, 3] - logits[:, 5]) if target is None else target
        expected = dg.DGA(loaded.model).attribute(inputs, wanted)
        np.testing.assert_array_equal(np.load(download.value.path()), expected[0].numpy())
        values = space["maps"]["dga"] if target is None else space["alone"][target, "dga"]
        np.testing.assert_array_equal(values.numpy(), expected.numpy())


@pytest.fixture
def passes():
    """What every network of this process, the server's too, was asked for while the test ran."""
    made = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: made.append(module) if isinstance(module, torch.nn.Conv2d) else None
    )
    yield made
    hook.remove()


def test_drawing_the_maps_otherwise_asks_nothing_of_the_model(page, passes):
    page.locator("#example").click()
    page.locator("#maps .card").nth(2).wait_for()
    assert passes
    passes.clear()
    page.get_by_label("top 10 % of the pixels").check()
    page.locator("#drawing button").first.click()
    page.locator("#top input[type=number]").click()  # waits until it has stopped moving
    page.locator("#top input[type=number]").fill("25")
    page.locator("#top input[type=number]").press("Enter")
    page.get_by_text("top 25 % of the pixels").wait_for()
    assert page.get_by_label("top 25 % of the pixels").is_checked()
    assert page.locator("#maps .scale span").all_inner_texts() == ["-1", "0", "1"]  # one for all methods
    ends = page.locator("#maps .ends").all_inner_texts()
    assert all(each.startswith("1 is ") and each.endswith(", in logits per pixel") for each in ends)
    page.get_by_label("Scale of the raw numbers").check()
    page.get_by_text("attribution as it is").wait_for()
    assert page.locator("#maps .ends").all_inner_texts() == ["in logits per pixel"] * 3
    page.get_by_label("over the image", exact=True).check()
    page.locator("#maps input[data-slides=overlay]").fill("30")
    assert passes == []


def test_what_a_visitor_was_shown_is_not_computed_again():
    models, calls = Models(), []
    picture, given = picture_of(None), ("cifar10-cnn", "cat")

    def ask(methods, before, versus=None, n_steps=3):
        calls.clear()
        settings = checked_settings(methods, n_steps, 0.9, 0)
        return explain_picture(models, picture, *given, versus, settings, lambda: calls.append(1), before)

    first = ask(["dga", "saliency"], None)
    assert len(calls) == 4 + 1
    second = ask(["dga", "gradient_x_input"], first)
    assert len(calls) == 1
    assert second.explanation.attributions["dga"] is first.explanation.attributions["dga"]
    ask(["dga"], second, n_steps=5)
    assert len(calls) == 6
    both = ask(["saliency"], second, versus="dog")
    assert len(calls) == 2  # the cat's map is known; the dog's and the difference's are not
    assert both.sides[0].attributions["saliency"] is first.explanation.attributions["saliency"]
    again = ask(["dga", "saliency"], both)
    assert (len(calls), again.sides) == (0, ())
    alone = ask(["dga", "saliency"], None)
    assert len(calls) == 5  # nothing is shared between visitors
    assert torch.equal(alone.explanation.attributions["dga"], first.explanation.attributions["dga"])


def test_a_visitors_session_remembers_only_so_much(monkeypatch):
    from distillgrad.views.explorer import session

    map_bytes = 3 * 32 * 32 * 4
    monkeypatch.setattr(session, "REMEMBERED_BYTES", 2 * map_bytes)
    models, last = Models(), None
    settings = checked_settings(["saliency", "gradient_x_input"], 3, 0.9, 0)
    for target in ("cat", "dog", "frog", "ship"):
        given = (models, picture_of(None), "cifar10-cnn", target, None)
        last = explain_picture(*given, settings, lambda: None, last)
    remembered = [(key[2], key[3]) for key in last.remembered]
    assert remembered == [("saliency", 6), ("gradient_x_input", 6), ("saliency", 8), ("gradient_x_input", 8)]


def test_a_picture_is_kept_as_it_came(photograph):
    picture = picture_of(str(photograph))
    assert picture.content == photograph.read_bytes()
    assert picture.image.tobytes() == dg.read_image(photograph).tobytes()


def test_a_model_is_shown_by_its_own_name():
    settings = checked_settings(["saliency"], 3, 0.9, 0)
    given = (Models(), picture_of(None), " cifar10-cnn\n", None, None)
    made = explain_picture(*given, settings, lambda: None)
    assert made.model == "cifar10-cnn"


@pytest.mark.parametrize(
    ("error", "level"), [(InputError("a visitor's"), logging.INFO), (ValueError("ours"), logging.ERROR)]
)
def test_only_what_is_unexpected_is_an_error_in_the_log(caplog, monkeypatch, error, level):
    from distillgrad.views.explorer.errors import problem

    monkeypatch.setattr(logging.getLogger("distillgrad"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="distillgrad"):
        assert "That did not work" in problem(error)
    assert [(each.levelno, each.exc_info[1]) for each in caplog.records] == [(level, error)]


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    assert picture_of(str(tmp_path / "moves.gif")).image.getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../../../etc/passwd", "{run}/manifest.json", "{run}/../images/cat/0.png"]
)
def test_no_file_is_served(server, run, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server}/gradio_api/file={path.format(run=run)}")  # noqa: S310
    assert refused.value.code in (403, 404)
    with urllib.request.urlopen(server) as answer:  # noqa: S310
        assert answer.status == 200


def test_twenty_at_once_each_get_their_own_picture(server, tmp_path, monkeypatch):
    client = pytest.importorskip("gradio_client")
    # It is the client, not the server, that would ask the hub which programs there are to name in a header.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    loaded = dg.load_model("cifar10-cnn")
    random = np.random.default_rng(0)
    paths, expected = [], []
    for index in range(20):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(paths[-1])
        inputs = loaded.preprocess(dg.read_image(paths[-1]))[None]
        expected.append(dg.UniformFullGrad(loaded.model).attribute(inputs)[0].numpy())
    local = threading.local()

    def ask(path):
        if not hasattr(local, "client"):
            local.client = client.Client(
                server, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": 120}
            )
        image = client.handle_file(path)
        return local.client.predict(image, "cifar10-cnn", None, ["uniform_fullgrad"], api_name="/explain")

    def all_of_them(pool):
        for values, right in zip(pool.map(ask, paths), expected, strict=True):
            np.testing.assert_allclose(np.array(values[0]["uniform_fullgrad"]), right, atol=1e-6)
        gc.collect()

    with ThreadPoolExecutor(20) as pool:
        all_of_them(pool)
        before = _resident()
        for _ in range(3):
            all_of_them(pool)
        # As files alone the sixty images have 90, as pixels as much again.
        assert _resident() - before < 80 * 2**20


def ask_as_a_program(server, image, methods):
    """The event stream of one request."""
    address = f"{server}/gradio_api/call/explain"
    content = json.dumps({"data": [image, "cifar10-cnn", None, methods]}).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/{event}") as answer:  # noqa: S310
        return answer.read().decode()


def test_a_program_cannot_name_a_file_of_the_server_or_an_address(server, photograph):
    assert "event: complete" in ask_as_a_program(server, None, ["saliency"])
    named = {"meta": {"_type": "gradio.FileData"}}
    said = ask_as_a_program(server, {"path": str(photograph), **named}, ["saliency"])
    assert ("event: error" in said, "event: complete" in said) == (True, False)
    said = ask_as_a_program(server, {"path": "https://example.com/x.png", **named}, ["saliency"])
    assert ("event: error" in said, "upload the file itself" in said) == (True, True)


def test_repeated_methods_cost_nothing():
    repeated, once = (checked_settings(["saliency"] * times, 3, 0.9, 0) for times in (1000, 1))
    assert repeated == once
    assert list(repeated.methods) == ["saliency"]


def test_a_method_that_a_visitor_names_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownNameError):
        checked_settings(["trap:Method"], 3, 0.9, 0)


def _resident():
    pages = Path("/proc/self/statm")
    if pages.is_file():
        return int(pages.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_run_that_is_none_ends_before_a_server_starts(tmp_path):
    result = CliRunner().invoke(app, ["explore", str(tmp_path), "--no-browser", "--port", "0"])
    assert (result.exit_code, "holds no run" in result.stderr) == (2, True)


def test_a_start_that_fails_leaves_nothing(tmp_path, monkeypatch):
    from distillgrad.views.explorer.server import launched

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "none").mkdir()
    before = dict(os.environ)
    for run, offered, words in (
        (tmp_path / "none", (), "holds no run"),
        (None, ("no-model",), "unknown model"),
    ):
        with pytest.raises(DistillgradError, match=words), launched(run, offered, "127.0.0.1", 0):
            pass
    assert [each.name for each in tmp_path.iterdir()] == ["none"]
    assert dict(os.environ) == before


def test_a_server_that_is_told_to_end_leaves_nothing(tmp_path):
    (tmp_path / "held").mkdir()
    program = "from distillgrad.cli import app; app()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "explore", "--no-browser", "--port", "0"],
        env={**os.environ, "TMPDIR": str(tmp_path / "held"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert "explorer: http" in process.stdout.readline()
        assert [each.name.startswith("distillgrad-") for each in (tmp_path / "held").iterdir()] == [True]
        process.terminate()
        process.wait(20)
    assert list((tmp_path / "held").iterdir()) == []
