"""Requests of others than the owner: none is answered, whatever it asks for and wherever it comes from."""

import asyncio
import http.client
import json
import os
import socket
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from pages import chromium
from typer.testing import CliRunner

from distillgrad.cli import app
from distillgrad.errors import ParameterError
from distillgrad.views.explorer.access import OwnerOnly, is_loopback, token_for

pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = [pytest.mark.filterwarnings("ignore")]  # gradio's and starlette's own, of each other

EDGE = "edge-of-a-part"
UPLOAD = f'--{EDGE}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n--{EDGE}--\r\n'
ASKED = json.dumps({"data": [None, "cifar10-cnn", None, ["saliency"]]})
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "c2l4dGVlbiBjaGFyYWN0ZXI=",
}
FORM = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
JSON = {"Content-Type": "application/json"}
WAYS = {
    "page": ("GET", "/", {}, ""),
    "head": ("HEAD", "/", {}, ""),
    "config": ("GET", "/config", {}, ""),
    "asset": ("GET", "/favicon.ico", {}, ""),
    "call": ("POST", "/gradio_api/call/explain", JSON, ASKED),
    "queue": ("POST", "/gradio_api/queue/join", JSON, "{}"),
    "upload": ("POST", "/gradio_api/upload", FORM, UPLOAD),
    "file": ("GET", "/gradio_api/file=/etc/hostname", {}, ""),
    "stream": ("GET", "/gradio_api/heartbeat/stranger", {"Accept": "text/event-stream"}, ""),
    "startup": ("GET", "/gradio_api/startup-events", {}, ""),
    "websocket": ("GET", "/gradio_api/queue/join", UPGRADE, ""),
    "preflight": ("OPTIONS", "/gradio_api/upload", {"Access-Control-Request-Method": "POST"}, ""),
    "proxy": ("GET", "http://evil.example/", {}, ""),
}
"""By name, what can be asked for."""

HANDLER = '<img src="/none.png" onerror="window.ran = 1">'

FOREIGN = [
    *({"Host": host} for host in (
        "evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}",
        "localhost.evil.example:{port}", "localhost.:{port}", "LOCALHOST:{port}", "localhost", "127.0.0.1",
        "127.0.0.1:1", "127.0.0.1:0{port}",
        "127.1:{port}", "2130706433:{port}", "0.0.0.0:{port}", "[::]:{port}", "[::ffff:127.0.0.1]:{port}",
        "evil.example@127.0.0.1:{port}", "127.0.0.1:{port}, evil.example", "",
    )),
    *({"Origin": origin} for origin in (
        "null", "https://evil.example", "http://evil.example:{port}", "http://127.0.0.1.evil.example:{port}",
        "http://localhost:{port}", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:1", "file://",
        "chrome-extension://abcdef", "http://127.0.0.1:{port}/",
    )),
    *({"Referer": page} for page in (
        "https://evil.example/", "http://evil.example/?http://127.0.0.1:{port}/", "http://localhost:{port}/",
        "http://127.0.0.1:{port}.evil.example/", "http://127.0.0.1:{port}@evil.example/",
    )),
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"X-Forwarded-Host": "127.0.0.1:{port}", "Host": "evil.example"},
]  # fmt: skip
"""Headers of requests that other pages make, or that somebody makes who has not found the door."""


@pytest.fixture(scope="module")
def server():
    from distillgrad.views.explorer.server import launched

    with launched(None, (), "127.0.0.1", 0) as (url, _):
        parts = urlsplit(url)
        token = parts.query.removeprefix("token=")
        yield SimpleNamespace(url=url, bare=url.partition("?")[0], port=parts.port, token=token)


def answer(server, way, query="", **headers):
    """Return status, headers and content of the answer to one request; a stream's are not waited for."""
    method, target, own, content = WAYS[way]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, target + query, skip_host=True, skip_accept_encoding=True)
    sent = {"Host": "127.0.0.1:{port}", "Content-Length": str(len(content)), **own, **headers}
    for name, value in sent.items():
        connection.putheader(name, value.format(port=server.port))
    connection.endheaders(content.encode())
    response = connection.getresponse()
    said = b"" if "event-stream" in response.getheader("content-type", "") else response.read()
    connection.close()
    return response.status, response.headers, said.decode(errors="replace")


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda each: " ".join(f"{k}={v}" for k, v in each.items()))
def test_a_foreign_request_is_refused_also_with_the_token(server, headers):
    for way in WAYS:
        status, said, content = answer(server, way, **headers, Authorization=f"Bearer {server.token}")
        if status == 400 and "Host" in headers:
            continue  # the protocol itself refuses what is no host's name
        assert status == 403, (way, content[:200])
        assert way == "head" or "the address that distillgrad explore printed" in content
        assert "access-control-allow-origin" not in said
        assert "set-cookie" not in said
    assert os.listdir(os.environ["GRADIO_TEMP_DIR"]) == [".lock"]  # nothing was uploaded


