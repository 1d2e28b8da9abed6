"""The command line: parses, calls, prints. Whatever takes long to import is imported where work starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from distillgrad import __version__
from distillgrad.errors import DistillgradError, ParameterError, UnknownNameError
from distillgrad.views.terminal import complain, print_json, print_rows, progress_of, say, status

if TYPE_CHECKING:
    from distillgrad.sources.classifier import LoadedModel
    from distillgrad.views.explanation import Explanation


def _print_version(value: bool) -> None:
    if value:
        say("distillgrad {}", __version__)
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Explain what an image classifier looked at, and know whether to believe the explanation.",
)

P = ParamSpec("P")


def _command(**settings: Any) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Registers a command whose errors become one line: exit 2 for a wrong request, 1 for failed work."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                if kwargs.get("debug"):
                    raise
                request = isinstance(error, DistillgradError)
                words = str(error) if request else f"{type(error).__name__}: {error}; --debug shows where"
                complain(words)
                raise typer.Exit(2 if request else 1) from error

        app.command(**settings)(run)
        return run

    return register


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
ModelName = Annotated[str, typer.Option(help="Classifier; [b]distillgrad models[/] lists the forms.")]
Target = Annotated[
    str | None, typer.Option(help="Class to explain, by name or number; default: the prediction.")
]
Steps = Annotated[int, typer.Option(min=1, max=10_000, help="N, distillation steps of DGA.")]
Quantile = Annotated[float, typer.Option(help="q in (0, 1]: above it DGA drops extreme features.")]
Out = Annotated[Path, typer.Option(help="Folder for what is written.")]


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Options of all commands."""


@_command(epilog="Example: distillgrad demo")
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
        compare="uniform_fullgrad,gradient_x_input",
        out=out,
        seed=seed,
        device=device,
        as_json=as_json,
    )


@_command(epilog="Example: distillgrad explain cat.jpg --target cat --compare uniform_fullgrad")
def explain(
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    model: ModelName = "cifar10-cnn",
    target: Target = None,
    method: Annotated[str, typer.Option(help="[b]distillgrad methods[/] lists them.")] = "dga",
    compare: Annotated[str, typer.Option(help="Further methods, separated by commas.")] = "",
    steps: Steps = 30,
    epc_quantile: Quantile = 0.9,
    out: Out = Path("explanations"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where a classifier looked: a figure, the raw attribution (.npy) and a record (.json) per image."""
    methods = list(dict.fromkeys([method, *filter(None, compare.replace(" ", "").split(","))]))
    from distillgrad.views.explanation import cost_in_passes
    from distillgrad.views.explanation import explain as explain_image
    from distillgrad.views.records import save_explanation

    parameters = {"dga": {"n_steps": steps, "epc_quantile": epc_quantile}}
    passes = cost_in_passes(methods, parameters)  # and a wrong request ends here
    read = _read(images)
    loaded = _load(model, device, seed)
    chosen = None if target is None else loaded.class_index(target)
    request = {"model": model, "seed": seed, "device": str(_device_of(loaded))}
    results: list[dict[str, Any]] = []
    with progress_of("explaining", len(read) * passes) as advance:
        for name, (path, image) in zip(_stems(images), read, strict=True):
            explanation = explain_image(
                loaded, image, methods, target=chosen, parameters=parameters, on_pass=advance
            )
            results.append(save_explanation(explanation, out, name, {"image": str(path), **request}))
            if not as_json:
                _report(path, explanation, results[-1]["files"]["figure"])
    if as_json:
        print_json(results)


@_command(epilog="Example: distillgrad distill cat.jpg --target cat --steps 30")
def distill(
    image: Annotated[Path, typer.Argument(help="Image file.", show_default=False)],
    model: ModelName = "cifar10-cnn",
    target: Target = None,
    steps: Steps = 30,
    epc_quantile: Quantile = 0.9,
    columns: Annotated[int, typer.Option(min=2, max=40, help="Anchors shown.")] = 8,
    out: Out = Path("explanations"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how DGA distils an image: its anchors above their local attributions (the paper's Figure 4)."""
    from distillgrad.views.distillation import distil
    from distillgrad.views.records import save_distillation

    ((path, photograph),) = _read([image])
    loaded = _load(model, device, seed)
    chosen = None if target is None else loaded.class_index(target)
    with progress_of("distilling", 2 * (steps + 1)) as advance:
        distilled = distil(
            loaded,
            photograph,
            target=chosen,
            n_steps=steps,
            epc_quantile=epc_quantile,
            on_pass=advance,
        )
    request = {"image": str(path), "model": model, "seed": seed, "device": str(_device_of(loaded))}
    result = save_distillation(distilled, out, _stems([image])[0], request, columns)
    if as_json:
        print_json([result])
    else:
        say("{}: distilled for [b]{}[/]", path, distilled.target_name)
        say("picture: {}", result["files"]["figure"])


@_command(epilog="Example: distillgrad methods --json")
def methods(as_json: Json = False, debug: Debug = False) -> None:
    """List the attribution methods: what they cost, what they return, where they come from."""
    from distillgrad.methods import METHODS

    rows = [
        (name, method.cost, "yes" if method.signed else "no", method.result, method.source)
        for name, method in METHODS.items()
    ]
    print_rows(("method", "cost per image", "signed", "values for", "source"), rows, as_json)


@_command(epilog="Example: distillgrad models resnet")
def models(
    pattern: Annotated[
        str, typer.Argument(help="List torchvision's and timm's models with this in their name.")
    ] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the forms of model names, or the names that contain a pattern."""
    from distillgrad.sources.models import KINDS, known_models

    if not pattern:
        print_rows(("model", "what it is"), list(KINDS.items()), as_json)
        return
    found = known_models(pattern)
    if not found:
        raise UnknownNameError("model", pattern, known_models(""))
    print_rows(("model",), [(name,) for name in found], as_json)


def _read(paths: list[Path]) -> list[tuple[Path, Any]]:
    """All images before any work: a broken one late in the list costs nothing."""
    from distillgrad.sources.images import read_image

    return [(path, read_image(path)) for path in paths]


def _stems(paths: list[Path]) -> list[str]:
    """File stems, numbered where several images share one."""
    stems = [path.stem for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[: index + 1].count(stem)}"
        for index, stem in enumerate(stems)
    ]


def _load(spec: str, device: str, seed: int) -> LoadedModel:
    import torch

    from distillgrad.sources.models import load_model

    if device == "auto":
        device = "cpu"
        if torch.cuda.is_available():
            device = "cuda"
        elif torch.backends.mps.is_available():
            device = "mps"
    elif device not in ("cpu", "cuda", "mps"):
        raise UnknownNameError("device", device, ("auto", "cpu", "cuda", "mps"))
    torch.manual_seed(seed)
    with status(f"loading {spec}"):
        loaded = load_model(spec)
        try:
            loaded.model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ParameterError(f"device {device!r} cannot be used here: {error}") from error
    return loaded


def _device_of(loaded: LoadedModel) -> Any:
    return next((each.device for each in loaded.model.parameters()), "cpu")


def _report(path: Path, explanation: Explanation, figure: str) -> None:
    best = explanation.prediction
    say("{}: [b]{}[/] ({})", path, best.names[0], f"{best.probabilities[0]:.1%}")
    if explanation.target != best.classes[0]:
        say("explained for: {} ({})", explanation.target_name, f"{explanation.probability:.1%}")
    say("picture: {}", figure)


if __name__ == "__main__":
    app()
