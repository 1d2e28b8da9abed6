"""The command line: parses, calls, prints. Whatever takes long to import is imported where work starts."""

from __future__ import annotations

import os
from importlib import import_module

if "OMP_WAIT_POLICY" not in os.environ:
    # Read when torch is imported. Left alone, waiting threads spin so long that where another process
    # has a core DGA took up to 20 times as long; without spinning, 30 to 50 % longer on free cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

from distillgrad.cli.application import app

__all__ = ["app"]

MODULES = (
    "explain",
    "evaluate",
    "attribute",
    "verify",
    "report",
    "explore",
    "stability",
    "roar",
    "paper",
    "listing",
)
"""Each adds its commands to ``app`` when it is imported, in this order in the help."""

for _module in MODULES:
    import_module(f"{__name__}.{_module}")
