"""Writes ``src/distillgrad/__init__.pyi``: the public names, for type checkers and editors."""

from __future__ import annotations

from pathlib import Path

import distillgrad

HOMES: dict[str, str] = vars(distillgrad)["_HOMES"]
STUB = Path(distillgrad.__file__).with_suffix(".pyi")


def stub() -> str:
    """Return the stub that the table of public names asks for."""
    lines = []
    for name, home in HOMES.items():
        module, _, attribute = home.partition(":")
        if not attribute:
            module, _, attribute = module.rpartition(".")
        lines.append(f"from {module} import {attribute} as {name}")
    return "\n".join(
        [
            "# Written by docs/make/type_stub.py from the table in __init__.py.",
            "from distillgrad._version import __version__ as __version__",
            *sorted(lines),
            "",
            "__all__ = [",
            *(f'    "{name}",' for name in sorted(HOMES)),
            "]",
            "",
        ]
    )


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
