"""The command that says which maps can be trusted to the pixel: stability."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from distillgrad.cli.application import (
    ACCELERATED,
    LAYERWISE,
    Accelerate,
    Condition,
    Debug,
    Device,
    Json,
    Methods,
    PrecisionName,
    Seed,
    ValueRangeWords,
    command,
    faster,
    load,
    value_range_of,
)
from distillgrad.cli.terminal import complain, print_json, print_rows, progress_of, say
from distillgrad.errors import ParameterError
from distillgrad.sources.layouts import DATA_HELP

PAGE = "stability.md"
N_IMAGES = 10


def _some_accelerated(request: Mapping[str, Any]) -> bool:
    return request["methods"] == "all" or LAYERWISE.holds(request)


STABILITY = {
    "accelerate": Condition(_some_accelerated, LAYERWISE.reason, LAYERWISE.mend),
    "precision": ACCELERATED,
}


@command(STABILITY, epilog="Example: distillgrad stability photos --models cifar10-cnn --limit 10")
def stability(
    data: Annotated[
        list[str],
        typer.Argument(
            help=f"{DATA_HELP} Once, or once for each model.",
            show_default=False,
        ),
    ],
    models: Annotated[str, typer.Option(help="Classifiers separated by commas.")] = "cifar10-cnn",
    methods: Methods = "all",
    limit: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help=f"Number of images to take (default: {N_IMAGES}); once, or once for each model."
        ),
    ] = None,
    value_range: ValueRangeWords = None,
    out: Annotated[
        Path, typer.Option(help=f"Folder for {PAGE} and its values (.json); the same request goes on in it.")
    ] = Path("stability"),
    accelerate: Accelerate = False,
    precision: PrecisionName = "float32",
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
    from distillgrad.runs.folders import alone_in, folder_at, swept
    from distillgrad.sources.model_inputs import preprocessed
    from distillgrad.sources.open_data import open_data
    from distillgrad.views.stability import HEADS, stability_record, stability_rows
    from distillgrad.views.stability_record import StabilityRecord, StabilityTable, key_of, write_page

    chosen = parse_methods(",".join(METHODS) if methods == "all" else methods)
    specs = [each.strip() for each in models.split(",") if each.strip()]
    paths = _for_each(data, specs, "DATA")
    limits = _for_each(limit or [N_IMAGES], specs, "--limit")
    page = out / PAGE
    shown_from = value_range_of(value_range)
    opened = [
        open_data(path, limit=number, value_range=shown_from)
        for path, number in zip(paths, limits, strict=True)
    ]
    records = {}
    folder = folder_at(out)
    with alone_in(folder), swept(folder, ()):
        kept = StabilityRecord(page)
        subjects: list[StabilityTable] = []
        for spec, images in zip(specs, opened, strict=True):
            loaded = load(spec, device, seed)
            fast = faster(loaded, accelerate, precision) if accelerate else None
            inputs = torch.stack([preprocessed(loaded, sample.image) for sample in images])
            known = kept.known(key_of(loaded, inputs, precision if accelerate else ""))
            subjects.append(StabilityTable(loaded, inputs, known, fast, precision if accelerate else ""))
        write_page(page, subjects, chosen)
        for spec, subject in zip(specs, subjects, strict=True):
            inputs = subject.inputs.to(subject.loaded.device)
            missing = {label: each for label, each in chosen.items() if label not in subject.stabilities}
            try:
                with progress_of(f"explaining {spec}", len(missing), "methods") as advance:
                    for label, method in missing.items():
                        subject.stabilities |= stability_of_methods(
                            subject.loaded, inputs, {label: method}, fast=subject.fast
                        )
                        kept.keep(subject, label)
                        write_page(page, subjects, chosen)
                        advance()
            except KeyboardInterrupt:
                complain(f"stopped; what is measured is in {out}, and the same command goes on from there")
                raise typer.Exit(130) from None
            measured = {label: subject.stabilities[label] for label in chosen}
            records[spec] = stability_record(measured)
            if not as_json:
                say("[b]{}[/], {} images", spec, len(inputs))
                print_rows(HEADS, stability_rows(measured), as_json=False)
    if as_json:
        print_json(records)
    else:
        say("tables: {}", page)


def _for_each(values: list[Any], models: list[str], option: str) -> list[Any]:
    """Return a value for each model.

    Raises:
        ParameterError: neither one for all nor one for each is given.
    """
    if len(values) not in (1, len(models)):
        raise ParameterError(
            f"{len(values)} {option} for {len(models)} models: give it once, or for each model"
        )
    return values * len(models) if len(values) == 1 else values
