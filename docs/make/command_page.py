"""The reference of the command line, made of the commands themselves."""

from __future__ import annotations

import re
from typing import Any

import typer

from distillgrad.cli import app
from distillgrad.cli.application import UNIVERSAL

MARKUP = re.compile(r"\[/?[a-z]*\]")


def command_line_page() -> str:
    """Return a page of all commands: purpose, example, arguments and options with their defaults."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line\n",
        "Exit status: 0 done, 1 the work failed, 2 the request was wrong. Every command has `--help` and "
        "`--debug` (the traceback of an error), all but `explore` have `--json` (JSON on standard output), "
        "those that compute have `--seed` and `--device`. These are accepted whatever else is asked for. Any "
        "other option that would do nothing for what is asked is refused; the error says why, and what to "
        "change.\n",
    ]
    for name, command in group.commands.items():
        example = str(command.epilog or "").removeprefix("Example: ")
        lines += [f"## `distillgrad {name}`\n", f"{_plain(command.help)}\n"]
        lines += [f"```text\n{example}\n```\n"] if example else []
        own = [each for each in command.params if each.name not in UNIVERSAL]
        if own:
            lines += ["| option | default | |", "|---|---|---|", *map(_row, own), ""]
    return "\n".join(lines)


def _row(parameter: Any) -> str:
    names = [each for each in parameter.opts + parameter.secondary_opts if each.startswith("-")]
    called = ", ".join(f"`{each}`" for each in names) or f"`{parameter.metavar or parameter.name.upper()}`"
    shown = _default_of(parameter)
    return f"| {called} | {shown} | {_plain(getattr(parameter, 'help', None) or '')} |"


def _default_of(parameter: Any) -> str:
    """Return the default in code, for a flag with two names the one that it is; "" without a default."""
    default = parameter.default
    if isinstance(default, bool):
        names = parameter.opts if default else parameter.secondary_opts
        return f"`{names[0]}`" if parameter.secondary_opts else ""
    return "" if default is None or default == "" or callable(default) else f"`{default}`"


def _plain(words: str | None) -> str:
    return " ".join(MARKUP.sub("", words or "").replace("|", "\\|").split())
