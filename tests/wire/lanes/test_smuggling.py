"""No second request hides in a first: what the gateway takes for one request, any backend takes for the same.

Each case is a connection's bytes with a request hidden in it, ``SMUGGLED``, which a backend must never see. Either
the first is refused, and the backend sees nothing of the connection, or it passes, and the backend sees exactly it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.processes import Gateway, Process, find_program, free_port
from tests.support.wire.raw import RawClient
from tests.support.wire.servers import VictoriaMetrics
from tests.support.wire.tokens import SigningKey, team
from tests.support.wire.upstream import RecordingUpstream
from tests.wire.conftest import StartGateway

WRITE: Final = b"/api/v1/import/prometheus"
BODY: Final = b'%S{smuggled="yes"} 1\n'
SMUGGLED: Final = (
    b"POST /api/v1/import/prometheus?extra_label=smuggled=yes HTTP/1.1\r\nHost: s\r\nContent-Length: %d\r\n\r\n%b"
)


def framed(*lines: bytes, version: bytes = b"1.1", target: bytes = WRITE) -> bytes:
    """The head of a good write. ``%T`` is the token."""
    return b"\r\n".join(
        [b"POST %b HTTP/%b" % (target, version), b"Host: gateway", b"Authorization: Bearer %T", *lines, b"", b""]
    )


GOOD: Final = b"m 1\n"
"""The body that the first request has, where it has one."""

REFUSED: Final = {
    # two framings, and the backend may believe the other
    "length, then chunked": framed(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked, then length": framed(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
    "chunked, length 0": framed(b"Transfer-Encoding: chunked", b"Content-Length: 0") + b"0\r\n\r\n",
    "two lengths": framed(b"Content-Length: 4", b"Content-Length: 0") + GOOD,
    "the same length twice": framed(b"Content-Length: 4", b"Content-Length: 4") + GOOD,
    "two lengths in one": framed(b"Content-Length: 4, 0") + GOOD,
    "two lengths in other cases": framed(b"content-length: 4", b"CONTENT-LENGTH: 0") + GOOD,
    "two codings": framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity") + b"0\r\n\r\n",
    "two codings in one": framed(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "chunked twice": framed(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "gzip, chunked": framed(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    # a framing that is almost one
    "identity": framed(b"Transfer-Encoding: identity", b"Content-Length: 4") + GOOD,
    "xchunked": framed(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunkedx": framed(b"Transfer-Encoding: chunkedx") + b"0\r\n\r\n",
    "chunked in quotes": framed(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n",
    "chunked with a parameter": framed(b"Transfer-Encoding: chunked;q=1") + b"0\r\n\r\n",
    "chunked behind a vertical tab": framed(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "chunked behind NBSP": framed(b"Transfer-Encoding: \xa0chunked") + b"0\r\n\r\n",
    "no coding": framed(b"Transfer-Encoding:", b"Content-Length: 4") + GOOD,
    "chunked in HTTP/1.0": framed(b"Transfer-Encoding: chunked", version=b"1.0") + b"0\r\n\r\n",
    "a length with a plus": framed(b"Content-Length: +4") + GOOD,
    "a negative length": framed(b"Content-Length: -4") + GOOD,
    "a hexadecimal length": framed(b"Content-Length: 0x4") + GOOD,
    "a length with a blank": framed(b"Content-Length: 4 4") + GOOD,
    "a length with an underscore": framed(b"Content-Length: 0_4") + GOOD,
    "a length with a point": framed(b"Content-Length: 4.0") + GOOD,
    "a length beyond 64 bits": framed(b"Content-Length: 18446744073709551620") + GOOD,
    "a length with a zero before": framed(b"Content-Length: 04") + GOOD,
    "a length with a tab behind": framed(b"Content-Length: 4\t") + GOOD,
    "chunked with a tab behind": framed(b"Transfer-Encoding: chunked\t") + b"0\r\n\r\n",
    "an empty length": framed(b"Content-Length:") + GOOD,
    # a header that one sees and another does not
    "a blank before the colon": framed(b"Content-Length : 4") + GOOD,
    "a tab before the colon": framed(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n",
    "a blank before the name": framed(b" Content-Length: 4") + GOOD,
    "a folded length": framed(b"Content-Length:", b" 4") + GOOD,
    "a folded coding": framed(b"Transfer-Encoding:", b"\tchunked") + b"0\r\n\r\n",
    "a length behind a bare LF": framed(b"X: y\nContent-Length: 4") + GOOD,
    "a length behind a bare CR": framed(b"X: y\rContent-Length: 4") + GOOD,
    "a coding behind LF CR": framed(b"X: y\n\rTransfer-Encoding: chunked") + b"0\r\n\r\n",
    "NUL in a value": framed(b"X: y\0", b"Content-Length: 4") + GOOD,
    "NUL in a name": framed(b"Content-Length\0: 4") + GOOD,
    "a control character in a name": framed(b"Content\x01-Length: 4") + GOOD,
    "a letter beyond ASCII in a name": framed(b"Content-L\xe9ngth: 4") + GOOD,
    "no name": framed(b": 4", b"Content-Length: 4") + GOOD,
    "no colon": framed(b"Content-Length 4") + GOOD,
    "an end of LF LF": framed(b"Content-Length: 4").replace(b"\r\n\r\n", b"\n\n") + GOOD,
    "an end of CR CR": framed(b"Content-Length: 4").replace(b"\r\n\r\n", b"\r\r") + GOOD,
    # whose host, and which target
    "two hosts": framed(b"Host: other", b"Content-Length: 4") + GOOD,
    "absolute-form": framed(b"Content-Length: 4", target=b"http://other" + WRITE) + GOOD,
    "authority-form": framed(b"Content-Length: 4", target=b"other:80") + GOOD,
    "asterisk-form": framed(b"Content-Length: 4", target=b"*") + GOOD,
    "a blank in the target": framed(b"Content-Length: 4", target=WRITE + b" HTTP/1.1") + GOOD,
    "a tab in the target": framed(b"Content-Length: 4", target=WRITE + b"\tx") + GOOD,
    "two blanks in the line": framed(b"Content-Length: 4", target=b" " + WRITE) + GOOD,
    "HTTP/0.9": b"GET /api/v1/query\r\n\r\n",
    "HTTP/1.2": framed(b"Content-Length: 4", version=b"1.2") + GOOD,
    "HTTP/1.01": framed(b"Content-Length: 4", version=b"1.01") + GOOD,
    "HTTP/2.0": framed(b"Content-Length: 4", version=b"2.0") + GOOD,
    "rubbish before": b"(rubbish) " + framed(b"Content-Length: 4") + GOOD,
    "a blank line with a blank before": b" \r\n" + framed(b"Content-Length: 4") + GOOD,
    "a bare LF before": b"\n" + framed(b"Content-Length: 4") + GOOD,
}  # fmt: skip
"""Heads that are refused, whatever the token."""

BROKEN: Final = {
    "0x in a size": b"0x4\r\nm 1\n\r\n0\r\n\r\n",
    "a plus in a size": b"+4\r\nm 1\n\r\n0\r\n\r\n",
    "a minus in a size": b"-4\r\nm 1\n\r\n0\r\n\r\n",
    "a blank before a size": b" 4\r\nm 1\n\r\n0\r\n\r\n",
    "a blank behind a size": b"4 \r\nm 1\n\r\n0\r\n\r\n",
    "an underscore in a size": b"0_4\r\nm 1\n\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000004\r\nm 1\n\r\n0\r\n\r\n",
    "a bare LF behind a size": b"4\nm 1\n\r\n0\r\n\r\n",
    "a bare CR behind a size": b"4\rm 1\n\r\n0\r\n\r\n",
    "a bare LF behind a chunk": b"4\r\nm 1\n\n0\r\n\r\n",
    "a bare LF in an extension": b"4;x\ny\r\nm 1\n\r\n0\r\n\r\n",
    "a bare CR in an extension": b"4;x\ry\r\nm 1\n\r\n0\r\n\r\n",
    "a chunk longer than its size": b"4\r\nm 1\nx\r\n0\r\n\r\n",
    "no break behind a chunk": b"4\r\nm 1\n0\r\n\r\n",
    "a bare LF behind the last chunk": b"4\r\nm 1\n\r\n0\n\n",
    "a request for a trailer": b"4\r\nm 1\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "a folded trailer": b"4\r\nm 1\n\r\n0\r\nX: y\r\n z\r\n\r\n",
}
"""Chunked bodies that are none."""

PASSED: Final = {
    "a length": framed(b"Content-Length: 4") + GOOD,
    "chunked": framed(b"Transfer-Encoding: chunked") + b"4\r\nm 1\n\r\n0\r\n\r\n",
    "Chunked": framed(b"Transfer-Encoding: Chunked") + b"4\r\nm 1\n\r\n0\r\n\r\n",
    "chunked in blanks": framed(b"Transfer-Encoding:\t chunked ") + b"4\r\nm 1\n\r\n0\r\n\r\n",
    "an extension": framed(b"Transfer-Encoding: chunked") + b"4;x=y\r\nm 1\n\r\n0\r\n\r\n",
    "zeros before a size": framed(b"Transfer-Encoding: chunked") + b"0004\r\nm 1\n\r\n000\r\n\r\n",
    "trailers": framed(b"Transfer-Encoding: chunked") + b"4\r\nm 1\n\r\n0\r\nContent-Length: 9\r\nHost: x\r\n\r\n",
    "Connection: content-length": framed(b"Connection: content-length", b"Content-Length: 4") + GOOD,
    "Connection: transfer-encoding": framed(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked")
    + b"4\r\nm 1\n\r\n0\r\n\r\n",
    "Connection: host": framed(b"Connection: host, x-forwarded-for", b"Content-Length: 4") + GOOD,
    "Connection: upgrade": framed(b"Connection: upgrade, http2-settings", b"Upgrade: h2c", b"HTTP2-Settings: AAAA",
                                  b"Content-Length: 4") + GOOD,
    "an empty line before": b"\r\n" + framed(b"Content-Length: 4") + GOOD,
    "a Content-Length that is another header": framed(b"Content-Length: 4", b"X-Content-Length: 0",
                                                      b"Content_Length: 0", b"Transfer_Encoding: chunked") + GOOD,
}  # fmt: skip
"""Requests that pass."""


def connection(first: bytes, token: str, metric: str) -> bytes:
    """The bytes of a connection: the first request, and the one that it may hide behind itself, which has no token."""
    body = BODY.replace(b"%S", metric.encode())
    return first.replace(b"%T", token.encode()) + SMUGGLED % (len(body), body)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.fixture(scope="module")
def token(key: SigningKey) -> str:
    return key.mint(team("dev"))


@pytest.fixture(scope="module", params=["fast", "flow"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    flags = [f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    with Gateway("-enable.auth", f"-lane={request.param}", *flags) as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.forget()
    return backend


def send(gateway: Gateway, data: bytes) -> bytes:
    """All that is answered to a connection's bytes, until the gateway closes it."""
    with RawClient(gateway.port) as client:
        client.send(data)
        try:
            head = client.receive_head() + b"\r\n\r\n"
        except (EOFError, ConnectionResetError):
            return b""
        return head + client.end().receive_all()


