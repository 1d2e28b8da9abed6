"""A command and a tab of the explorer are one file and one line each: what a contributor does, done here."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import distillgrad as dg

COMMAND = '''
from distillgrad.cli.application import command
from distillgrad.cli.terminal import say


@command(epilog="Example: distillgrad greet")
def greet() -> None:
    """Greet whoever reads this."""
    say("good morning")
'''


def test_a_command_is_a_file_and_a_line(tmp_path):
    package = tmp_path / "distillgrad"
    shutil.copytree(Path(dg.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "cli" / "greet.py").write_text(COMMAND)
    table = package / "cli" / "__init__.py"
    table.write_text(table.read_text().replace('"listing"', '"listing", "greet"'))
    (tmp_path / "torch.py").touch()  # seconds to import, and not used
    for words, said in (("--help", "Greet whoever reads this."), ("greet", "good morning\n")):
        called = [sys.executable, "-m", "distillgrad", words]
        done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said in done.stdout


@pytest.mark.filterwarnings("ignore")  # gradio's and starlette's own, of each other
def test_a_tab_of_the_explorer_is_a_file_and_a_line(monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed")
    from distillgrad.views.explorer import image_tab
    from distillgrad.views.explorer.models import Models
    from distillgrad.views.explorer.page import page_of
    from distillgrad.views.explorer.result_tab import ResultTab

    made = []

    def greeting_tab(gr, models, displayed):
        with gr.Tab("Greeting"):
            made.append(gr.HTML())
        return ResultTab({made[0]: ""}, lambda displayed: {made[0]: "good morning"})

    async def content():  # gradio asks for a running loop
        page = page_of(Models(()))
        try:
            return page.get_config_file()
        finally:
            page.close()

    monkeypatch.setattr(image_tab, "RESULT_TABS", (*image_tab.RESULT_TABS, greeting_tab))
    page = asyncio.run(content())
    assert "Greeting" in [each["props"].get("label") for each in page["components"]]
    explains = [each for each in page["dependencies"] if made[0]._id in each["outputs"]]
    assert len(explains) >= 4  # the upload, the example, another model, the button
