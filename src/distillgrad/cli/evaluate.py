"""The command that says which explanation can be trusted: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distillgrad.cli.application import (
    Accelerate,
    Debug,
    Device,
    Json,
    Methods,
    ModelName,
    PrecisionName,
    Seed,
    command,
    faster,
    load,
)
from distillgrad.cli.engines import Address, EngineName, Gpus, Threads, Workers, engine_of, kind_of_device
from distillgrad.errors import ParameterError
from distillgrad.sources.layouts import DATA_HELP
from distillgrad.views.terminal import complain, print_json, print_rows, progress_of, say, status

if TYPE_CHECKING:
    from distillgrad.metrics.removal import Baseline


@command(epilog="Example: distillgrad evaluate --data photos --methods dga,guided_backprop,random")
def evaluate(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    model: ModelName = "cifar10-cnn",
    methods: Methods = "dga,fullgrad,gradient_x_input,guided_backprop,integrated_gradients,random",
    metrics: Annotated[
        str, typer.Option(help="Separated by commas; [b]distillgrad metrics[/] lists them.")
    ] = "lerf,morf,area_between",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    only_correct: Annotated[
        bool, typer.Option("--only-correct", help="Leave out what the model gets wrong; needs labels.")
    ] = False,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the MoRF and LeRF curves.")] = 20,
    baseline: Annotated[
        str, typer.Option(help="What removed pixels become: a number, mean, blur or road.")
    ] = "0",
    element: Annotated[
        bool, typer.Option("--element", help="Remove single features, not pixels (MoRF and LeRF).")
    ] = False,
    n_masks: Annotated[int, typer.Option(min=2, help="Masks per fraction of sensitivity-n.")] = 100,
    reference: Annotated[
        str | None, typer.Option(help="Method to compare with; default: each metric's best.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images explained, and written, at a time.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder of the run; the same request goes on in it.")] = Path(
        "evaluation"
    ),
    engine: EngineName = "local",
    address: Address = None,
    workers: Workers = None,
    gpus: Gpus = 0.0,
    threads: Threads = None,
    accelerate: Accelerate = True,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure which method's explanations of a model can be trusted on your data: a leaderboard."""
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.metrics.base import Protocol
    from distillgrad.runs.evaluation.leaderboard import leaderboard_of
    from distillgrad.runs.evaluation.record import Request
    from distillgrad.runs.evaluation.runner import evaluate as evaluate_run
    from distillgrad.runs.evaluation.runner import n_units
    from distillgrad.sources.open_data import open_data
    from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows, save_leaderboard

    request = Request(
        model=model,
        data=data,
        methods=parse_methods(methods),
        metrics=tuple(dict.fromkeys(filter(None, metrics.replace(" ", "").split(",")))),
        protocol=Protocol(
            n_steps=n_steps, baseline=_baseline(baseline), element=element, n_masks=n_masks, seed=seed
        ),
        only_correct=only_correct,
        batch_size=batch_size,
        accelerated=accelerate,
        precision=precision,  # type: ignore[arg-type]  # checked there
    )
    computed_by = engine_of(engine, address, workers, gpus)
    kind = kind_of_device(engine, device, gpus)
    images = open_data(data, limit=limit)
    loaded = load(model, "cpu" if engine == "ray" else device, seed)
    fast = faster(loaded, accelerate, precision)
    try:
        with progress_of("evaluating", n_units(request, len(images)), "explanations and measurements") as on:
            evaluation = evaluate_run(
                loaded,
                images,
                request,
                out,
                fast=fast,
                on_unit=on,
                engine=computed_by,
                threads=threads,
                device=kind,
            )
    except KeyboardInterrupt:
        complain(f"stopped; what is finished is kept in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    with status("comparing"):
        board = leaderboard_of(evaluation, reference=reference)
        files = save_leaderboard(board, out)
    if as_json:
        print_json({**leaderboard_record(board), "files": files})
        return
    heads, rows = leaderboard_rows(board, brief=True)
    print_rows(heads, rows, as_json=False)
    left_out = f", {len(evaluation.skipped)} left out" if evaluation.skipped else ""
    say(
        "{} images{}; mean ± half the 95 % interval; * significantly worse than the best",
        len(evaluation.ids),
        left_out,
    )
    say("tables, figures and every sample's values: {}", out)


def _baseline(words: str) -> Baseline:
    from distillgrad.metrics.removal import IMPUTATIONS

    try:
        return next((each for each in IMPUTATIONS if each == words), None) or float(words)
    except ValueError as error:
        raise ParameterError(
            f"baseline must be a number or one of {', '.join(IMPUTATIONS)}, not {words!r}"
        ) from error
