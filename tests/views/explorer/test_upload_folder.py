"""The folder of uploads: gone with its process, or swept by the next one; nothing else is."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from distillgrad.views.explorer.upload_folder import upload_folder

HOLD = """
import time
from distillgrad.views.explorer.upload_folder import upload_folder
with upload_folder() as folder:
    (folder / "cat.png").write_bytes(b"a photograph")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def names(place):
    return sorted(each.name for each in place.iterdir())


def test_a_folder_is_its_users_alone_and_goes(place):
    with upload_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "cat.png").touch()
    assert names(place) == []


@pytest.mark.skipif(os.name != "posix", reason="no locks that the system lets go")
def test_a_killed_process_leaves_its_folder_to_the_next_start(place):
    environment = {**os.environ, "TMPDIR": str(place)}
    words = [sys.executable, "-c", HOLD]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        left = Path(process.stdout.readline().strip())
        with upload_folder() as folder:
            assert names(place) == sorted((folder.name, left.name))  # while it lives
        process.kill()
        process.wait(20)
    assert (left / "cat.png").exists()
    with upload_folder() as folder:
        assert names(place) == [folder.name]


@pytest.mark.skipif(os.name != "posix", reason="no locks that the system lets go")
def test_only_what_is_surely_a_killed_servers_is_swept(place):
    elsewhere = place / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / ".lock").touch()
    (place / "distillgrad-explorer-a-file").touch()
    (place / "distillgrad-explorer-link").symlink_to(elsewhere)
    (place / "distillgrad-explorer-unlocked").mkdir(mode=0o700)
    (place / "distillgrad-explorer-linked-lock").mkdir(mode=0o700)
    (place / "distillgrad-explorer-linked-lock" / ".lock").symlink_to(elsewhere / ".lock")
    (place / "distillgrad-explorer-open").mkdir()
    (place / "distillgrad-explorer-open").chmod(0o755)
    (place / "distillgrad-explorer-open" / ".lock").touch()
    (place / "distillgrad-explored").mkdir(mode=0o700)
    (place / "distillgrad-explored" / ".lock").touch()
    before = names(place)
    with upload_folder():
        pass
    assert names(place) == before
    assert names(elsewhere) == [".lock"]
    (place / "distillgrad-explorer-abandoned").mkdir(mode=0o700)
    (place / "distillgrad-explorer-abandoned" / ".lock").touch()
    with upload_folder():
        pass
    assert names(place) == before
