"""The command that writes one HTML file to send: report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    Accelerate,
    Condition,
    Debug,
    Device,
    Imports,
    Json,
    Methods,
    PrecisionName,
    Seed,
    Target,
    ValueRangeWords,
    command,
    faster,
    import_modules,
    load,
    value_range_of,
)
from distillgrad.cli.terminal import print_json, progress_of, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distillgrad.methods.parsing import MethodSpecs
    from distillgrad.sources.value_range import ValueRange

DEFAULT_MODEL = "cifar10-cnn"


def _is_run(request: Mapping[str, Any]) -> bool:
    return Path(request["subject"]).is_dir()


OF_AN_IMAGE = Condition(
    lambda request: not _is_run(request), "{subject} is a run, whose maps are made already", "name an image"
)
OF_A_RUN = Condition(_is_run, "{subject} is an image, no run", "name a run's folder")
REPORT = {
    "target": OF_AN_IMAGE,
    "methods": OF_AN_IMAGE,
    "value_range": OF_AN_IMAGE,
    "accelerate": OF_AN_IMAGE,
    "precision": Condition(
        lambda request: OF_AN_IMAGE.holds(request) and ACCELERATED.holds(request),
        "a precision is that of the accelerated model which explains an image",
        "name an image, and add --accelerate",
    ),
    "images": OF_A_RUN,
    "order": Condition(
        lambda request: _is_run(request) and request["images"] > 0,
        "no image of a run is shown",
        "name a run's folder, and more --images than 0",
    ),
}


@command(REPORT, epilog="Example: distillgrad report evaluation -o report.html --images 100")
def report(
    subject: Annotated[
        Path,
        typer.Argument(help="Folder of a run, or an image file.", metavar="RUN|IMAGE", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path("report.html"),
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Classifier; [b]distillgrad models[/] lists the forms (default: the run's; {DEFAULT_MODEL} "
            "for an image)."
        ),
    ] = None,
    target: Target = None,
    methods: Methods = "dga,uniform_fullgrad,gradient_x_input",
    imports: Imports = None,
    images: Annotated[int, typer.Option(min=0, help="Images of a run that are shown with their maps.")] = 24,
    order: Annotated[
        str | None,
        typer.Option(
            help="Images of a run to show first: disagreement (of maps), faithfulness (of methods), wrong, "
            "position (default: faithfulness where the run measured it).",
            show_default=False,
        ),
    ] = None,
    value_range: ValueRangeWords = None,
    accelerate: Accelerate = False,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one HTML file to send: an image's explanation, or a run with its leaderboard and images."""
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.views.report import save_report

    import_modules(imports)
    if subject.is_dir():
        page = _page_of_run(subject, model, images, order)
    else:
        page = _page_of_image(
            subject,
            model or DEFAULT_MODEL,
            target,
            parse_methods(methods),
            value_range=value_range_of(value_range),
            accelerate=accelerate,
            precision=precision,
            device=device,
            seed=seed,
        )
    save_report(page, output)
    if as_json:
        print_json({"report": str(output), "bytes": output.stat().st_size})
    else:
        say("report: {}", output)


def _page_of_run(run: Path, model: str | None, n_images: int, order: str | None) -> str:
    from distillgrad.views.opened_runs.run_images import COMPARED
    from distillgrad.views.opened_runs.run_view import run_view
    from distillgrad.views.report import run_report

    view = run_view(run, model)
    n_samples = len(view.samples)
    n_compared = min(COMPARED, n_samples) if (order or view.orders[0]) == "disagreement" else 0
    with progress_of("writing", n_compared + min(n_images, n_samples), "images") as advance:
        return run_report(view, n_images=n_images, order=order, on_image=advance)


def _page_of_image(
    path: Path,
    model: str,
    target: str | None,
    methods: MethodSpecs,
    *,
    value_range: ValueRange | None,
    accelerate: bool,
    precision: str,
    device: str,
    seed: int,
) -> str:
    from distillgrad.explanations.distillation import distillation, n_anchors
    from distillgrad.explanations.explanation import cost_in_passes, explain
    from distillgrad.explanations.faithfulness import faithfulness
    from distillgrad.sources.images import read_image
    from distillgrad.views.report import image_report

    passes = cost_in_passes(methods)
    image = read_image(path, value_range=value_range)
    loaded = load(model, device, seed)
    class_index = None if target is None else loaded.class_index(target)
    fast = faster(loaded, accelerate, precision)
    with progress_of("explaining", passes) as advance:
        explanation = explain(loaded, image, methods, target=class_index, fast=fast, on_pass=advance)
    steps = distillation(loaded, image, explanation, fast=fast) if n_anchors(explanation) else None
    curves = faithfulness(loaded, image, explanation, fast=fast)
    return image_report(
        explanation,
        str(path),
        model,
        value_range=value_range,
        steps=steps,
        display=loaded.displayable,
        curves=curves,
    )
