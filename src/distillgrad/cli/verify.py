"""Commands on what attribute left: verify, which checks it, and repair, which mends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from distillgrad.cli.application import (
    Condition,
    Debug,
    Device,
    Imports,
    Json,
    Seed,
    command,
    import_modules,
    load,
)
from distillgrad.cli.terminal import complain, print_json, run_progress, say
from distillgrad.errors import SourceError

if TYPE_CHECKING:
    from distillgrad.sources.classifier import LoadedModel
    from distillgrad.sources.image_data import ImageData

Run = Annotated[str, typer.Argument(help="Folder or URL of a run of attribute.", show_default=False)]
Place = Annotated[str | None, typer.Option(help="Place of its images now (default: where they were).")]
Trusted = Annotated[
    str | None,
    typer.Option(help="Classifier (default: the run's, unless loading it may run code).", show_default=False),
]

ANEW = Condition(
    lambda request: request["sample"] > 0, "no image is explained anew", "take a --sample above 0"
)
VERIFY = {"data": ANEW, "model": ANEW, "imports": ANEW}
MOST_NAMED = 10


@command(VERIFY, epilog="Example: distillgrad verify run")
def verify(
    run: Run,
    data: Place = None,
    model: Trusted = None,
    imports: Imports = None,
    sample: Annotated[int, typer.Option(min=0, help="Images that are explained anew; 0: none.")] = 8,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Check a run: every checksum, every image once, and the maps of a random sample, computed anew.

    Code that the run names is run only if it is named here, too.
    """
    from distillgrad.runs.attribution.verification import verify as verify_run

    import_modules(imports)
    verification = verify_run(
        run,
        subject=(lambda: _subject_of(run, model, data, device)) if sample else None,
        n_samples=sample,
        seed=seed,
    )
    if as_json:
        print_json(asdict(verification))
    else:
        say("{} files as they were written", verification.n_files) if not verification.faults else None
        if verification.n_maps:
            say(
                "{} of {} maps came out again byte for byte; least correlation {}",
                verification.n_identical,
                verification.n_maps,
                f"{verification.least_correlation:.4f}",
            )
    for each in verification.faults[:MOST_NAMED]:
        complain(each)
    if verification.faults:
        raise typer.Exit(1)


@command(epilog="Example: distillgrad repair run")
def repair(
    run: Run,
    data: Place = None,
    model: Trusted = None,
    imports: Imports = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute again what is missing in a run or was changed, by the request that its manifest holds.

    A run that was stopped is finished. Code that the run names is run only if it is named here, too.
    """
    from distillgrad.runs.attribution.request import AttributionRequest, read_manifest
    from distillgrad.runs.attribution.runner import run_attribution
    from distillgrad.runs.attribution.verification import verify as verify_run
    from distillgrad.runs.engines.local import LocalEngine
    from distillgrad.runs.folders import folder_at
    from distillgrad.runs.manifest import MANIFEST
    from distillgrad.runs.request import from_manifest

    import_modules(imports)
    found = verify_run(run)
    for each in found.faults[:MOST_NAMED]:
        complain(each)
    if any(each.startswith(MANIFEST) for each in found.faults):
        raise SourceError(f"what was asked for is not known any more: give the command that made {run} again")
    if found.faults:
        request = from_manifest(AttributionRequest, read_manifest(folder_at(run)))
        loaded, images = _subject_of(run, model, data, "auto")
        with run_progress("repairing", len(images), quiet=as_json) as show:
            run_attribution(
                loaded, images, request, run, LocalEngine(),
                on_progress=lambda progress: show(progress.n_done, progress.n_failed),
            )  # fmt: skip
    left = verify_run(run).faults if found.faults else ()
    if as_json:
        print_json({"faults": found.faults, "left": left, "n_files": found.n_files})
    elif not left:
        say("the run is whole again" if found.faults else "{} files as they were written", found.n_files)
    for each in left[:MOST_NAMED]:
        complain(f"not mended: {each}")
    if left:
        raise typer.Exit(1)


def _subject_of(run: str, model: str | None, data: str | None, device: str) -> tuple[LoadedModel, ImageData]:
    """Return the model and the data of a run; what may run code only as it is named here.

    Raises:
        SourceError: the run names code.
    """
    from distillgrad.methods import METHODS
    from distillgrad.runs.attribution.request import AttributionRequest, read_manifest
    from distillgrad.runs.folders import folder_at
    from distillgrad.runs.request import from_manifest
    from distillgrad.sources.models import loading_may_run_code
    from distillgrad.sources.open_data import open_data
    from distillgrad.sources.own_data import may_run_code

    manifest = read_manifest(folder_at(run))
    made_from, spec = manifest["data"], manifest["model"]["from"]
    methods = from_manifest(AttributionRequest, manifest).methods
    unknown = [name for name, _ in methods.values() if name not in METHODS]
    if model is None and loading_may_run_code(spec):
        raise SourceError(f"the run's model is {spec!r}, which may run code: name it with --model")
    if unknown:
        raise SourceError(f"the run's method {unknown[0]!r} may run code: name its module with --import")
    if data is None and may_run_code(made_from["from"]):
        raise SourceError(
            f"the run's data are {made_from['from']!r}, which may run code: name them with --data"
        )
    kind = manifest["device"] if device == "auto" else device
    images = open_data(
        data or made_from["from"],
        limit=made_from["n_entries"],
        keep_broken=True,
        value_range=made_from.get("value_range"),
    )
    return load(model or spec, kind, manifest["seed"]), images
