"""The command that says which explanation can be trusted: evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    Accelerate,
    BaselineName,
    BatchSize,
    Condition,
    CurveSteps,
    Data,
    Debug,
    Device,
    Json,
    Limit,
    Masks,
    Methods,
    ModelName,
    PrecisionName,
    RunFolder,
    Seed,
    ValueRangeWords,
    baseline_of,
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
from distillgrad.cli.terminal import complain, print_json, print_rows, progress_of, say, status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

N_PER_BATCH = 8
CURVES = ("lerf", "morf", "area_between")
SETTINGS = {
    "n_steps": CURVES,
    "element": CURVES,
    "baseline": (*CURVES, "sensitivity_n"),
    "n_masks": ("sensitivity_n",),
}
"""The metrics of this package that read each setting of the protocol; others may read any."""


def _read_by_a_metric(setting: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda request: any(
        name in SETTINGS[setting] or _is_a_strangers(name) for name in _names(request["metrics"])
    )


def _is_a_strangers(name: str) -> bool:
    from distillgrad.metrics import METRICS

    metric = METRICS.get(name)
    return metric is None or not metric.measurement.__module__.startswith("distillgrad.")


def _is_evaluated(request: Mapping[str, Any]) -> bool:
    from distillgrad.methods.parsing import parse_methods

    return request["reference"] in parse_methods(request["methods"])


EVALUATE = {
    **{
        setting: Condition(
            _read_by_a_metric(setting),
            f"of the metrics it is read by {', '.join(metrics)} alone, and --metrics is {{metrics}}",
            "evaluate one of these too",
        )
        for setting, metrics in SETTINGS.items()
    },
    "reference": Condition(
        _is_evaluated, "{reference} is none of the methods, {methods}", "write one as it stands there"
    ),
    "address": RAY,
    "workers": RAY,
    "gpus": RAY,
    "precision": ACCELERATED,
}


@command(EVALUATE, epilog="Example: distillgrad evaluate photos --methods dga,guided_backprop,random")
def evaluate(
    data: Data,
    model: ModelName = "cifar10-cnn",
    methods: Methods = "dga,fullgrad,gradient_x_input,guided_backprop,integrated_gradients,random",
    metrics: Annotated[
        str, typer.Option(help="Metrics separated by commas; [b]distillgrad metrics[/] lists them.")
    ] = "lerf,morf,area_between",
    limit: Limit = None,
    value_range: ValueRangeWords = None,
    only_correct: Annotated[
        bool, typer.Option("--only-correct", help="Leave out what the model gets wrong; needs labels.")
    ] = False,
    n_steps: CurveSteps = 20,
    baseline: BaselineName = "0",
    element: Annotated[
        bool, typer.Option("--element", help="Remove single features, not pixels (MoRF and LeRF).")
    ] = False,
    n_masks: Masks = 100,
    reference: Annotated[
        str | None, typer.Option(help="Method to compare with (default: each metric's best).")
    ] = None,
    batch_size: BatchSize = N_PER_BATCH,
    out: RunFolder = Path("evaluation"),
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
    from distillgrad.runs.evaluation.record import EvaluationRequest
    from distillgrad.runs.evaluation.runner import n_units, run_evaluation
    from distillgrad.sources.open_data import open_data
    from distillgrad.views.leaderboard import (
        leaderboard_record,
        leaderboard_rows,
        reservations,
        save_leaderboard,
    )

    request = EvaluationRequest(
        model=model,
        data=data,
        methods=parse_methods(methods),
        metrics=_names(metrics),
        protocol=Protocol(
            n_steps=n_steps, baseline=baseline_of(baseline), element=element, n_masks=n_masks, seed=seed
        ),
        only_correct=only_correct,
        batch_size=batch_size or N_PER_BATCH,
        accelerated=accelerate,
        precision=precision,  # type: ignore[arg-type]  # checked there
        value_range=value_range_of(value_range),
    )
    computed_by = engine_of(engine, address, workers, gpus)
    kind = kind_of_device(engine, device, gpus)
    images = open_data(data, limit=limit, value_range=request.value_range)
    loaded = load(model, "cpu" if engine == "ray" else device, seed)
    fast = faster(loaded, accelerate, precision)
    try:
        with progress_of("evaluating", n_units(request, len(images)), "explanations and measurements") as on:
            evaluation = run_evaluation(
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
    for each in reservations(board):
        say("{}", each)
    say("tables, figures and every sample's values: {}", out)


def _names(words: str) -> tuple[str, ...]:
    """Return the names between the commas, each once."""
    return tuple(dict.fromkeys(filter(None, words.replace(" ", "").split(","))))
