"""Whole data sets: the local engine beside a bare loop, Ray's two workers beside one, memory by length."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.methods.parsing import parse_methods
from distillgrad.runs.attribution.job import Shard, job_of
from distillgrad.runs.attribution.request import AttributionRequest, attribution_manifest
from distillgrad.runs.attribution.runner import run_attribution
from distillgrad.runs.attribution.store import prepare
from distillgrad.runs.attribution.worker import ShardWorker
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.engines.ray import RayEngine
from distillgrad.runs.folders import LocalFolder
from distillgrad.sources.open_data import open_data
from works import Work

BATCH = 8


@dataclass(frozen=True)
class RunSizes:
    """How large the works are; of images with DGA, with N steps, and of those with a single pass."""

    n_images: int = 128
    n_steps: int = 30
    n_for_ray: int = 96
    few: int = 1_000
    many: int = 10_000


QUICK_RUNS = RunSizes(n_images=8, n_steps=2, n_for_ray=16, few=8, many=16)


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


def request_of(folder: Path, method: str, shard_size: int | None = None) -> AttributionRequest:
    """One thread, the model as it is: what a bare loop has, too."""
    return AttributionRequest(
        "cifar10-cnn",
        str(folder),
        parse_methods(method),
        batch_size=BATCH,
        threads=1,
        shard_size=shard_size,
        accelerated=False,
    )


def whole_run(folder: Path, method: str) -> None:
    """From opening the data to the finished run, which is thrown away."""
    loaded, data = dg.load_model("cifar10-cnn"), open_data(folder, keep_broken=True)
    with tempfile.TemporaryDirectory() as out:
        run_attribution(loaded, data, request_of(folder, method), out, LocalEngine())


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


def ray_engine(sizes: RunSizes, until_the_end: ExitStack) -> Work:
    """Two single-thread workers beside one, all of them there already, on a cluster of this machine."""
    import ray

    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }  # as the floor and all else here
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    folder = folder_of(sizes.n_for_ray)
    loaded, data = dg.load_model("cifar10-cnn"), open_data(folder, keep_broken=True)
    request = request_of(folder, f"dga(n_steps={sizes.n_steps})", BATCH)
    out = until_the_end.enter_context(tempfile.TemporaryDirectory())
    job = job_of(attribution_manifest(loaded, data, request, loaded.model, 1), out, True)
    prepare(LocalFolder(Path(out)), job.layout, ())
    shards = [Shard(number, data.part(job.layout.places(number))) for number in range(job.layout.n_shards)]

    def work(n_workers: int) -> Callable[[], object]:
        workers = until_the_end.enter_context(
            RayEngine(n_workers=n_workers).workers(partial(ShardWorker, job))
        )
        return lambda: list(workers.map(shards))

    return Work(
        name=f"attribute, Ray, DGA N={sizes.n_steps}, {sizes.n_for_ray} images, two workers; floor: one",
        ours=work(2),
        floor=work(1),
        floor_target=round(1 / 1.7, 3),
    )


def prepared_run(n_images: int) -> Callable[[], object]:
    """A run of Saliency over so many images, ready; what libraries set up once is done."""
    whole_run(folder_of(8), "saliency")
    return partial(whole_run, folder_of(n_images), "saliency")


def run_works(sizes: RunSizes) -> Iterator[Work]:
    """One at a time."""
    yield local_engine(sizes)
    with ExitStack() as until_the_end:
        yield ray_engine(sizes, until_the_end)
