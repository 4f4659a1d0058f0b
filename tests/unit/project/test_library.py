"""The library: what it is installed with, and its example, docs/library.md, from a client's bytes to a backend's."""

from __future__ import annotations

import asyncio
import configparser
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import vmgw_core as core
from examples import asgi
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually

REPOSITORY: Final = Path(__file__).resolve().parents[3]
EXAMPLE: Final = REPOSITORY / "examples" / "asgi.py"

KEY: Final = SigningKey.generate()
TOKEN: Final = KEY.mint(vm_access={"tenant_id": {}, "extra_labels": {"team": "dev"}})
BEARER: Final = (b"authorization", f"Bearer {TOKEN}".encode())
FORM: Final = (b"content-type", b"application/x-www-form-urlencoded")
CHUNKED: Final = (b"transfer-encoding", b"chunked")


# --- what it is installed with -------------------------------------------------------------------------------------


def library_requirements() -> list[Requirement]:
    with (REPOSITORY / "library" / "pyproject.toml").open("rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def test_its_requirements_are_among_those_of_the_gateway() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(REPOSITORY / "setup.cfg")
    whole = {Requirement(line) for line in configuration["options"]["install_requires"].strip().splitlines()}
    assert library_requirements()
    assert set(library_requirements()) <= whole
    names = {requirement.name for requirement in library_requirements()}
    assert {requirement for requirement in whole if requirement.name in names} == set(library_requirements())


def installed_with_it() -> set[str]:
    """The distributions that ``pip install ./library`` brings, by their canonical names."""
    found: set[str] = set()
    pending = [requirement.name for requirement in library_requirements()]
    while pending:
        name = canonicalize_name(pending.pop())
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in requires(name) or ()]
            pending += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


ALONE: Final = """
import asyncio, runpy, sys
from importlib import import_module
from pkgutil import walk_packages

refused = set(sys.argv[1].split(","))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(f"{name} is not installed with the library")

sys.meta_path.insert(0, Refuse())
import vmgw_core
for module in walk_packages(vmgw_core.__path__, "vmgw_core."):
    import_module(module.name)

async def forward(request, body):
    print(request.method, request.target)
    async def response():
        yield b"data"
    return 200, (), response()

async def send(message):
    print(message.get("status", message.get("body")))

scope = {"type": "http", "http_version": "1.1", "method": "GET", "raw_path": b"/api/v1/query",
         "query_string": b"query=up", "headers": [(b"authorization", b"Bearer " + sys.argv[3].encode())],
         "client": ("127.0.0.1", 1)}
front = runpy.run_path(sys.argv[2])["front"]
asyncio.run(front("http://localhost:8428", sys.argv[4], forward)(scope, None, send))
"""


def test_the_core_and_the_example_run_with_what_it_brings_alone() -> None:
    brought = installed_with_it()
    assert not brought & {"mitmproxy", "redis", "uvloop", "prometheus-client", "httptools", "requests", "h11"}
    refused = {
        module
        for module, names in packages_distributions().items()
        if not brought & {canonicalize_name(name) for name in names}
        and not module.startswith(("vmgw_", "__editable__"))
    }
    assert {"mitmproxy", "redis", "requests"} <= refused
    command = [sys.executable, "-c", ALONE, ",".join(refused), str(EXAMPLE), TOKEN, KEY.public_pem]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "GET /api/v1/query?query=up&extra_label=team%3Ddev", "200", "b'data'", "None",
    ]  # fmt: skip


def test_the_page_shows_the_example() -> None:
    page = (REPOSITORY / "docs" / "library.md").read_text()
    assert f"```python\n{EXAMPLE.read_text()}```\n" in page


# --- the example ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Client:
    """An ASGI server's side of one request: what it gives, and what it was given."""

    messages: list[dict[str, Any]]
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    async def receive(self) -> dict[str, Any]:
        return self.messages.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)


async def forward(request: core.UpstreamRequest, body: AsyncIterable[bytes]) -> tuple[int, core.Headers, Any]:
    """A client of HTTP/1.1: one connection a request, and the body in the framing that the headers announce."""
    host, port = request.backend.address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        chunked = CHUNKED in {(name.lower(), value) for name, value in request.headers}
        lines = [f"{request.method} {request.target} HTTP/1.1".encode()]
        lines += [b"%b: %b" % header for header in request.headers]
        if request.backend.authorization is not None:
            lines.append(b"Authorization: " + request.backend.authorization)
        writer.write(b"\r\n".join([*lines, b"", b""]))
        async for piece in body:
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            writer.write(b"0\r\n\r\n")
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in fields))
        content = await reader.readexactly(int(dict(headers).get(b"Content-Length", b"0")))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError from None
    finally:
        writer.close()

    async def response() -> AsyncIterator[bytes]:
        yield content

    return int(status.split()[1]), headers, response()


