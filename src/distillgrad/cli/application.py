"""The application that every command joins: how errors end, what is refused, loading a model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import typer
from typer.core import TyperCommand

from distillgrad._version import __version__
from distillgrad.cli.terminal import complain, in_words, say, status
from distillgrad.errors import DistillgradError, ParameterError, UnknownNameError, WriteError
from distillgrad.sources.layouts import DATA_HELP

if TYPE_CHECKING:
    from torch import nn

    from distillgrad.metrics.removal import Baseline
    from distillgrad.sources.classifier import LoadedModel
    from distillgrad.sources.value_range import ValueRange


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

UNIVERSAL = ("seed", "device", "as_json", "debug")
"""Options that every command which has them accepts, whatever else is asked for."""

Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class Condition:
    """The requests in which an option has an effect; in any other it is refused.

    Attributes:
        holds: Takes the request, the values of all parameters by name.
        reason: Why the option does nothing otherwise; may name values: ``{model}``.
        mend: What to change, beside leaving it out.
    """

    holds: Callable[[Mapping[str, Any]], bool]
    reason: str
    mend: str = ""


class Command(TyperCommand):
    """A command whose errors become one line: exit 2 for a wrong request, 1 for work that failed.

    A disk without room, or one that must not be written to, is no fault of the request.

    Attributes:
        conditions: By parameter, the requests in which it has an effect; the others always have.
    """

    conditions: ClassVar[Mapping[str, Condition]] = {}

    def invoke(self, ctx: Any) -> Any:
        """Run the command, unless it was given an option that would do nothing."""
        try:
            _import_torch()
            self._refuse_options_without_effect(ctx)
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # whoever reads us may stop: no error of ours
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            complain(in_words(error))
            wrong_request = isinstance(error, DistillgradError) and not isinstance(error, WriteError)
            raise typer.Exit(2 if wrong_request else 1) from error

    def _refuse_options_without_effect(self, ctx: Any) -> None:
        for parameter in self.params:
            condition = self.conditions.get(str(parameter.name))
            source = ctx.get_parameter_source(parameter.name)
            if condition is None or source is None or source.name != "COMMANDLINE":
                continue
            if not condition.holds(ctx.params):
                switched_off = ctx.params[parameter.name] is False and parameter.secondary_opts
                option = (parameter.secondary_opts if switched_off else parameter.opts)[0]
                mend = f"{condition.mend}, or leave it out" if condition.mend else "leave it out"
                raise ParameterError(
                    f"{option} does nothing here: {condition.reason.format(**ctx.params)}; {mend}"
                )


def command(
    conditions: Mapping[str, Condition] | None = None, **settings: Any
) -> Callable[[Function], Function]:
    """Return a decorator that adds a function to the application as a command.

    Args:
        conditions: By parameter of the function, the requests in which that option has an effect.
        settings: As for ``typer.Typer.command``.
    """
    kind = type("Command", (Command,), {"conditions": dict(conditions or {})})
    return app.command(cls=kind, **settings)


def _import_torch() -> None:
    """Import torch; an interrupt meanwhile ends the process, as it gets lost in torch's compiled start."""
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
Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda or mps.")]
ModelName = Annotated[str, typer.Option(help="Classifier; [b]distillgrad models[/] lists the forms.")]
Methods = Annotated[
    str,
    typer.Option(help="Methods separated by commas, with parameters if need be: smoothgrad(n_samples=31)."),
]
Target = Annotated[
    str | None, typer.Option(help="Class to explain, by name or number (default: the predicted one).")
]
Accelerate = Annotated[
    bool,
    typer.Option(help="Explain a faster equivalent of the model: batch norms folded, memory laid out anew."),
]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="float32; or bfloat16: faster where hardware has it, coarser.")
]
Data = Annotated[
    str,
    typer.Argument(help=DATA_HELP, show_default=False),
]
RunFolder = Annotated[Path, typer.Option(help="Folder of the run; the same request goes on in it.")]
BaselineName = Annotated[str, typer.Option(help="Stand-in for removed pixels: a number, mean, blur or road.")]
ValueRangeWords = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="LOW,HIGH",
        help="Values of image files that are black and white: 0,4095 for 12 bits (default: by their type).",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Number of images to take (of each part, where data has several).")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images explained at a time; measured where no default is shown.")
]
CurveSteps = Annotated[int, typer.Option("--n-steps", min=1, help="Steps of the MoRF and LeRF curves.")]
Masks = Annotated[
    int, typer.Option("--n-masks", min=2, help="Masks per share of the pixels in sensitivity-n.")
]
Imports = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        help="Module of your own that the run's methods, metrics or data name; its code is run.",
        show_default=False,
    ),
]

ACCELERATED = Condition(
    lambda request: request["accelerate"],
    "a precision is the accelerated model's",
    "add --accelerate",
)
LAYERWISE = Condition(
    lambda request: not all_layerwise(request["methods"]),
    "each of these methods looks at layers, and gets the model as it was made",
    "name another method too",
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of all commands."""


def all_layerwise(words: str) -> bool:
    """Return whether each of the methods named looks at layers, which acceleration changes.

    Raises:
        ParameterError, UnknownNameError: as :func:`~distillgrad.methods.parsing.parse_methods`.
    """
    from distillgrad.methods import find_method
    from distillgrad.methods.parsing import parse_methods

    return all(find_method(name).layerwise for name, _ in parse_methods(words).values())


def baseline_of(words: str) -> Baseline:
    """Return the stand-in for removed pixels that is named.

    Raises:
        ParameterError: neither a number nor the name of one.
    """
    from distillgrad.metrics.removal import IMPUTATIONS

    try:
        return next((each for each in IMPUTATIONS if each == words), None) or float(words)
    except ValueError as error:
        raise ParameterError(
            f"baseline must be a number or one of {', '.join(IMPUTATIONS)}, not {words!r}"
        ) from error


def value_range_of(words: str | None) -> ValueRange | None:
    """Return the range of values that is named, if one is.

    Raises:
        ParameterError: it is not two numbers, the lower first.
    """
    from distillgrad.sources.value_range import parse_range

    return None if words is None else parse_range(words)


def torch_device(name: str) -> Any:
    """Return the device that is named, for ``auto`` the fastest that is there.

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


def load(spec: str, device: str, seed: int) -> LoadedModel:
    """Return the classifier that is named, on the device that is named."""
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
    """Return an equivalent of the model that takes less time, if wanted and there is one; else the model.

    Raises:
        ModelError, UnknownNameError: that precision cannot be had.
    """
    if not wanted:
        return loaded.model
    from distillgrad.runs.model import equivalent_or_itself

    return equivalent_or_itself(loaded, loaded.device, precision)
