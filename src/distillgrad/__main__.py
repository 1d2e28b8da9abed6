"""The command ``distillgrad``, also as ``python -m distillgrad``."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line; end without a word where it is interrupted before work has started."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What the terminal cannot show, such as a file's name, must not end the work.
            stream.reconfigure(errors="backslashreplace")
    try:
        from distillgrad.cli import app

        app(prog_name="distillgrad")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
