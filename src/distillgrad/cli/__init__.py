"""The command line: parses, calls, prints. Whatever takes long to import is imported where work starts."""

from __future__ import annotations

from distillgrad.cli import (
    attributing,
    evaluating,
    explaining,
    exploring,
    listing,
    paper,
    retraining,
    stabilising,
)
from distillgrad.cli.application import app

__all__ = [
    "app",
    "attributing",
    "evaluating",
    "explaining",
    "exploring",
    "listing",
    "paper",
    "retraining",
    "stabilising",
]