def ask(gateway: Gateway, data: bytes) -> list[int]:
    """The statuses of the two answers to a connection's bytes."""
    with RawClient(gateway.port) as client:
        client.send(data)
        return [client.receive_answer()[0] for _ in range(2)]


# --- what a backend receives -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_head_reaches_no_backend(
    gateway: Gateway, upstream: RecordingUpstream, token: str, case: str
) -> None:
    received = send(gateway, connection(REFUSED[case], token, "m"))
    assert statuses(received) == [400]
    assert json.loads(received.partition(b"\r\n\r\n")[2])["errorType"] == "bad_data"
    assert upstream.bytes_received == 0


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_body_hides_nothing(gateway: Gateway, upstream: RecordingUpstream, token: str, case: str) -> None:
    """The backend may have been sent the beginning of the request; it never sees the end of one, nor another."""
    received = send(gateway, connection(framed(b"Transfer-Encoding: chunked") + BROKEN[case], token, "m"))
    assert statuses(received) in ([403], [])
    for raw in (bytes(each.raw) for each in upstream.connections):
        assert b"smuggled" not in raw
        assert raw.count(b" HTTP/1.1\r\n") <= 1
    assert all(not request.complete for request in upstream.requests)


@pytest.mark.smoke
@pytest.mark.parametrize("case", PASSED)
def test_a_backend_receives_exactly_what_was_admitted(
    gateway: Gateway, upstream: RecordingUpstream, token: str, case: str
) -> None:
    assert ask(gateway, connection(PASSED[case], token, "m")) == [200, 401]
    [request] = upstream.requests
    assert (request.method, request.body) == ("POST", GOOD)
    assert request.target == f"{WRITE.decode()}?extra_label=team%3Ddev"
    assert request.header("host") == [f"127.0.0.1:{upstream.port}"]
    assert request.header("x-forwarded-for") == ["127.0.0.1"]
    assert len(request.header("content-length")) + len(request.header("transfer-encoding")) == 1
    for name in ("connection", "upgrade", "trailer", "authorization"):
        assert request.header(name) == [], name
    [raw] = [bytes(each.raw) for each in upstream.connections if each.raw]
    end = b"\r\n\r\n" + (GOOD if request.header("content-length") else b"4\r\nm 1\n\r\n0\r\n\r\n")
    assert raw.endswith(end)
    assert raw.count(b"\r\n\r\n") == end.count(b"\r\n\r\n")


