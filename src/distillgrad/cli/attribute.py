"""The command that explains whole data sets: attribute."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    Accelerate,
    BatchSize,
    Condition,
    Data,
    Debug,
    Device,
    Json,
    Limit,
    Methods,
    ModelName,
    PrecisionName,
    Seed,
    ValueRangeWords,
    command,
    faster,
    load,
    value_range_of,
)
from distillgrad.cli.engines import (
    RAY,
    Address,
    EngineName,
    Gpus,
    Threads,
    Workers,
    engine_of,
    kind_of_device,
)
from distillgrad.cli.terminal import complain, print_json, run_progress, say
from distillgrad.errors import SourceError

if TYPE_CHECKING:
    from distillgrad.runs.attribution.progress import Progress, Summary


WRITTEN = Condition(lambda request: not request["dry_run"], "--dry-run writes no run", "leave --dry-run out")
RAY_AT_WORK = Condition(
    lambda request: RAY.holds(request) and WRITTEN.holds(request),
    "only workers on Ray are placed, and --dry-run starts none",
    "add --engine ray without --dry-run",
)
ATTRIBUTE = {
    "out": WRITTEN,
    "strict": WRITTEN,
    "address": RAY_AT_WORK,
    "workers": RAY_AT_WORK,
    "gpus": RAY_AT_WORK,
    "precision": ACCELERATED,
}


@command(ATTRIBUTE, epilog="Example: distillgrad attribute photos --model torchvision:resnet18 --out run")
def attribute(
    data: Data,
    model: ModelName = "cifar10-cnn",
    methods: Methods = "dga",
    target: Annotated[
        str,
        typer.Option(help="Class to explain, by name or number; predicted, or label: each image's own."),
    ] = "predicted",
    out: Annotated[
        str, typer.Option(help="Folder of the run, or its fsspec URL; the same request goes on in it.")
    ] = "run",
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    limit: Limit = None,
    value_range: ValueRangeWords = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the maps: float32, or float16 at half the size.")
    ] = "float32",
    batch_size: BatchSize = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Images written at a time (default: as suits the maps' size).")
    ] = None,
    threads: Threads = None,
    strict: Annotated[bool, typer.Option("--strict", help="End at the first image that fails.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Time a few batches; say how long and how large it gets.")
    ] = False,
    accelerate: Accelerate = True,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Explain a whole data set into a run of arrays and tables; killed, it goes on where it was."""
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.runs.attribution.request import AttributionRequest
    from distillgrad.runs.attribution.runner import run_attribution
    from distillgrad.sources.open_data import open_data

    computed_by = engine_of(engine, address, workers, gpus)
    request = AttributionRequest(
        model=model,
        data=data,
        methods=parse_methods(methods),
        target=target,
        dtype=dtype,  # type: ignore[arg-type]  # checked there
        batch_size=batch_size,
        shard_size=shard_size,
        threads=threads,
        seed=seed,
        accelerated=accelerate,
        precision=precision,  # type: ignore[arg-type]  # checked there
        value_range=value_range_of(value_range),
        device=kind_of_device(engine, device, gpus),
    )
    images = open_data(data, limit=limit, keep_broken=True, value_range=request.value_range)
    loaded = load(model, "cpu" if engine == "ray" else device, seed)
    if target not in ("predicted", "label"):
        loaded.class_index(target)
    fast = faster(loaded, accelerate, precision)
    if dry_run:
        _estimate(loaded, images, request, computed_by.default_threads, fast, as_json)
        return
    began = time.perf_counter()
    with run_progress("explaining", len(images), quiet=as_json) as show:

        def on_progress(progress: Progress) -> None:
            show(progress.n_done, progress.n_failed)
            for each in progress.failures if as_json else ():
                _event("failure", each.record())
            if as_json:
                _event("progress", {"done": progress.n_done, "failed": progress.n_failed})

        try:
            summary = run_attribution(
                loaded,
                images,
                request,
                out,
                computed_by,
                fast=fast,
                strict=strict,
                on_progress=on_progress,
            )
        except SourceError as error:  # the request was right: the disk is full, an image is broken
            if debug:
                raise
            complain(str(error))
            raise typer.Exit(1) from error
    content = {**summary.record(), "seconds": time.perf_counter() - began}
    if as_json:
        _event("end", content)
    else:
        _say_summary(summary)
    if not summary.complete:
        complain(f"stopped; what is finished is kept in {out}, and the same command goes on from there")
        raise typer.Exit(130)
    if not summary.n_explained:
        complain(f"not one of the {summary.n_entries} images could be explained")
        raise typer.Exit(1)
    if not as_json:
        say('the maps: {}; in Python: dg.open_run("{}")', out, out)


def _say_summary(summary: Summary) -> None:
    """Print what was explained, what failed, and what methods said of their maps."""
    say("{} of {} images explained, {} failed", summary.n_explained, summary.n_entries, summary.n_failed)
    for each in summary.first_failures:
        say("  {}: {}", each.id, each.reason)
    if summary.n_failed > len(summary.first_failures):
        say("  and {} more, in failures.parquet", summary.n_failed - len(summary.first_failures))
    for label, said in summary.said.items():
        for note in said.notes:
            say("{}: {}", label, note)
        if said.blank:
            say("{}: {} maps are one number everywhere; report says which and why", label, len(said.blank))


def _estimate(loaded: Any, images: Any, request: Any, default_threads: int, fast: Any, as_json: bool) -> None:
    from distillgrad.runs.attribution.estimate import estimate

    forecast = estimate(loaded, images, request, default_threads, fast=fast)
    if as_json:
        print_json(forecast.record())
        return
    say(
        "{} images: {} hours on one worker of {} threads ({} s per image, from {} images), {} GB",
        forecast.n_images,
        f"{forecast.hours:.3g}",
        forecast.threads,
        f"{forecast.seconds_per_image:.3g}",
        forecast.n_timed,
        f"{forecast.total_bytes / 1e9:.3g}",
    )
    say("batches of {}, shards of {} images", forecast.batch_size, forecast.shard_size)


def _event(kind: str, content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"event": kind, **content}) + "\n")
    sys.stdout.flush()