def test_requests_with_no_host_or_two_are_refused(server):
    for head in (
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\n",
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(f"{head}Authorization: Bearer {server.token}\r\n\r\n".encode())
            assert connection.recv(100).split()[1] in (b"400", b"403")


def test_nothing_is_answered_without_the_token(server):
    wrong = (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {server.token}"},
        {"Cookie": f"distillgrad-{server.port}=wrong; distillgrad-{server.port}"},
        {"Cookie": f"distillgrad-1={server.token}"},
    )
    for way in WAYS:
        for headers in wrong:
            for query in ("", "?token=", "?token=wrong", "?token=%FF%00&Token=&token"):
                status, said, content = answer(server, way, query, **headers)
                assert (status, "set-cookie" in said) == (403, False), (way, headers, query)
                assert server.token not in content


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}"])
def test_the_owner_is_answered(server, host):
    with_cookie = {"Cookie": f"other=1; distillgrad-{server.port}={server.token}"}
    with_header = {"Authorization": f"bearer {server.token}"}
    own = {"Origin": f"http://{host}", "Referer": f"http://{host}/?x", "Sec-Fetch-Site": "same-origin"}
    for way in ("page", "head", "config", "asset", "call", "stream"):
        assert answer(server, way, Host=host, **with_header)[0] == 200
        assert answer(server, way, Host=host, **with_cookie, **own)[0] == 200
        status, said, _ = answer(server, way, f"?token={server.token}", Host=host)
        assert status == 200
        name, *attributes = said["set-cookie"].split("; ")
        assert name == f"distillgrad-{server.port}={server.token}"
        assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}


def test_every_answer_forbids_whatever_comes_from_elsewhere(server):
    for way in ("page", "config", "asset", "file", "startup"):
        for headers in ({}, {"Authorization": f"Bearer {server.token}"}):
            _, said, _ = answer(server, way, **headers)
            policy = said["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "frame-ancestors 'none'" in policy
            assert "http" not in policy
            assert "*" not in policy
            assert "'unsafe-inline'" not in policy.partition("style-src")[0]
            assert said["x-content-type-options"] == "nosniff"
            assert said["referrer-policy"] == "no-referrer"
            assert said["x-frame-options"] == "DENY"
            assert said["cross-origin-resource-policy"] == "same-origin"


def asked(application, kind, headers, target="/"):
    """Return the messages that an ASGI application sends, asked without a server."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind, "scheme": "ws" if kind == "websocket" else "http", "method": "GET", "path": target,
        "raw_path": target.encode(), "query_string": b"", "server": ("127.0.0.1", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(application(scope, None, send))
    return sent


async def greet(scope, _, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})


def test_without_a_token_strangers_are_refused_all_the_same():
    guarded = OwnerOnly(greet, "127.0.0.1", None)
    for kind, yes, no in (
        ("http", ("status", 200), ("status", 403)),
        ("websocket", ("type", "websocket.accept"), ("code", 1008)),
    ):
        for headers, (key, value) in (
            ({"host": "localhost"}, yes),
            ({"host": "localhost", "origin": "http://localhost"}, yes),
            ({"host": "evil.example"}, no),
            ({"host": "localhost", "origin": "http://evil.example"}, no),
        ):
            assert asked(guarded, kind, headers, "/config")[0][key] == value


def test_served_everywhere_any_name_is_taken_with_the_token():
    guarded = OwnerOnly(greet, "0.0.0.0", "secret")  # noqa: S104
    for headers, status in (
        ({"host": "laboratory.example:7860"}, 403),
        ({"host": "laboratory.example:7860", "authorization": "Bearer secret"}, 200),
        ({"host": "10.0.0.7", "cookie": "distillgrad-80=secret", "origin": "http://10.0.0.7"}, 200),
        ({"host": "10.0.0.7", "cookie": "distillgrad-80=secret", "origin": "http://10.0.0.8"}, 403),
    ):
        assert asked(guarded, "http", headers)[0]["status"] == status


def test_a_named_host_is_served_under_its_name():
    guarded = OwnerOnly(greet, "Laboratory.example", None)
    assert asked(guarded, "http", {"host": "laboratory.example"})[0]["status"] == 200
    assert asked(guarded, "http", {"host": "other.example"})[0]["status"] == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "laboratory.example", "localhost.example"])  # noqa: S104
def test_others_are_let_in_with_a_token_only(host):
    assert not is_loopback(host)
    assert len(token_for(host, True)) > 40
    with pytest.raises(ParameterError, match="leave out --no-token, or serve at"):
        token_for(host, False)
    result = CliRunner().invoke(app, ["explore", "--no-token", "--host", host, "--port", "0", "--no-browser"])
    assert (result.exit_code, "leave out --no-token" in " ".join(result.stderr.split())) == (2, True)


def test_loopback_needs_no_token():
    for host in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"):
        assert is_loopback(host)
        assert token_for(host, False) is None


def test_a_bookmark_with_the_token_works_again_and_then_the_cookie_is_enough(server, photograph):
    with chromium() as browser:
        for _ in range(2):  # the second time in a browser that has no cookie any more
            context = browser.new_context()
            page, said = context.new_page(), []
            page.set_default_timeout(90_000)
            page.on("console", lambda message: said.append(message.text))  # noqa: B023
            page.on("pageerror", lambda error: said.append(str(error)))  # noqa: B023
            assert page.goto(server.bare).status == 403
            assert "only to who has its token" in page.inner_text("body")
            said.clear()  # that it was refused
            for address in (server.url, server.url, server.bare):
                page.goto(address)
                page.locator("#example").wait_for()
            page.locator("#upload input[type=file]").set_input_files(photograph)
            page.locator("#maps .card").nth(2).wait_for()
            assert [each for each in said if "Content Security Policy" in each] == []
            page.evaluate("words => document.body.insertAdjacentHTML('beforeend', words)", HANDLER)
            page.wait_for_timeout(200)
            assert page.evaluate("window.ran") is None
            assert page.evaluate("document.cookie") == ""
            context.close()


def test_programs_send_the_token_in_a_header(server, monkeypatch):
    client = pytest.importorskip("gradio_client")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the client would ask for names
    header = {"Authorization": f"Bearer {server.token}"}
    program = client.Client(server.bare, headers=header, verbose=False, analytics_enabled=False)
    maps, name = program.predict(None, "cifar10-cnn", None, ["saliency"], api_name="/explain")
    assert (list(maps), name) == (["saliency"], "cat")
