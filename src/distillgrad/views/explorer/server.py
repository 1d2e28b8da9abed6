"""The explorer's server: for this machine only unless told otherwise, asking and leaving nothing elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from distillgrad.core.optional import optional
from distillgrad.errors import SourceError
from distillgrad.sources.value_range import ValueRange
from distillgrad.views.explorer.access import OwnerOnly, token_for, with_token
from distillgrad.views.explorer.models import Models
from distillgrad.views.explorer.page import page_of
from distillgrad.views.explorer.upload_folder import upload_folder
from distillgrad.views.explorer.uploads import MAX_BYTES
from distillgrad.views.html.page import script, stylesheet
from distillgrad.views.opened_runs.run_view import run_view

Result = TypeVar("Result")

PAGE_CSS = """
.gradio-container { max-width: 1360px !important; margin: 0 auto; width: 100%; }
.dg table { border: 0 !important; }
.dg > h2:first-child { margin-top: 0 !important; }
#model input, #order input, #target input, #versus input { padding-right: 1.6rem; text-overflow: ellipsis; }
.gradio-container .prose, .gradio-container .dg { font-size: 15px; }
.gradio-container .tab-container { flex-wrap: wrap; height: auto !important; }
.gradio-container .tab-wrapper { height: auto !important; }
footer { display: none !important; }
button[role="tab"][aria-selected="true"] { color: var(--dg-accent) !important; }
"""


@contextlib.contextmanager
def launched(
    run: Path | None,
    offered: tuple[str, ...],
    host: str,
    port: int,
    *,
    value_range: ValueRange | None = None,
    token: bool = True,
) -> Iterator[tuple[str, threading.Thread]]:
    """Yield the address and the thread of a running server, whose uploads live in a folder that goes with it.

    Args:
        value_range: The values of uploaded files that are shown black and white.
        token: Whether only who has the address is answered, which then holds a token.
    Raises:
        MissingExtraError: gradio is not installed.
        ParameterError: no token is wanted where others could reach the page.
        SourceError, InputError: the address cannot be had, or ``run`` is no run that can be read.
    """
    host = host.strip("[]")
    secret = token_for(host, token)
    with contextlib.ExitStack() as undone:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
            undone.callback(_set_environment, name, os.environ.get(name))
        folder = undone.enter_context(upload_folder())
        os.environ.update(GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED="False")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        gr = optional("gradio", "explorer")
        listening = undone.enter_context(_listening(host, port))
        models = Models(offered)
        models.load(models.offered[0])
        # The command line's models may run code, a run's own only if they are named there, too.
        view = None if run is None else run_view(run, named=models.offered)
        page, application = _within_a_loop(lambda: _application(gr, page_of(models, view, value_range)))
        guarded = OwnerOnly(application, host, secret)
        thread = undone.enter_context(_served(page, guarded, listening))
        yield with_token(_address(host, listening.getsockname()[1]), secret), thread


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SourceError(f"cannot serve at {host}:{port}: {error}; give another --host or --port") from error


def _address(host: str, port: int) -> str:
    """Return the page's address as this machine's browser takes it."""
    name = {"0.0.0.0": "localhost", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def _application(gr: Any, page: Any) -> tuple[Any, Any]:
    """Return the page, and the ASGI application that serves it."""
    page.state_session_capacity = 50
    page.has_launched = True  # or gradio takes any path of this machine that a request names for an upload
    application = gr.mount_gradio_app(
        optional("fastapi", "explorer").FastAPI(openapi_url=None), page, "/",
        show_error=True, max_file_size=MAX_BYTES, footer_links=[], run_history=False, enable_monitoring=False,
        ssr_mode=False, mcp_server=False, theme=_theme(gr), css=stylesheet() + PAGE_CSS,
        head=f"<script>{script()}</script>",
    )  # fmt: skip
    page.app = application.routes[-1].app  # which page.close() tells to end the streams that it holds open
    return page, application


@contextlib.contextmanager
def _served(page: Any, application: Any, listening: socket.socket) -> Iterator[threading.Thread]:
    """Yield the thread that serves the page."""
    uvicorn = optional("uvicorn", "explorer")
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise SourceError("the server did not start; its log says why")
            time.sleep(0.001)
        yield thread
    finally:
        page.close(verbose=False)
        server.should_exit = True
        thread.join(5)


def _within_a_loop(function: Callable[[], Result]) -> Result:
    """Return the function's result; without a running loop gradio makes one for each lock and closes none."""

    async def within() -> Result:
        return function()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with contextlib.closing(asyncio.new_event_loop()) as loop:  # asyncio.run would put Ctrl-C off
            return loop.run_until_complete(within())
    return function()


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _theme(gr: Any) -> Any:
    fonts = ["system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
    return gr.themes.Default(
        primary_hue="orange", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    ).set(
        button_primary_background_fill="#b43a09", button_primary_background_fill_dark="#b43a09",
        button_primary_background_fill_hover="#9a3412", button_primary_text_color="white",
        block_label_text_color="#3f4654", block_info_text_color="#5b6270",
        block_info_text_color_dark="#a9b0be", body_text_color_subdued="#5b6270",
        body_text_color_subdued_dark="#a9b0be", input_placeholder_color="#5b6270",
    )  # fmt: skip


def serve(
    run: Path | None,
    offered: tuple[str, ...],
    host: str,
    port: int,
    *,
    value_range: ValueRange | None = None,
    token: bool,
    browser: bool,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until it is interrupted or asked to end; either way nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with launched(run, offered, host, port, value_range=value_range, token=token) as (url, thread):
            on_ready(url)
            if browser:
                import webbrowser

                webbrowser.open(url)
            with contextlib.suppress(KeyboardInterrupt):
                while thread.is_alive():
                    thread.join(0.5)
    finally:
        signal.signal(signal.SIGTERM, before)
