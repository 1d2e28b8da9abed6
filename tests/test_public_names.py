"""The public face: one table of names, from which the stub is written, and nothing else to see."""

import importlib
import pkgutil
import subprocess
import sys
from inspect import isfunction

import distillgrad as dg
import type_stub


def test_the_stub_is_the_tables():
    assert type_stub.STUB.read_text(encoding="utf-8") == type_stub.stub(), "run docs/make/type_stub.py"


def test_dir_shows_the_public_names_alone():
    assert dir(dg) == sorted([*dg.__all__, "__version__"])
    for name in dg.__all__:
        assert getattr(dg, name) is not None
    assert {each.__name__ for each in dg.METHODS.values()} <= set(dir(dg))
    assert dg.StableDGA is dg.METHODS["stable_dga"]


def test_the_start_is_quick():
    script = "import sys, distillgrad; dir(distillgrad); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_metric_hides_its_module():
    for each in pkgutil.iter_modules(dg.metrics.__path__):
        module = importlib.import_module(f"distillgrad.metrics.{each.name}")
        assert getattr(dg.metrics, each.name) is module
    assert all(isfunction(getattr(dg.metrics, name)) for name in ("stability", "pixel_perturbation"))
