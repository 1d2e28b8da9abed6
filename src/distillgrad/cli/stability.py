"""The command that says which maps can be trusted to the pixel: stability."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillgrad.cli.application import Debug, Device, Json, Seed, command, load
from distillgrad.errors import ParameterError
from distillgrad.views.terminal import complain, print_json, print_rows, progress_of, say


@command(epilog="Example: distillgrad stability --models cifar10-cnn --data photos --limit 10")
def stability(
    data: Annotated[list[Path], typer.Option(help="Images; once, or once for each model.")],
    models: Annotated[str, typer.Option(help="Classifiers, separated by commas.")] = "cifar10-cnn",
    methods: Annotated[str, typer.Option(help="Separated by commas, or [b]all[/].")] = "all",
    limit: Annotated[
        list[int] | None, typer.Option(min=1, help="Images (10); once, or once for each model.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Markdown file for the tables; values go to .json beside it.")
    ] = Path("stability.md"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how far methods agree with themselves in another precision, batch, or under jitter.

    What was measured is kept and tabled, method by method: the same command goes on where it was stopped.
    """
    import torch

    from distillgrad.explanations.stability import stability_of_methods
    from distillgrad.methods import METHODS
    from distillgrad.methods.parsing import parse_methods
    from distillgrad.sources.open_data import open_data
    from distillgrad.views.stability import HEADS, stability_record, stability_rows
    from distillgrad.views.stability_record import StabilityRecord, Subject, key_of, write_page

    chosen = parse_methods(",".join(METHODS) if methods == "all" else methods)
    specs = [each.strip() for each in models.split(",") if each.strip()]
    limits = limit or [10]
    for option, given in (("--data", len(data)), ("--limit", len(limits))):
        if given not in (1, len(specs)):
            raise ParameterError(f"{given} {option} for {len(specs)} models: give it once, or for each model")
    kept = StabilityRecord(out)
    paths = data * len(specs) if len(data) == 1 else data
    numbers = limits * len(specs) if len(limits) == 1 else limits
    opened = [open_data(path, limit=number) for path, number in zip(paths, numbers, strict=True)]
    subjects: list[Subject] = []
    for spec, images in zip(specs, opened, strict=True):
        loaded = load(spec, device, seed)
        inputs = torch.stack([loaded.preprocess(images[place].image) for place in range(len(images))])
        subjects.append(Subject(loaded, inputs, kept.known(key_of(loaded, inputs))))
    write_page(out, subjects, chosen)
    records = {}
    for spec, subject in zip(specs, subjects, strict=True):
        inputs = subject.inputs.to(subject.loaded.device)
        missing = {label: each for label, each in chosen.items() if label not in subject.found}
        try:
            with progress_of(f"explaining {spec}", len(missing), "methods") as advance:
                for label, asked in missing.items():
                    subject.found |= stability_of_methods(subject.loaded, inputs, {label: asked})
                    kept.keep(subject, label)
                    write_page(out, subjects, chosen)
                    advance()
        except KeyboardInterrupt:
            complain(f"stopped; what is measured is in {kept.path}, and the same command goes on from there")
            raise typer.Exit(130) from None
        found = {label: subject.found[label] for label in chosen}
        records[spec] = stability_record(found)
        if not as_json:
            say("[b]{}[/], {} images", spec, len(inputs))
            print_rows(HEADS, stability_rows(found), as_json=False)
    if as_json:
        print_json(records)
    else:
        say("tables: {}", out)
