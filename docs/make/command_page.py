"""The reference of the command line, made of the commands themselves."""

from __future__ import annotations

import re
from typing import Any

import typer

from distillgrad.cli import app

MARKUP = re.compile(r"\[/?[a-z]*\]")
EVERYWHERE = ("seed", "device", "as_json", "debug")


def command_line_page() -> str:
    """Each command: what it does, an example, its arguments and options with their defaults."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line\n",
        "Exit status: 0 done, 1 the work failed, 2 the request was wrong. Every command has `--help`, "
        "`--json` (JSON on standard output), `--debug` (the traceback of an error); those that compute have "
        "`--seed` and `--device`.\n",
    ]
    for name, command in group.commands.items():
        example = str(command.epilog or "").removeprefix("Example: ")
        lines += [f"## `distillgrad {name}`\n", f"{_plain(command.help)}\n"]
        lines += [f"```text\n{example}\n```\n"] if example else []
        own = [each for each in command.params if each.name not in EVERYWHERE]
        if own:
            lines += ["| option | default | |", "|---|---|---|", *map(_row, own), ""]
    return "\n".join(lines)


def _row(parameter: Any) -> str:
    names = [each for each in parameter.opts + parameter.secondary_opts if each.startswith("-")]
    called = ", ".join(f"`{each}`" for each in names) or f"`{parameter.name.upper()}`"
    default = parameter.default
    shown = (
        ""
        if default is None or callable(default) or default is False
        else f"`{default}`"
        if default != ""
        else ""
    )
    return f"| {called} | {shown} | {_plain(getattr(parameter, 'help', None) or '')} |"


def _plain(words: str | None) -> str:
    return " ".join(MARKUP.sub("", words or "").replace("|", "\\|").split())
