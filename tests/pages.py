"""A headless browser, and what checks pages: axe-core and html-validate, where they are installed."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = Path(os.environ.get("DISTILLGRAD_NPM", ROOT / ".venv" / "npm")) / "node_modules"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium():
    """A browser; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: 'make browser' installs it where it may")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


PHONE = {"width": 390, "height": 844}


def fits_a_phone(page):
    """Whether nothing reaches beyond the side of a narrow window."""
    page.set_viewport_size(PHONE)
    return page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


SETTLED = """[...document.querySelectorAll(".dg")].filter(each => each.checkVisibility()).every(each => {
    for (let box = each; box; box = box.parentElement)
        if (getComputedStyle(box).opacity !== "1") return false;
    return true;
})"""


def serious_issues(page):
    """What axe-core finds to be serious or critical, once nothing is faded that is being renewed."""
    axe = MODULES / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.skip("axe-core is not installed: 'make browser' does that")
    page.wait_for_function(SETTLED)
    page.evaluate(axe.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
    ]


def invalid(path):
    """What html-validate complains of."""
    program = MODULES / ".bin" / "html-validate"
    if not program.exists():
        pytest.skip("html-validate is not installed: 'make browser' does that")
    rules = path.parent / ".htmlvalidate.json"
    rules.write_text(json.dumps({"root": True, "extends": ["html-validate:standard"]}))
    result = subprocess.run(
        [program, path.name], cwd=path.parent, capture_output=True, text=True, check=False
    )
    return result.stdout if result.returncode else ""
