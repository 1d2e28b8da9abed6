"""The folder of a run, opened to be looked at, whichever command wrote it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from distillgrad.errors import SourceError
from distillgrad.runs.kinds import ATTRIBUTIONS, EVALUATION, open_manifest
from distillgrad.views.opened_runs.attributions_view import attributions_view
from distillgrad.views.opened_runs.evaluation_view import evaluation_view
from distillgrad.views.opened_runs.run_images import RunView


def run_view(run: Path, model: str | None = None, *, named: Collection[str] = ()) -> RunView:
    """Return the view of the run of ``evaluate`` or ``attribute`` in a folder.

    Args:
        model: The run's model as the user named it; only so one is loaded that may run code.
        named: Further models that the user allowed.
    Raises:
        SourceError: the folder is not there, or holds no such run, a newer one, or a broken one.
        InputError: the run has nothing to show yet.
    """
    opened = open_manifest(run)
    if opened.kind == ATTRIBUTIONS:
        return attributions_view(opened, model, named)
    if opened.kind == EVALUATION:
        return evaluation_view(opened, model, named)
    raise SourceError(
        f"{run.resolve().name} holds a run of another kind, {opened.kind[:40]!r}, which has no pictures"
    )
