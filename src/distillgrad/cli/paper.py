"""The command that makes the paper's tables and figures anew: paper."""

from __future__ import annotations

import shlex
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distillgrad.cli.application import (
    Accelerate,
    Debug,
    Device,
    Json,
    ModelName,
    Seed,
    command,
    faster,
    load,
    torch_device,
)
from distillgrad.errors import UnknownNameError
from distillgrad.paper.registry import EXHIBITS
from distillgrad.views.terminal import complain, print_json, print_rows, say, status

if TYPE_CHECKING:
    from distillgrad.paper.exhibit import Setting


@command(epilog="Example: distillgrad paper all")
def paper(
    what: Annotated[
        list[str], typer.Argument(help="list, all, index, or exhibits such as table-1.", show_default=False)
    ],
    model: ModelName = "cifar10-cnn",
    data: Annotated[
        str, typer.Option(help="photographs (always there), or as for evaluate: a folder, a Parquet file.")
    ] = "photographs",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many images; default: as suits each.")
    ] = None,
    methods: Annotated[str, typer.Option(help="As for evaluate; default: the paper's.")] = "",
    target: Annotated[str | None, typer.Option(help="Class of Figure 4; default: the prediction.")] = None,
    roar_data: Annotated[str, typer.Option(help="Data of Figure 5, as for roar.")] = "digits",
    roar_run: Annotated[
        Path | None, typer.Option(help="Figure 5 of this finished run of roar instead of a new one.")
    ] = None,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the MoRF and LeRF curves.")] = 20,
    n_masks: Annotated[int, typer.Option(min=2, help="Masks per share of sensitivity-n.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder; the same request goes on in it.")] = Path("paper"),
    page: Annotated[
        Path | None, typer.Option(help="With index: also a Markdown page to publish, and its pictures.")
    ] = None,
    accelerate: Accelerate = True,
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
    names = [name for name in what if name not in ("all", "index")]
    for name in names:
        if name not in EXHIBITS:
            raise UnknownNameError("exhibit", name, ("list", "all", "index", *EXHIBITS))
    if "all" in what:
        names = list(EXHIBITS)
    from distillgrad.paper.exhibit import Setting
    from distillgrad.paper.index import save_index, save_page

    def classifier() -> Any:
        loaded = load(model, device, seed)
        return loaded, faster(loaded, accelerate)

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
        seed=seed,
        roar_device=torch_device(device),
    )
    records = []
    try:
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
    seconds, asked = time.perf_counter() - began, _command(name, setting)
    if (setting.folder(name) / RECORD).is_file():
        _, before = read_exhibit(setting.folder(name))
        if before["command"] == asked:  # what was measured then was not measured again
            seconds = max(seconds, before["seconds"])
    circumstances = {
        "command": asked,
        "model": setting.model,
        "data": setting.data,
        "seed": setting.seed,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seconds": seconds,
        "versions": versions(),
    }
    return save_exhibit(exhibit, setting.folder(name), circumstances)


def _command(name: str, setting: Setting) -> str:
    """What makes the exhibit anew, but for its folder."""
    from dataclasses import fields

    asked = []
    for field in fields(setting):
        value = getattr(setting, field.name)
        if field.name not in ("load", "out", "roar_device") and value != field.default:
            asked += [f"--{field.name.replace('_', '-')}", shlex.quote(str(value))]
    return " ".join(["distillgrad paper", name, *asked])
