"""What a visitor is told when something fails, and what goes to the log."""

from __future__ import annotations

import logging

from distillgrad.errors import DistillgradError
from distillgrad.views.html.page import fragment, text

_log = logging.getLogger(__name__)


def problem(error: Exception) -> str:
    """The failure as a note on the page; it is logged."""
    logged(error)
    return fragment(
        f'<div class="note" role="alert"><strong>That did not work.</strong> {text(said(error))}</div>'
    )


def logged(error: Exception) -> None:
    """A visitor's mistake is a note in the log, what went wrong here an error."""
    level = logging.INFO if isinstance(error, DistillgradError) else logging.ERROR
    _log.log(level, "a request failed", exc_info=error)


def said(error: Exception) -> str:
    """What a visitor is told of an error: ours in full, of others only their kind."""
    if isinstance(error, DistillgradError):
        return str(error)
    return f"this failed unexpectedly ({type(error).__name__}); the server's log has the details"
