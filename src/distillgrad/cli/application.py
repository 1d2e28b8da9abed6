"""The application that every command joins: how errors end, options that many share, loading a model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from distillgrad._version import __version__
from distillgrad.errors import DistillgradError, ParameterError, UnknownNameError
from distillgrad.views.terminal import complain, say, status

if TYPE_CHECKING:
    from torch import nn

    from distillgrad.sources.classifier import LoadedModel


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


def command(**settings: Any) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Registers a command whose errors become one line: exit 2 for a wrong request, 1 for failed work."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                _import_torch()
                function(*args, **kwargs)
            except (typer.Exit, typer.Abort, BrokenPipeError):  # whoever reads us may stop: no error of ours
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


def _import_torch() -> None:
    """Imports torch; an interrupt meanwhile ends the process, as it gets lost in torch's compiled start."""
    interruptible = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        import torch  # noqa: F401
    finally:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)


Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
ModelName = Annotated[str, typer.Option(help="Classifier; [b]distillgrad models[/] lists the forms.")]
Methods = Annotated[
    str,
    typer.Option(
        "--methods",
        "--method",
        help="Separated by commas, with parameters if need be: smoothgrad(n_samples=31).",
    ),
]
Target = Annotated[
    str | None, typer.Option(help="Class to explain, by name or number; default: the prediction.")
]
Steps = Annotated[int, typer.Option(min=1, max=10_000, help="N, distillation steps of DGA.")]
Quantile = Annotated[float, typer.Option(help="q in (0, 1]: above it DGA drops extreme features.")]
NegativeScale = Annotated[float, typer.Option(help="β ≥ 0, the weight of what speaks against (DGA).")]
Accelerate = Annotated[
    bool, typer.Option(help="Fold batch norms and lay memory out anew, if the result is the same.")
]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="float32; or bfloat16: faster where hardware has it, coarser.")
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import", help="Module of your own that the run's methods, metrics or data name; its code is run."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder for what is written.")]


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Options of all commands."""


def torch_device(name: str) -> Any:
    """The device that is named, ``auto`` the fastest that is there.

    Raises:
        UnknownNameError: no such kind of device.
        ParameterError: it is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name not in ("cpu", "cuda", "mps"):
        raise UnknownNameError("device", name, ("auto", "cpu", "cuda", "mps"))
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ParameterError(f"device {name!r} cannot be used here: {error}") from error


def dga_parameters(n_steps: int, epc_quantile: float, negative_scale: float) -> dict[str, Any]:
    """DGA's parameters as they are recorded: N and q always, β where it is not the default."""
    found: dict[str, Any] = {"n_steps": n_steps, "epc_quantile": epc_quantile}
    return {**found, "negative_scale": negative_scale} if negative_scale else found


def load(spec: str, device: str, seed: int) -> LoadedModel:
    """The classifier that is named, on the device that is named."""
    import torch

    from distillgrad.sources.models import load_model

    wanted = torch_device(device)
    torch.manual_seed(seed)
    with status(f"loading {spec}"):
        loaded = load_model(spec)
        loaded.model.to(wanted)
    return loaded


def import_modules(names: list[str] | None) -> None:
    """Import the modules that the user named, so that what a run names of them is known."""
    from distillgrad.core.registry import import_module

    for name in names or ():
        import_module(name)


def faster(loaded: LoadedModel, wanted: bool, precision: Any = "float32") -> nn.Module:
    """An equivalent of the model that takes less time, if wanted and there is one; else the model itself.

    Raises:
        ParameterError: none is wanted, but another precision.
        ModelError, UnknownNameError: that precision cannot be had.
    """
    if not wanted:
        if precision != "float32":
            raise ParameterError(
                f"--precision {precision} comes with acceleration: leave --no-accelerate out"
            )
        return loaded.model
    from distillgrad.runs.model import equivalent_or_itself

    return equivalent_or_itself(loaded, loaded.device, precision)
