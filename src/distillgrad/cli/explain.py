"""Commands that look at single images: demo, explain, distill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    LAYERWISE,
    Accelerate,
    Condition,
    Debug,
    Device,
    Json,
    Methods,
    ModelName,
    PrecisionName,
    Seed,
    Target,
    ValueRangeWords,
    command,
    faster,
    load,
    value_range_of,
)
from distillgrad.cli.terminal import print_json, print_rows, progress_of, say
from distillgrad.errors import ParameterError

if TYPE_CHECKING:
    from distillgrad.explanations.explanation import Explanation
    from distillgrad.sources.value_range import ValueRange

Out = Annotated[Path, typer.Option(help="Folder for the files.")]


@command(epilog="Example: distillgrad demo")
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Explain a photograph of a cat with the bundled classifier; needs no network."""
    from distillgrad.sources.images import sample_photograph

    explain(
        images=[sample_photograph()],
        methods="dga,uniform_fullgrad,gradient_x_input",
        out=out,
        seed=seed,
        device=device,
        as_json=as_json,
    )


EXPLAIN = {
    "versus": Condition(
        lambda request: request["versus"] != request["target"],
        "{versus} is the explained class itself",
        "name another class",
    ),
    "profile": Condition(
        lambda request: not request["as_json"], "the JSON says where the time went anyway, under seconds"
    ),
    "accelerate": LAYERWISE,
    "precision": ACCELERATED,
}


@command(EXPLAIN, epilog='Example: distillgrad explain cat.jpg --target cat --methods "dga,uniform_fullgrad"')
def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    model: ModelName = "cifar10-cnn",
    methods: Methods = "dga",
    target: Target = None,
    versus: Annotated[
        str | None, typer.Option(help="Class against which to explain the target: their logits' difference.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time went.")] = False,
    stability: Annotated[
        bool, typer.Option("--stability", help="Say how stable each map is; costs 5 more explanations.")
    ] = False,
    value_range: ValueRangeWords = None,
    out: Out = Path("explanations"),
    accelerate: Accelerate = False,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where a classifier looked: a figure, the raw attribution (.npy) and a record (.json) per image."""
    from distillgrad.explanations.explanation import cost_in_passes, seen_by
    from distillgrad.explanations.explanation import explain as explain_image
    from distillgrad.explanations.stability import stability_of_methods
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.views.records import save_explanation
    from distillgrad.views.stability import HEADS, stability_record, stability_rows

    chosen = parse_methods(methods)
    passes = cost_in_passes(chosen)
    shown_from = value_range_of(value_range)
    read = _read(images, shown_from)
    loaded = load(model, device, seed)
    class_index = None if target is None else loaded.class_index(target)
    other = None if versus is None else loaded.class_index(versus)
    if other is not None and other == class_index:  # under another spelling: cat, 3
        raise ParameterError(f"--versus {versus} is {target}, the explained class itself; name another class")
    fast = faster(loaded, accelerate, precision)
    request: dict[str, Any] = {"model": model, "seed": seed, "device": str(loaded.device)}
    if accelerate:
        request["precision"] = precision
    if shown_from:
        request["value_range"] = shown_from
    results: list[dict[str, Any]] = []
    with progress_of("explaining", len(read) * passes) as advance:
        for name, (path, image) in zip(_stems(images), read, strict=True):
            explanation = explain_image(
                loaded, image, chosen, target=class_index, versus=other, fast=fast, on_pass=advance
            )
            stabilities = {}
            if stability:
                inputs = seen_by(loaded, image)
                stabilities = stability_of_methods(
                    loaded, inputs, chosen, explanation.scored_target, fast=fast
                )
            extra = {"stability": stability_record(stabilities)} if stability else {}
            results.append(save_explanation(explanation, out, name, {"image": str(path), **request, **extra}))
            if not as_json:
                _report(path, explanation, results[-1]["files"]["figure"])
                if stability:
                    print_rows(HEADS, stability_rows(stabilities), as_json=False)
                if profile:
                    _report_profile(explanation)
    if as_json:
        print_json(results)


DISTILL = {
    "columns": Condition(
        lambda request: request["columns"] <= request["n_steps"] + 1,
        "{n_steps} steps have one anchor more than that, and all are shown",
        "take more steps",
    ),
    "precision": ACCELERATED,
}


@command(DISTILL, epilog="Example: distillgrad distill cat.jpg --target cat --n-steps 30")
def distill(
    image: Annotated[Path, typer.Argument(help="Image file.", show_default=False)],
    model: ModelName = "cifar10-cnn",
    target: Target = None,
    n_steps: Annotated[int, typer.Option(min=1, max=10_000, help="N, distillation steps of DGA.")] = 30,
    epc_quantile: Annotated[
        float, typer.Option(help="q in (0, 1]; DGA drops the features that are extreme above it.")
    ] = 0.9,
    columns: Annotated[int, typer.Option(min=2, max=40, help="Anchors shown.")] = 8,
    value_range: ValueRangeWords = None,
    out: Out = Path("explanations"),
    accelerate: Accelerate = False,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how DGA distils an image: its anchors above their local attributions (the paper's Figure 4)."""
    from distillgrad.explanations.distillation import distil
    from distillgrad.views.records import save_distillation

    shown_from = value_range_of(value_range)
    ((path, photograph),) = _read([image], shown_from)
    loaded = load(model, device, seed)
    class_index = None if target is None else loaded.class_index(target)
    fast = faster(loaded, accelerate, precision)
    with progress_of("distilling", 2 * (n_steps + 1)) as advance:
        distilled = distil(
            loaded,
            photograph,
            target=class_index,
            n_steps=n_steps,
            epc_quantile=epc_quantile,
            fast=fast,
            on_pass=advance,
        )
    request: dict[str, Any] = {
        "image": str(path),
        "model": model,
        "seed": seed,
        "device": str(loaded.device),
    }
    if accelerate:
        request["precision"] = precision
    if shown_from:
        request["value_range"] = shown_from
    result = save_distillation(distilled, out, _stems([image])[0], request, columns)
    if as_json:
        print_json([result])
    else:
        say("{}: distilled for [b]{}[/]", path, distilled.target_name)
        say("picture: {}", result["files"]["figure"])


