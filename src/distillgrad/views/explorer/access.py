"""The explorer's door: only the owner's requests are answered, and pages load nothing from elsewhere.

Any page in the owner's browser can send requests to this machine: as itself, which ``Origin``, ``Referer``
and ``Sec-Fetch-Site`` give away, or under a name of its own that it turned to this machine (DNS rebinding),
which ``Host`` gives away. Other users of the machine, or of the network, have not got the token.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlencode

from distillgrad.errors import ParameterError
from distillgrad.views.html.page import script, script_hash

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # what it is called, not served at
PAGE = "/"
PRINTED = "the address that distillgrad explore printed"
WRONG_HOST = f"This page is served under another name than the one that was asked for; open {PRINTED}."
OTHER_PAGE = f"This page answers no other page; paste {PRINTED} into the browser instead of following a link."
NO_TOKEN = f"This page answers only to who has its token; open {PRINTED}, with all that follows ?token=."
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def is_loopback(host: str) -> bool:
    """Return whether what is served at ``host`` can be reached from this machine only."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name, wherever it leads
        return False


def token_for(host: str, wanted: bool) -> str | None:
    """Return a new token for what is served at ``host``, if one is wanted.

    Raises:
        ParameterError: others would be let in without one.
    """
    if not wanted and not is_loopback(host):
        raise ParameterError(
            f"without a token whoever reaches {host} would see and use the page; "
            "leave out --no-token, or serve at 127.0.0.1"
        )
    return secrets.token_urlsafe() if wanted else None


def with_token(address: str, token: str | None) -> str:
    """Return the address that the owner opens."""
    return address if token is None else f"{address}?{urlencode({'token': token})}"


class OwnerOnly:
    """An ASGI application in front of another one, which answers only the owner's requests.

    A request with the token in its address gets a cookie, and is followed by others that have only that;
    programs send the header ``Authorization: Bearer TOKEN``.

    Args:
        host: The name or address that is served at; at ``EVERYWHERE`` any name is taken.
        token: What the owner has; without one whoever reaches this machine's loopback is the owner.
    """

    def __init__(self, application: Application, host: str, token: str | None) -> None:
        self._application = application
        self._any_name = host in EVERYWHERE
        self._names = ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host.lower()]
        self._token = token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        given = _headers(scope)
        refusal = self._refusal(scope, given)
        if refusal is not None:
            await _refuse(scope, _with_headers(send, {"content-security-policy": NOTHING}), refusal)
            return
        cookie = {}
        if self._is_token(_query(scope)):
            cookie["set-cookie"] = f"{_cookie_name(scope)}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        if scope["type"] == "http" and scope["path"] == PAGE:
            # Uncompressed, as its scripts are hashed here.
            plain = [each for each in scope["headers"] if each[0] != b"accept-encoding"]
            await self._application({**scope, "headers": plain}, receive, _with_policy_of_page(send, cookie))
        else:
            await self._application(
                scope, receive, _with_headers(send, {"content-security-policy": NOTHING, **cookie})
            )

    def _refusal(self, scope: Message, given: dict[str, list[str]]) -> str | None:
        host, *others = given["host"] or [""]
        port = scope["server"][1]
        known = [f"{name}:{port}" for name in self._names] + self._names * (port == 80)
        if others or not host or not (self._any_name or host in known):
            return WRONG_HOST
        if not scope["raw_path"].startswith(b"/"):  # a proxy's form, which names a host as well
            return WRONG_HOST
        own = f"{scope['scheme'].replace('ws', 'http')}://{host}"
        if (
            any(each != own for each in given["origin"])
            or any(each != own and not each.startswith(f"{own}/") for each in given["referer"])
            or any(each not in ("same-origin", "none") for each in given["sec-fetch-site"])
        ):
            return OTHER_PAGE
        offered = [*_query(scope), *_cookies(scope, given), *_bearers(given)]
        return None if self._token is None or self._is_token(offered) else NO_TOKEN

    def _is_token(self, offered: list[str]) -> bool:
        if self._token is None:
            return False
        return any(hmac.compare_digest(each.encode(), self._token.encode()) for each in offered)


def _headers(scope: Message) -> dict[str, list[str]]:
    """Return all values of each header; its name is in lower case."""
    given = defaultdict(list)
    for name, value in scope["headers"]:
        given[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    return given


def _query(scope: Message) -> list[str]:
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [])


def _cookie_name(scope: Message) -> str:
    """Return the cookie's name: with the port, as a browser sends a host's cookies to all of its ports."""
    return f"distillgrad-{scope['server'][1]}"


def _cookies(scope: Message, given: dict[str, list[str]]) -> list[str]:
    pairs = [each.strip().partition("=") for line in given["cookie"] for each in line.split(";")]
    return [value for name, _, value in pairs if name == _cookie_name(scope)]


def _bearers(given: dict[str, list[str]]) -> list[str]:
    pairs = [each.partition(" ") for each in given["authorization"]]
    return [value.strip() for kind, _, value in pairs if kind.lower() == "bearer"]


async def _refuse(scope: Message, send: Send, words: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": words})  # before it is accepted: 403
        return
    content = f"{words}\n".encode()
    length = str(len(content)).encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


def _with_headers(send: Send, further: dict[str, str]) -> Send:
    """Return ``send`` which adds the headers that every answer has, and further ones."""
    added = [(name.encode(), value.encode()) for name, value in {**HEADERS, **further}.items()]
    replaced = {name.encode() for name in (*HEADERS, "content-security-policy")}

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [each for each in message.get("headers", ()) if each[0].lower() not in replaced]
            message = {**message, "headers": [*kept, *added]}
        await send(message)

    return sent


def _with_policy_of_page(send: Send, further: dict[str, str]) -> Send:
    """Return ``send`` which holds the page back until the scripts that gradio wrote into it are known."""
    start: Message = {}
    content = bytearray()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        content.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        policy = {"content-security-policy": _policy_of_page(bytes(content))}
        await _with_headers(send, {**policy, **further})(start)
        await send({"type": "http.response.body", "body": bytes(content)})

    return sent


def _policy_of_page(page: bytes) -> str:
    """Return the content security policy of gradio's page: nothing from elsewhere, no script put in later.

    Scripts in line are allowed one by one, by hash: gradio's, which it writes for each request, and ours.
    Neither ``unsafe-eval`` can be left out, since gradio's HTML component makes a ``Function`` of each template
    and shows nothing without (6.31 in Chromium), nor can inline styles, which its components and our maps have.
    """
    scripts = [*(each.decode() for each in INLINE_SCRIPT.findall(page)), script()]
    hashes = " ".join(dict.fromkeys(map(script_hash, scripts)))
    return (
        f"default-src 'none'; script-src 'self' 'unsafe-eval' {hashes}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
