"""Failures of a visitor's request: a note on the page, and a record in the log."""

from __future__ import annotations

import logging

from distillgrad.errors import DistillgradError
from distillgrad.views.html.page import fragment, text

_log = logging.getLogger(__name__)


def problem(error: Exception) -> str:
    """Return the failure as a note on the page, and log it."""
    log_failure(error)
    words = text(public_message(error))
    return fragment(f'<div class="note" role="alert"><strong>That did not work.</strong> {words}</div>')


def log_failure(error: Exception) -> None:
    """Log a visitor's mistake as a note, and whatever else went wrong as an error."""
    level = logging.INFO if isinstance(error, DistillgradError) else logging.ERROR
    _log.log(level, "a request failed", exc_info=error)


def public_message(error: Exception) -> str:
    """Return an error of this package in full, and of any other only its kind."""
    if isinstance(error, DistillgradError):
        return str(error)
    return f"this failed unexpectedly ({type(error).__name__}); the server's log has the details"