def _read(paths: list[Path], value_range: ValueRange | None) -> list[tuple[Path, Any]]:
    """Read all images before any work: a broken one late in the list costs nothing."""
    from distillgrad.sources.images import read_image

    return [(path, read_image(path, value_range=value_range)) for path in paths]


def _stems(paths: list[Path]) -> list[str]:
    """Return the file stems, numbered where several images share one."""
    stems = [path.stem for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[: index + 1].count(stem)}"
        for index, stem in enumerate(stems)
    ]


def _report(path: Path, explanation: Explanation, figure: str) -> None:
    best = explanation.prediction
    say("{}: [b]{}[/] ({})", path, best.names[0], f"{best.probabilities[0]:.1%}")
    if explanation.target != best.classes[0]:
        say("explained for: {} ({})", explanation.target_name, f"{explanation.probability:.1%}")
    for method, notes in explanation.notes.items():
        say("{}: {}", method, " ".join(notes))
    say("picture: {}", figure)


def _report_profile(explanation: Explanation) -> None:
    """Print seconds by method and stage, with the share of the whole and the time of one call."""
    rows = []
    for method, profiles in explanation.profiles.items():
        whole = sum(profiles.seconds.values())
        for name, seconds in sorted(profiles.seconds.items(), key=lambda each: -each[1]):
            per_call = f"{1000 * seconds / profiles.calls[name]:.2f}"
            rows.append(
                (
                    method,
                    name,
                    f"{seconds:.3f}",
                    f"{seconds / whole:.1%}",
                    str(profiles.calls[name]),
                    per_call,
                )
            )
    print_rows(("method", "stage", "seconds", "share", "calls", "ms per call"), rows, as_json=False)
