"""One builder of small data and of small runs on them; where a test changes a run, it changes a copy."""

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from distillgrad.cli import app


def noise_images(folder, names, size=(40, 40)):
    """Write pictures of noise, each below ``folder`` by its name; return the folder."""
    random = np.random.default_rng(0)
    width, height = size
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8)).save(folder / name)
    return folder


def made(command, *words, out):
    """Return the folder ``out`` of a run that the command has finished."""
    result = CliRunner().invoke(app, [command, *map(str, words), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    return out
