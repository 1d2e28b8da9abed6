"""The command that makes the paper's tables and figures anew: paper."""

from __future__ import annotations

import shlex
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    Accelerate,
    Condition,
    CurveSteps,
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
    Target,
    command,
    faster,
    load,
    torch_device,
)
from distillgrad.cli.terminal import complain, print_json, print_rows, say, status
from distillgrad.errors import UnknownNameError
from distillgrad.paper.registry import EXHIBITS
from distillgrad.sources.layouts import DATA_HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distillgrad.paper.exhibit import Setting


def _exhibits(words: Sequence[str]) -> list[str]:
    """Return the exhibits that are to be made; none for ``list`` and ``index``."""
    return list(EXHIBITS) if "all" in words else [name for name in words if name not in ("list", "index")]


def _read_by_an_exhibit(setting: str) -> Callable[[Mapping[str, Any]], bool]:
    def holds(request: Mapping[str, Any]) -> bool:
        entries = [EXHIBITS[name] for name in _exhibits(request["what"]) if name in EXHIBITS]
        if request["roar_run"] is not None and setting in ("methods", "roar_data"):
            entries = [each for each in entries if each.name != "figure-5"]  # it is made already
        return any(setting in each.settings for each in entries)

    return holds


def _read(setting: str) -> Condition:
    readers = [each.name for each in EXHIBITS.values() if setting in each.settings]
    but = ", where --roar-run is not given" if setting in ("methods", "roar_data") else ""
    return Condition(
        _read_by_an_exhibit(setting),
        f"of the exhibits it is read by {', '.join(readers)} alone{but}",
        "make one of these",
    )


MADE = Condition(
    lambda request: request["what"] != ["list"], "list makes nothing", "name an exhibit, all or index"
)
READ = (
    "model",
    "data",
    "limit",
    "methods",
    "target",
    "roar_data",
    "roar_run",
    "n_steps",
    "n_masks",
    "accelerate",
)
PAPER = {
    **{setting: _read(setting) for setting in READ},
    "precision": Condition(
        lambda request: _read_by_an_exhibit("precision")(request) and ACCELERATED.holds(request),
        "only exhibits made from images read it, and only accelerated",
        "make one of these, with --accelerate",
    ),
    "out": MADE,
    "page": MADE,
}


@command(PAPER, epilog="Example: distillgrad paper all")
def paper(
    what: Annotated[
        list[str], typer.Argument(help="list, all, index, or exhibits such as table-1.", show_default=False)
    ],
    model: ModelName = "cifar10-cnn",
    data: Annotated[
        str,
        typer.Option(help=f"photographs: always there. {DATA_HELP}"),
    ] = "photographs",
    limit: Limit = None,
    methods: Methods = "",
    target: Target = None,
    roar_data: Annotated[
        str, typer.Option(help="Data of Figure 5: digits, cifar10:FOLDER, or a folder, as for roar.")
    ] = "digits",
    roar_run: Annotated[
        Path | None,
        typer.Option(help="Folder of a finished run of roar, to make Figure 5 of.", show_default=False),
    ] = None,
    n_steps: CurveSteps = 20,
    n_masks: Masks = 100,
    out: RunFolder = Path("paper"),
    page: Annotated[
        Path | None,
        typer.Option(help="Markdown page of all exhibits to write, with pictures.", show_default=False),
    ] = None,
    accelerate: Accelerate = True,
    precision: PrecisionName = "float32",
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the paper's tables and figures anew, and say which of its claims hold."""
    if what == ["list"]:
        rows = [(each.name, each.title, each.source or "beyond it", each.needs) for each in EXHIBITS.values()]
        print_rows(("exhibit", "what it is", "in the paper", "needs"), rows, as_json)
        return
    names = _exhibits(what)
    for name in names:
        if name not in EXHIBITS:
            raise UnknownNameError("exhibit", name, ("list", "all", "index", *EXHIBITS))
    from distillgrad.paper.exhibit import Setting
    from distillgrad.paper.index import save_index, save_page
    from distillgrad.runs.folders import alone_in, folder_at, swept

    def classifier() -> Any:
        loaded = load(model, device, seed)
        return loaded, faster(loaded, accelerate, precision)

    setting = Setting(
        load=classifier,
        out=out,
        model=model,
        data=data,
        limit=limit,
        methods=methods,
        target=target,
        roar_data=roar_data,
        roar_run=roar_run,
        n_steps=n_steps,
        n_masks=n_masks,
        precision=precision,  # type: ignore[arg-type]  # checked where it is used
        seed=seed,
        roar_device=torch_device(device),
    )
    records = []
    folder = folder_at(out)
    try:
        with alone_in(folder), swept(folder, ("",)):
            for name in names:
                with status(f"making {name}"):
                    records.append(_made(name, setting))
                if not as_json:
                    seconds = f"{records[-1]['circumstances']['seconds']:.0f}"
                    say("[b]{}[/] ({} s): {}", name, seconds, records[-1]["findings"][0])
    except KeyboardInterrupt:
        if records:
            save_index(out)
        complain(f"stopped; what is finished is kept in {out}, and the same command goes on from there")
        raise typer.Exit(130) from None
    index = save_index(out)
    if page is not None:
        save_page(out, page)
    if as_json:
        print_json({"exhibits": records, "index": str(index)})
        return
    say("all of it on one page: {}", index)


def _made(name: str, setting: Setting) -> dict[str, Any]:
    from distillgrad.paper.exhibit import RECORD, read_exhibit, save_exhibit
    from distillgrad.views.records import versions

    began = time.perf_counter()
    exhibit = EXHIBITS[name].make(setting)
    seconds, made_by = time.perf_counter() - began, _command(name, setting)
    if (setting.folder(name) / RECORD).is_file():
        _, before = read_exhibit(setting.folder(name))
        if before["command"] == made_by:  # what was measured then was not measured again
            seconds = max(seconds, before["seconds"])
    circumstances = {
        "command": made_by,
        "model": setting.model,
        "data": setting.data,
        "seed": setting.seed,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seconds": seconds,
        "versions": versions(),
    }
    return save_exhibit(exhibit, setting.folder(name), circumstances)


def _command(name: str, setting: Setting) -> str:
    """Return the command that makes the exhibit anew, but for its folder."""
    from dataclasses import fields

    options = []
    for field in fields(setting):
        value = getattr(setting, field.name)
        if field.name in ("seed", *EXHIBITS[name].settings) and value != field.default:
            options += [f"--{field.name.replace('_', '-')}", shlex.quote(str(value))]
    return " ".join(["distillgrad paper", name, *options])
