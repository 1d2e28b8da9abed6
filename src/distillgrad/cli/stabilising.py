"""The command that says which maps can be trusted to the pixel: stability."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillgrad.cli.application import Debug, Device, Json, Seed, command, device_of, load
from distillgrad.errors import ParameterError
from distillgrad.views.terminal import print_json, print_rows, progress_of, say


@command(epilog="Example: distillgrad stability --models cifar10-cnn --data photos --limit 10")
def stability(
    data: Annotated[list[Path], typer.Option(help="Images; once, or once for each model.")],
    models: Annotated[str, typer.Option(help="Classifiers, separated by commas.")] = "cifar10-cnn",
    methods: Annotated[str, typer.Option(help="Separated by commas, or [b]all[/].")] = "all",
    limit: Annotated[int, typer.Option(min=1, help="Images for each model.")] = 10,
    out: Annotated[Path, typer.Option(help="Markdown file for the tables.")] = Path("stability.md"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how far methods agree with themselves in another precision, batch, or under jitter."""
    import torch

    from distillgrad.methods import METHODS
    from distillgrad.methods.spelling import methods_of
    from distillgrad.runs.files import written_whole
    from distillgrad.sources.datasets import open_data
    from distillgrad.views.agreement import HEADS, agreement_rows, agreements, markdown_of, record_of

    chosen = methods_of(",".join(METHODS) if methods == "all" else methods)
    specs = [each.strip() for each in models.split(",") if each.strip()]
    if len(data) not in (1, len(specs)):
        raise ParameterError(f"{len(data)} --data for {len(specs)} models: give it once, or for each model")
    opened = [open_data(each, limit=limit) for each in (data * len(specs) if len(data) == 1 else data)]
    pages, records = [], {}
    for spec, images in zip(specs, opened, strict=True):
        loaded = load(spec, device, seed)
        inputs = torch.stack([loaded.preprocess(images[place].image) for place in range(len(images))])
        with progress_of(f"explaining {spec}", len(chosen), "methods") as advance:
            found = agreements(loaded, inputs.to(device_of(loaded)), chosen, on_method=advance)
        pages.append(f"## {loaded.name}, {len(images)} images\n\n{markdown_of(found)}")
        records[spec] = record_of(found)
        if not as_json:
            say("[b]{}[/], {} images", spec, len(images))
            print_rows(HEADS, agreement_rows(found), as_json=False)
        with written_whole(out) as file:
            file.write("\n".join(pages).encode())
    if as_json:
        print_json(records)
    else:
        say("tables: {}", out)
