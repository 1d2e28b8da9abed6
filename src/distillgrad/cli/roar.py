"""The command that removes pixels, retrains and compares: roar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from distillgrad.cli.application import (
    BaselineName,
    Condition,
    Debug,
    Device,
    Json,
    Limit,
    Methods,
    PrecisionName,
    RunFolder,
    Seed,
    ValueRangeWords,
    baseline_of,
    command,
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
from distillgrad.cli.terminal import complain, print_json, print_rows, progress_of, say
from distillgrad.errors import ParameterError, UnknownNameError

EXPLAINED = "dga,fullgrad,gradient_x_input,guided_backprop,integrated_gradients"


def _has_files(request: Mapping[str, Any]) -> bool:
    from distillgrad.sources.roar_data import has_files

    return has_files(request["data"])


ROAR = {
    "address": RAY,
    "workers": RAY,
    "gpus": RAY,
    "value_range": Condition(_has_files, "{data} holds no image files", "name a folder of them"),
}


@command(ROAR, epilog="Example: distillgrad roar cifar10:FOLDER --limit 10000 --epochs 10 --trials 2")
def roar(
    data: Annotated[
        str, typer.Argument(help="digits, cifar10:FOLDER, or a folder with train and test class folders.")
    ] = "digits",
    methods: Methods = EXPLAINED,
    fractions: Annotated[str, typer.Option(help="Shares of the pixels to remove.")] = "0.1,0.3,0.5,0.7,0.9",
    trials: Annotated[int, typer.Option(min=1, help="Networks per method and fraction.")] = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of training (default: 10 for digits, else 100).")
    ] = None,
    limit: Limit = None,
    value_range: ValueRangeWords = None,
    baseline: BaselineName = "mean",
    keep: Annotated[bool, typer.Option("--keep", help="Keep these pixels, remove the others (KAR).")] = False,
    retrain: Annotated[
        bool, typer.Option(help="Train anew; else only test without the pixels (ROAD).")
    ] = True,
    precision: PrecisionName = "float32",
    out: RunFolder = Path("roar"),
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    threads: Threads = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove the pixels that explanations name, retrain, and see what was lost (the paper's Figure 5)."""
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.runs.manifest import MANIFEST, read_json
    from distillgrad.runs.roar.runner import RoarRequest, n_units
    from distillgrad.runs.roar.runner import roar as roar_run
    from distillgrad.sources.roar_data import subject_of
    from distillgrad.views.roar import roar_record, roar_rows, save_roar

    if precision not in ("float32", "bfloat16"):
        raise UnknownNameError("precision", precision, ("float32", "bfloat16"))
    request = RoarRequest(
        data=data,
        methods=parse_methods(methods),
        fractions=_fractions(fractions),
        n_trials=trials,
        seed=seed,
        n_epochs=epochs,
        replacement=baseline_of(baseline),
        keep=keep,
        retrain=retrain,
        bfloat16=precision == "bfloat16",
        value_range=value_range_of(value_range),
        limit=limit,
    )
    computed_by = engine_of(engine, address, workers, gpus)
    kind = kind_of_device(engine, device, gpus)
    subject = subject_of(data, limit=limit, value_range=request.value_range)
    try:
        with progress_of("removing and retraining", n_units(request), "units") as advance:
            accuracies = roar_run(
                subject,
                request,
                out,
                device=kind,
                on_unit=lambda _: advance(),
                engine=computed_by,
                threads=threads,
            )
    except KeyboardInterrupt:
        complain(f"stopped; what is finished is kept in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    manifest = read_json(out / MANIFEST)
    kept = "kept" if keep else "removed"
    title = f"{'KAR' if keep else 'ROAR' if retrain else 'ROAD'} on {_called(data)}, {trials} trials"
    files = save_roar(accuracies, manifest, out, title, f"share of the pixels {kept}")
    if as_json:
        print_json({**roar_record(accuracies, manifest), "files": files})
        return
    heads, rows = roar_rows(accuracies)
    print_rows(heads, rows, as_json=False)
    say("test accuracy in %, mean ± standard error of {} trials, by the share of pixels {}", trials, kept)
    say("table, figure and every trial: {}", out)


def _called(data: str) -> str:
    """Return the data's name in a title: where it lies is in the manifest."""
    kind, _, folder = data.partition(":")
    return "CIFAR-10" if kind == "cifar10" and folder else Path(data).resolve().name


def _fractions(words: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(each) for each in words.split(",")))
    except ValueError as error:
        raise ParameterError(f"fractions must be numbers separated by commas, not {words!r}") from error
