"""Commands that show: report, explore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillgrad.cli.application import (
    Debug,
    Device,
    Imports,
    Json,
    NegativeScale,
    Quantile,
    Seed,
    Steps,
    Target,
    command,
    dga_parameters,
    import_modules,
    load,
)
from distillgrad.views.terminal import print_json, progress_of, say


@command(epilog="Example: distillgrad report evaluation -o report.html --images 100")
def report(
    subject: Annotated[
        Path,
        typer.Argument(help="A run's folder, or an image file.", metavar="RUN|IMAGE", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file to write.")] = Path("report.html"),
    model: Annotated[
        str | None, typer.Option(help="Classifier; default: the run's, or cifar10-cnn for an image.")
    ] = None,
    target: Target = None,
    methods: Annotated[
        str, typer.Option(help="For an image, separated by commas.")
    ] = "dga,uniform_fullgrad,gradient_x_input",
    steps: Steps = 30,
    epc_quantile: Quantile = 0.9,
    negative_scale: NegativeScale = 0.0,
    imports: Imports = None,
    images: Annotated[int, typer.Option(min=0, help="Images of a run that are shown with their maps.")] = 24,
    order: Annotated[
        str | None,
        typer.Option(
            help="Which of them: disagreement (of maps), faithfulness (of methods), wrong (first), position; "
            "default: faithfulness where the run measured it.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one HTML file to send: an image's explanation, or a run with its leaderboard and images."""
    from distillgrad.views.report import run_report, save_report

    if subject.is_dir():
        from distillgrad.views.opened_runs.run_images import COMPARED
        from distillgrad.views.opened_runs.run_view import run_view

        import_modules(imports)
        view = run_view(subject, model)
        n_samples = len(view.samples)
        n_compared = min(COMPARED, n_samples) if (order or view.orders[0]) == "disagreement" else 0
        with progress_of("writing", n_compared + min(images, n_samples), "images") as advance:
            page = run_report(view, n_images=images, order=order, on_image=advance)
    else:
        parameters = dga_parameters(steps, epc_quantile, negative_scale)
        page = _image_page(subject, model or "cifar10-cnn", target, methods, parameters, device, seed)
    save_report(page, out)
    if as_json:
        print_json({"report": str(out), "bytes": out.stat().st_size})
    else:
        say("report: {}", out)


def _image_page(
    path: Path,
    model: str,
    target: str | None,
    methods: str,
    parameters: dict[str, float],
    device: str,
    seed: int,
) -> str:
    from distillgrad.explanations.explanation import cost_in_passes, explain, seen_by
    from distillgrad.metrics.perturbation_curves import morf_and_lerf
    from distillgrad.sources.images import read_image
    from distillgrad.views.report import image_report

    names = list(dict.fromkeys(filter(None, methods.replace(" ", "").split(","))))
    settings = {"dga": parameters}
    passes = cost_in_passes(names, settings)
    image = read_image(path)
    loaded = load(model, device, seed)
    chosen = None if target is None else loaded.class_index(target)
    with progress_of("explaining", passes) as advance:
        explanation = explain(loaded, image, names, target=chosen, parameters=settings, on_pass=advance)
    inputs = seen_by(loaded, image)
    steps = None
    if "dga" in names:
        from distillgrad.methods import create_method

        steps = create_method("dga", loaded.model, **parameters).distill(inputs, explanation.target)
    attributions = {name: each[None] for name, each in explanation.attributions.items()}
    curves = morf_and_lerf(loaded.model, inputs, explanation.target, attributions, n_steps=20)
    return image_report(explanation, str(path), model, steps=steps, display=loaded.displayable, curves=curves)


@command(epilog="Example: distillgrad explore evaluation --port 7860")
def explore(
    run: Annotated[
        Path | None, typer.Argument(help="A run's folder to look at, too.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Further classifiers to offer; only here factories and files are taken."),
    ] = None,
    imports: Imports = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; others than 127.0.0.1 let others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
    debug: Debug = False,
) -> None:
    """Look at explanations in the browser: drop a picture, compare methods, classes and a run's images."""
    from distillgrad.views.explorer.server import serve

    import_modules(imports)
    serve(run, tuple(model or ()), host, port, browser=browser, on_ready=lambda url: say("explorer: {}", url))
