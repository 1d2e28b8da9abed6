"""The command that serves a page to explore explanations in: explore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distillgrad.cli.application import (
    Debug,
    Imports,
    ValueRangeWords,
    command,
    import_modules,
    value_range_of,
)
from distillgrad.cli.terminal import say, warn


@command(epilog="Example: distillgrad explore evaluation --port 7860")
def explore(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run to look at, too.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Further classifier to offer; factories and files are taken from here only.",
            show_default=False,
        ),
    ] = None,
    value_range: ValueRangeWords = None,
    imports: Imports = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve at; 0 takes a free one.")] = 7860,
    token: Annotated[
        bool, typer.Option(help="Answer only to who has the token of the printed address.")
    ] = True,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    debug: Debug = False,
) -> None:
    """Look at explanations in the browser: drop a picture, compare methods, classes and a run's images."""
    from distillgrad.views.explorer.access import is_loopback
    from distillgrad.views.explorer.server import serve

    import_modules(imports)

    def ready(url: str) -> None:
        if not is_loopback(host):
            warn(
                f"other machines can reach {host}; whoever has the token uses the page, and nothing is "
                "encrypted: better serve at 127.0.0.1 and come through ssh -L"
            )
        say("explorer: {}", url)

    serve(
        run,
        tuple(model or ()),
        host,
        port,
        value_range=value_range_of(value_range),
        token=token,
        browser=browser,
        on_ready=ready,
    )
