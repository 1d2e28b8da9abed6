"""Whole data sets: the local engine beside a bare loop, Ray's two workers beside one, memory by length."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.methods.spelling import methods_of
from distillgrad.runs.local import LocalEngine
from distillgrad.runs.ray import Cluster, RayEngine
from distillgrad.runs.runner import AttributionRequest, Engine, attribute_data
from distillgrad.sources.datasets import open_data
from works import Work

BATCH = 8


@dataclass(frozen=True)
class RunSizes:
    """How large the works are; of images with DGA, with N steps, and of those with a single pass."""

    n_images: int = 128
    n_steps: int = 30
    n_for_ray: int = 768
    few: int = 1_000
    many: int = 10_000


QUICK_RUNS = RunSizes(n_images=8, n_steps=2, n_for_ray=8, few=8, many=16)


def folder_of(n_images: int) -> Path:
    """Seeded noise as PNG files of 36×40 pixels, made once."""
    folder = Path(tempfile.gettempdir()) / f"distillgrad-{n_images}-images"
    folder.mkdir(exist_ok=True)
    chance = np.random.default_rng(0)
    for number in range(n_images):
        pixels = chance.integers(0, 255, (36, 40, 3), np.uint8)
        path = folder / f"{number}.png"
        if not path.is_file():
            Image.fromarray(pixels).save(path)
    return folder


def whole_run(folder: Path, method: str, engine: Engine | None = None) -> None:
    """From opening the data to the finished run, which is thrown away."""
    loaded, data = dg.load_model("cifar10-cnn"), open_data(folder, keep_broken=True)
    request = AttributionRequest(
        "cifar10-cnn",
        str(folder),
        methods_of(method),
        batch_size=BATCH,
        threads=1,
        shard_size=32,
        accelerated=False,
    )
    with tempfile.TemporaryDirectory() as out:
        attribute_data(loaded, data, request, out, engine or LocalEngine(loaded))


def bare_loop(folder: Path, n_steps: int) -> None:
    """What a user would write: decode, explain, throw away."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded, data = dg.load_model("cifar10-cnn"), open_data(folder)
    method = dg.DGA(loaded.model, n_steps=n_steps)
    for start in range(0, len(data), BATCH):
        images = [data[place].image for place in range(start, min(start + BATCH, len(data)))]
        method.attribute(torch.stack([loaded.preprocess(each) for each in images]))
    torch.set_num_threads(threads)


def local_engine(sizes: RunSizes) -> Work:
    """The engine, with its store, beside the bare loop."""
    folder = folder_of(sizes.n_images)
    return Work(
        name=f"attribute, local engine, DGA N={sizes.n_steps}, {sizes.n_images} images; floor: bare loop",
        ours=lambda: whole_run(folder, f"dga(n_steps={sizes.n_steps})"),
        floor=lambda: bare_loop(folder, sizes.n_steps),
        floor_target=1.03,
    )


def ray_engine(sizes: RunSizes) -> Work:
    """Two single-thread workers beside one, on a cluster that is there already."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not ray.is_initialized():
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    folder, method = folder_of(sizes.n_for_ray), f"dga(n_steps={sizes.n_steps})"
    return Work(
        name=f"attribute, Ray, DGA N={sizes.n_steps}, {sizes.n_for_ray} images, two workers; floor: one",
        ours=lambda: whole_run(folder, method, RayEngine(Cluster(n_workers=2))),
        floor=lambda: whole_run(folder, method, RayEngine(Cluster(n_workers=1))),
        floor_target=round(1 / 1.7, 3),
    )


def prepared_run(n_images: int) -> Callable[[], object]:
    """A run of Saliency over so many images, ready; what libraries set up once is done."""
    whole_run(folder_of(8), "saliency")
    return partial(whole_run, folder_of(n_images), "saliency")


def run_works(sizes: RunSizes) -> Iterator[Work]:
    """One at a time."""
    yield local_engine(sizes)
    yield ray_engine(sizes)
