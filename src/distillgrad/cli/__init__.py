"""The command line: parses, calls, prints. Whatever takes long to import is imported where work starts."""

from __future__ import annotations

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # Read when torch is imported. Left alone, waiting threads spin so long that where another process
    # has a core DGA took up to 20 times as long; without spinning, 30 to 50 % longer on free cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from distillgrad.cli import (
    attribute,
    evaluate,
    explain,
    listing,
    paper,
    report_and_explore,
    roar,
    stability,
)
from distillgrad.cli.application import app

__all__ = [
    "app",
    "attribute",
    "evaluate",
    "explain",
    "listing",
    "paper",
    "report_and_explore",
    "roar",
    "stability",
]
