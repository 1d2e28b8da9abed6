"""Commands that list what there is: methods, metrics, models."""

from __future__ import annotations

from typing import Annotated

import typer

from distillgrad.cli.application import Debug, Json, command
from distillgrad.cli.terminal import print_rows
from distillgrad.errors import UnknownNameError


@command(epilog="Example: distillgrad methods --json")
def methods(as_json: Json = False, debug: Debug = False) -> None:
    """List the attribution methods: what they cost, what they return, where they come from."""
    from distillgrad.methods import METHODS

    rows = [
        (name, method.cost, "yes" if method.signed else "no", method.result, method.source)
        for name, method in METHODS.items()
    ]
    print_rows(("method", "cost per image", "signed", "values for", "source"), rows, as_json)


@command(epilog="Example: distillgrad models resnet")
def models(
    pattern: Annotated[
        str, typer.Argument(help="Part of the names of torchvision's and timm's models to list.")
    ] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the forms of model names, or the names that contain a pattern."""
    from distillgrad.sources.models import KINDS, known_models

    if not pattern:
        print_rows(("model", "what it is"), list(KINDS.items()), as_json)
        return
    matching = known_models(pattern)
    if not matching:
        names = [name.partition(":")[2] or name for name in known_models("")]  # a typo is near to these
        raise UnknownNameError("model", pattern, names)
    print_rows(("model",), [(name,) for name in matching], as_json)


@command(epilog="Example: distillgrad metrics")
def metrics(as_json: Json = False, debug: Debug = False) -> None:
    """List the metrics of explanations: which direction is better, what they cost, where they come from."""
    from distillgrad.metrics import METRICS

    rows = [
        (name, metric.better, metric.cost, metric.needs, metric.source) for name, metric in METRICS.items()
    ]
    print_rows(("metric", "better", "cost per image and method", "needs", "source"), rows, as_json)
