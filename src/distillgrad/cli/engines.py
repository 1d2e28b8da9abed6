"""The options of commands over whole data sets that choose where to compute, and the engine of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distillgrad.cli.application import Condition, torch_device
from distillgrad.errors import ParameterError

if TYPE_CHECKING:
    from distillgrad.runs.engines.engine import Engine

EngineName = Annotated[
    str, typer.Option(help="Engine: local, or ray (on a cluster, or on this machine's cores).")
]
Address = Annotated[
    str | None,
    typer.Option(help="Address of the Ray cluster (default: one is started here).", show_default=False),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Ray workers (default: as many as fit).")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads per worker (default: all; 1 on Ray).")]
Gpus = Annotated[float, typer.Option(min=0, help="GPUs, or a part of one, for each Ray worker.")]

RAY = Condition(lambda request: request["engine"] == "ray", "the engine is {engine}", "add --engine ray")


def engine_of(name: str, address: str | None, workers: int | None, gpus: float) -> Engine:
    """Return the engine that the options ask for; nothing is started yet.

    Raises:
        ParameterError: there is none of that name.
    """
    if name == "local":
        from distillgrad.runs.engines.local import LocalEngine

        return LocalEngine()
    if name != "ray":
        raise ParameterError(f"engine must be local or ray, not {name!r}")
    from distillgrad.runs.engines.ray import RayEngine

    return RayEngine(address, workers, gpus)


def kind_of_device(engine: str, device: str, gpus: float) -> str:
    """Return the kind of device that workers compute on; the local engine's is one that is here."""
    if engine == "local" or device != "auto":
        kind: str = torch_device(device).type
        return kind
    return "cuda" if gpus else "cpu"
