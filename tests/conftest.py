"""Seeds, and the real weights and images that some tests need."""

import math
import os

# Threads that spin long while cores are shared run many times slower, as do more threads than cores.
# Torch reads these at its import.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("DISTILLGRAD_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights and images; skips where there is none."""
    if not (DATA / "imagenet" / "samples").is_dir():
        pytest.skip(f"no real weights and images at {DATA}; DISTILLGRAD_DATA names their folder")
    return DATA


@pytest.fixture
def unexamined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models on which no pass is spent for their own sake, so that a method's passes can be counted."""
    monkeypatch.setattr("distillgrad.core.examination.findings.THRIFT", math.inf)


@pytest.fixture
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """XRAI with one of its six segmentations, each of which takes a tenth of a second."""
    monkeypatch.setattr("distillgrad.methods.xrai.SCALES", (500,))


@pytest.fixture
def photograph() -> Path:
    """The photograph that the demonstration explains."""
    from distillgrad.sources.images import sample_photograph

    return sample_photograph()