# --- real servers ----------------------------------------------------------------------------------------------------

NGINX: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format request escape=json '{{"request":"$request","body":"$request_body","status":$status}}';
    access_log {directory}/access.log request;
    server {{
        listen 127.0.0.1:{port};
        location = /health {{ access_log off; return 200; }}
        location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1; }}
    }}
}}
"""


class Nginx(Process):
    """nginx in front of VictoriaMetrics: what it takes for a request, it logs with its body."""

    name = "nginx"

    def __init__(self, behind: int) -> None:
        self.port, self.behind = free_port(), behind
        super().__init__()

    def command(self) -> list[str]:
        text = NGINX.format(directory=self.directory, port=self.port, behind=self.behind)
        (self.directory / "nginx.conf").write_text(text)
        return [find_program("nginx"), "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]

    def is_ready(self) -> bool:
        with RawClient(self.port) as client:
            client.send(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in client.receive_all()

    def requests(self) -> list[dict[str, object]]:
        """What it has logged."""
        assert self.is_ready()  # it is one process: what it has answered before this is in its log by now
        path = self.directory / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_real_servers_behind_it_see_nothing_smuggled(
    start_gateway: StartGateway,
    victoria_metrics: VictoriaMetrics,
    key_file: Path,
    token: str,
    metric: str,
    lane: str,
) -> None:
    """Nothing in nginx's access log, nothing in the data of VictoriaMetrics, and all that was admitted is there."""
    with Nginx(victoria_metrics.port) as nginx:
        gateway = start_gateway(
            "-enable.auth",
            f"-lane={lane}",
            f"-write.url=http://127.0.0.1:{nginx.port}",
            f"-auth.publicKeyFiles={key_file}",
        )
        broken = {case: framed(b"Transfer-Encoding: chunked") + body for case, body in BROKEN.items()}
        for first in (*REFUSED.values(), *broken.values()):
            assert 204 not in statuses(send(gateway, connection(first, token, metric)))
        for first in PASSED.values():
            assert ask(gateway, connection(first, token, metric)) == [204, 401]
        passed = [entry for entry in nginx.requests() if entry["status"] not in (400, 499)]  # bodies that broke off
        assert [entry["request"] for entry in passed] == [
            f"POST {WRITE.decode()}?extra_label=team%3Ddev HTTP/1.1"
        ] * len(PASSED)
        assert victoria_metrics.series(metric) == []