def ask(
    front: asgi.Front, target: str, *headers: tuple[bytes, bytes], method: str = "GET", body: tuple[bytes, ...] = ()
) -> Client:
    """Send one request through ``front``, as an ASGI server does."""
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    client = Client([*pieces, {"type": "http.request"}])
    run(front, client, target, headers, method)
    return client


def run(front: asgi.Front, client: Client, target: str, headers: tuple[tuple[bytes, bytes], ...], method: str) -> None:
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "raw_path": path.encode(),
        "query_string": query.encode(), "headers": list(headers), "client": ("192.0.2.1", 4711),
    }  # fmt: skip
    asyncio.run(front(scope, client.receive, client.send))


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    headers = (("Content-Type", "application/json"), ("X-Server-Hostname", "storage-1"))
    with RecordingUpstream(lambda request: Reply(body=b'{"data":1}', headers=headers)) as upstream:
        yield upstream


@pytest.fixture
def front(upstream: RecordingUpstream) -> asgi.Front:
    return asgi.front(f"http://u:p@127.0.0.1:{upstream.port}/base", KEY.public_pem, forward)


def test_a_read_is_held_to_the_tokens_labels(front: asgi.Front, upstream: RecordingUpstream) -> None:
    client = ask(front, "/api/v1/query?query=up&extra_label=team=ops", BEARER)
    assert (client.status, client.body, client.complete) == (200, b'{"data":1}', True)
    assert b"X-Server-Hostname" not in client.headers
    (request,) = upstream.requests
    assert request.target == "/base/api/v1/query?query=up&extra_label=team%3Ddev"
    assert request.header("Authorization") == ["Basic dTpw"]
    assert request.header("X-Forwarded-For") == ["192.0.2.1"]
    assert TOKEN not in str(request.headers)


def test_a_form_is_rewritten(front: asgi.Front, upstream: RecordingUpstream) -> None:
    form = (b"query=up&extra_", b"label=team=ops")
    size = (b"content-length", b"29")
    assert ask(front, "/api/v1/query", BEARER, FORM, size, method="POST", body=form).status == 200
    (request,) = upstream.requests
    assert request.target == "/base/api/v1/query?extra_label=team%3Ddev"
    assert request.body == b"query=up"


@pytest.mark.parametrize("framing", [(b"content-length", b"16"), CHUNKED], ids=["length", "chunked"])
def test_a_write_streams(front: asgi.Front, upstream: RecordingUpstream, framing: tuple[bytes, bytes]) -> None:
    rows = (b"up 1\n", b"down{a=", b'"b', b'"} 2\n')
    size = (framing[0], b"%d" % sum(map(len, rows))) if framing != CHUNKED else framing
    assert ask(front, "/api/v1/import/prometheus", BEARER, size, method="POST", body=rows).status == 200
    (request,) = upstream.requests
    assert request.target == "/base/api/v1/import/prometheus?extra_label=team%3Ddev"
    assert request.body == b"".join(rows)


REFUSED: Final = [
    pytest.param("/api/v1/query?query=up", (), "GET", b"", 401, id="no-token"),
    pytest.param("/api/v1/status/tsdb", (BEARER,), "GET", b"", 403, id="page-that-ignores-labels"),
    pytest.param("/unknown", (BEARER,), "GET", b"", 404, id="unknown-path"),
    pytest.param("/api/v1/query", (BEARER, (b"x", b"1\r\ny: 2")), "GET", b"", 400, id="line-break-in-a-header"),
    pytest.param("/api/v1/query", (BEARER, (b"content-length", b"1"), CHUNKED), "POST", b"x", 400, id="two-framings"),
    pytest.param(
        "/api/v1/import/prometheus", (BEARER, CHUNKED), "POST", b"up{a\x01='b'} 1\n", 400, id="bad-label-name"
    ),
]


