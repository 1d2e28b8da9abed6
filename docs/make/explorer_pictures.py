"""Take the site's pictures of the explorer: one image, two classes, a run, in a headless Chromium.

    python docs/make/explorer_pictures.py torchvision:squeezenet1_1 [NAME …]

The images are scikit-image's photographs that are free of rights. The model's name is in the pictures: run it
where the weights lie, if they are named.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from distillgrad.cli import app
from distillgrad.sources.photographs import photographs
from distillgrad.views.explorer.server import launched

IMAGES = Path(__file__).resolve().parents[1] / "images"
WIDTH, HEIGHT = 1300, 830
SAVED_WIDTH = 1100
NOT_FREE = "motorcycle"
METHODS = "dga,fullgrad,gradient_x_input"


def one_image(page: Any) -> None:
    """Open the cat, explained by three methods."""
    page.get_by_role("tab", name="Explain an image").click()
    page.locator("#example").click()
    page.locator("#maps .card").nth(2).wait_for()


def two_classes(page: Any) -> None:
    """Ask why it is a tiger cat and not an Egyptian cat."""
    one_image(page)
    page.locator("#versus input").fill("285: Egyptian cat")
    page.locator("#versus input").press("Enter")
    page.locator("#explain").click()
    page.locator("#maps .cards.four").nth(2).wait_for()
    page.evaluate("scrollTo(0, 0)")


def a_run(page: Any) -> None:
    """Open the images on which methods disagree most, the first one large."""
    page.locator("#show-images").click()
    page.locator("#gallery .sample").nth(3).wait_for()
    page.locator("#gallery .enlarge").first.click()
    page.locator("#large .card").nth(2).wait_for()
    page.locator("#large").scroll_into_view_if_needed()


PICTURES = {"explorer": one_image, "explorer-two-classes": two_classes, "explorer-run": a_run}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("model", help="torchvision:squeezenet1_1, or with @FILE of weights")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; by default all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        data, run = Path(folder) / "photographs", Path(folder) / "maps"
        data.mkdir()
        for sample in photographs(limit=10):
            if not sample.id.startswith(NOT_FREE):
                sample.image.save(data / f"{sample.id}.png")
        app(
            ["attribute", str(data), "--model", arguments.model, "--methods", METHODS, "--out", str(run)],
            standalone_mode=False,
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with launched(run, (arguments.model,), "127.0.0.1", 0) as (url, _):
            for name in arguments.names or PICTURES:
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                page.set_default_timeout(300_000)
                page.goto(url)
                PICTURES[name](page)
                page.wait_for_timeout(1000)  # the progress bar fades
                shot = Image.open(io.BytesIO(page.screenshot()))
                smaller = shot.resize((SAVED_WIDTH, SAVED_WIDTH * HEIGHT // WIDTH), Image.Resampling.LANCZOS)
                smaller.save(IMAGES / f"{name}.webp", quality=82, method=6)
                page.close()
                print(name, flush=True)


if __name__ == "__main__":
    main()