@pytest.mark.parametrize(("target", "headers", "method", "body", "status"), REFUSED)
def test_a_refused_request_reaches_no_backend(
    front: asgi.Front,
    upstream: RecordingUpstream,
    target: str,
    headers: tuple[tuple[bytes, bytes], ...],
    method: str,
    body: bytes,
    status: int,
) -> None:
    client = ask(front, target, *headers, method=method, body=(body,) if body else ())
    assert (client.status, client.complete) == (status, True)
    assert client.body.startswith(b'{"status":"error"')
    assert upstream.requests == []


def test_a_refusal_of_head_has_no_body(front: asgi.Front) -> None:
    client = ask(front, "/api/v1/query", method="HEAD")
    assert (client.status, client.body, client.complete) == (401, b"", True)


def test_rows_beyond_the_limit_reach_no_backend(front: asgi.Front, upstream: RecordingUpstream) -> None:
    limits = core.read_limits("limits:\n- type: rows_inserted\n  value: 2\n  resolution: minute\n", "limits")
    limited = asgi.Front(front.gateway.policy, forward, core.Limiter(limits.limits))
    write = ("/api/v1/import/prometheus", BEARER, CHUNKED)
    assert ask(limited, *write, method="POST", body=(b"a 1\nb 1\n",)).status == 200
    assert ask(limited, *write, method="POST", body=(b"c 1\n",)).status == 429
    assert [request.body for request in upstream.requests] == [b"a 1\nb 1\n"]


def test_rows_beyond_the_limit_in_a_long_body_end_it(front: asgi.Front, upstream: RecordingUpstream) -> None:
    limits = core.read_limits("limits:\n- type: rows_inserted\n  value: 100000\n  resolution: minute\n", "limits")
    limited = asgi.Front(front.gateway.policy, forward, core.Limiter(limits.limits))
    piece = b"a_metric_with_a_long_name 1\n" * 40000  # 1.1 MB: more than is held
    client = ask(limited, "/api/v1/import/prometheus", BEARER, CHUNKED, method="POST", body=(piece, piece, piece))
    assert (client.status, client.complete) == (429, True)
    eventually(lambda: upstream.requests)  # the backend reads what it was sent in its own time
    assert [request.complete for request in upstream.requests] == [False]


def test_a_form_that_is_too_large_is_not_read_on(front: asgi.Front, upstream: RecordingUpstream) -> None:
    small = asgi.Front(replace(front.gateway.policy, max_form_size=10), forward)
    pieces = [{"type": "http.request", "body": b"query=up&x", "more_body": True} for _ in range(3)]
    client = Client(pieces)
    run(small, client, "/api/v1/query", (BEARER, FORM, CHUNKED), "POST")
    assert (client.status, client.complete, len(client.messages)) == (413, True, 1)
    assert upstream.requests == []


def test_who_leaves_in_the_middle_of_a_body_gets_nothing_written(
    front: asgi.Front, upstream: RecordingUpstream
) -> None:
    client = Client([{"type": "http.request", "body": b"a 1\nb", "more_body": True}, {"type": "http.disconnect"}])
    run(front, client, "/api/v1/import/prometheus", (BEARER, CHUNKED), "POST")
    assert (client.status, client.complete) == (0, False)
    assert not any(request.complete for request in upstream.requests)


def test_another_backend_is_asked_once_one_is_gone(front: asgi.Front, upstream: RecordingUpstream) -> None:
    with RecordingUpstream() as gone:
        pass
    backends = [core.Backend.parse(f"http://127.0.0.1:{port}", "read.url") for port in (gone.port, upstream.port)]
    group = core.BackendGroup(backends)
    both = asgi.Front(replace(front.gateway.policy, read=group), forward)
    assert ask(both, "/api/v1/query?query=up", BEARER).status == 200
    assert [member.up for member in group.members] == [False, True]
    assert [member.load for member in group.members] == [0, 0]
    alone = asgi.front(str(backends[0]), KEY.public_pem, forward)
    assert ask(alone, "/api/v1/query?query=up", BEARER).status == 502
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("scope", [{"type": "lifespan"}, {"type": "http", "http_version": "2"}], ids=["lifespan", "h2"])
def test_what_is_no_http1_is_not_served(front: asgi.Front, scope: dict[str, Any]) -> None:
    client = Client([])
    with pytest.raises(NotImplementedError):
        asyncio.run(front(scope, client.receive, client.send))
