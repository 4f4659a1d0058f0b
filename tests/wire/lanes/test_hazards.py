"""What mitmproxy leaves open by default, closed: each test is one such hole, probed over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program
from tests.support.wire.raw import RawClient, head
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply, never
from tests.support.wire.waiting import eventually
from tests.support.wire.write_bodies import TEXT_BLOCK

MIB = 1 << 20
WRITE = "/api/v1/import/prometheus"
QUERY = "/api/v1/query?query=up"


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    """One for all tests of this file, so each shows as well that it left the gateway in order."""
    flags = [f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    with Gateway("-enable.auth", *flags, program=request.param) as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.forget()
    backend.responder = lambda request: Reply()
    return backend


# --- refused at once, with flat memory ------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    "framing",
    [["Content-Length: 209715200"], ["Transfer-Encoding: chunked"]],
    ids=["content-length", "chunked"],
)
def test_a_refused_upload_is_answered_before_it_is_through(
    gateway: Gateway, upstream: RecordingUpstream, framing: list[str]
) -> None:
    gateway.client().post(WRITE, body=b"m 1")  # what is loaded on the first refusal is loaded
    before, descriptors = gateway.rss(), gateway.fds()
    chunk = b"x" * 65536 if "Content-Length" in framing[0] else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, framing))
        sent = client.send_until_refused(chunk, 200 * MIB)
        assert sent < 100 * MIB
        assert b" 401 " in client.receive_all()[:20]
    assert gateway.rss() - before < 5 * MIB
    eventually(lambda: gateway.fds() <= descriptors, what="the refused connection's descriptor is given back")
    assert upstream.bytes_received == 0


def test_a_client_that_expects_100_continue_is_refused_without_it(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, ["Content-Length: 1000", "Expect: 100-continue"]))
        status, _ = client.receive_answer()
    assert status == 401


def test_a_client_that_expects_100_continue_gets_it_once_admitted(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 4", "Expect: 100-continue"]))
        assert client.receive_head().startswith(b"HTTP/1.1 100 ")
        client.send(b"m 1\n")
        assert client.receive_answer()[0] == 200
    [request] = upstream.requests
    assert request.body == b"m 1\n"
    assert request.header("expect") == []


def test_a_refused_connection_is_not_read_for_ever(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, None, ["Content-Length: 1000000"])).send(b"x")
        assert client.receive_answer()[0] == 401
        assert client.is_closed()


@pytest.mark.parametrize(("target", "status"), [("/health", 200), ("/ping", 204), ("/api/v1/import", 405), ("/x", 404)])
def test_an_answer_to_head_has_no_content(gateway: Gateway, token: str, target: str, status: int) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("HEAD", target, token))
        assert client.receive_head().startswith(f"HTTP/1.1 {status} ".encode())
        client.send(head("GET", "/health", None))
        assert client.receive_answer() == (200, b"OK")


def test_a_refusal_without_a_body_keeps_the_connection(gateway: Gateway, token: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, None))
        assert client.receive_answer()[0] == 401
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


@pytest.mark.parametrize(
    "framing", [["Content-Length: 20000000"], ["Transfer-Encoding: chunked"]], ids=["content-length", "chunked"]
)
def test_a_form_over_the_limit_is_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, framing: list[str]
) -> None:
    form = ["Content-Type: application/x-www-form-urlencoded"]
    chunk = b"x" * 65536 if "Content-Length" in framing[0] else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with RawClient(gateway.port) as client:
        client.send(head("POST", "/api/v1/query", token, [*framing, *form]))
        client.send_until_refused(chunk, 19 * MIB)
        assert b" 413 " in client.receive_all()[:20]
    assert upstream.bytes_received == 0


@pytest.mark.parametrize("kind", ["admitted", "refused", "unknown", "failed"])
def test_answered_requests_leave_nothing_behind(
    gateway: Gateway, upstream: RecordingUpstream, token: str, kind: str
) -> None:
    request = head("GET", "/x" if kind == "unknown" else QUERY, None if kind == "refused" else token)
    if kind == "failed":
        upstream.responder = lambda request: HANG_UP

    def ask(times: int) -> None:
        with RawClient(gateway.port) as client:
            for _ in range(times):
                client.send(request).receive_answer()

    ask(200)
    before = gateway.rss()
    ask(1000)
    assert gateway.rss() - before < 3 * MIB


# --- heads and bodies -----------------------------------------------------------------------------------------------


def test_an_endless_head_is_refused_with_flat_memory(gateway: Gateway) -> None:
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        client.send_until_refused(b"x" * 65536, 100 * MIB)
        assert b" 431 " in client.receive_all()[:20]
    assert gateway.rss() - before < 5 * MIB


def test_trailers_are_dropped(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Transfer-Encoding: chunked"]))
        client.send(b"4\r\nm 1\n\r\n0\r\nX-Trailer: secret\r\nAccountID: 7\r\n\r\n")
        assert client.receive_answer()[0] == 200
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200
    assert upstream.requests[0].body == b"m 1\n"
    assert all(b"secret" not in connection.raw for connection in upstream.connections)


@pytest.mark.parametrize(
    "tail",
    [b"4;" + b"x" * (1 << 20), b"0\r\nX-Trailer: " + b"x" * (1 << 20), b"zz\r\n", b"4\r\nm 1\nxx", b"-1\r\n"],
    ids=["endless-chunk-extension", "endless-trailer", "no-size", "no-line-break", "negative-size"],
)
def test_a_broken_chunked_body_closes_the_connection(
    gateway: Gateway, upstream: RecordingUpstream, token: str, tail: bytes
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Transfer-Encoding: chunked"]))
        client.send_until_refused(tail, len(tail))
        assert client.is_closed()
    assert all(not request.complete for request in upstream.requests)


@pytest.mark.parametrize("program", ["vmgateway", "mitmdump"])
def test_what_is_pipelined_while_an_answer_is_awaited_is_bounded(program: Program, key_file: Path, token: str) -> None:
    """It has a gateway of its own, which goes on with the requests that it has read when the client has left."""
    with RecordingUpstream(lambda request: never()) as upstream:
        flags = [f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", "-backend.responseTimeout=1s"]
        with Gateway("-enable.auth", *flags, program=program) as gateway:
            before = gateway.rss()
            # It stops reading, or closes: what is sent then waits in the kernel, or has nobody to take it.
            with RawClient(gateway.port, timeout=0.5) as client:
                client.send(head("GET", QUERY, token))
                assert client.send_until_refused(head("GET", QUERY, token) * 100, 100 * MIB) < 20 * MIB
                assert gateway.rss() - before < 8 * MIB


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(body=request.target.encode())
    with RawClient(gateway.port) as client:
        client.send(b"".join(head("GET", f"/api/v1/query?query={number}", token) for number in range(5)))
        bodies = [client.receive_answer()[1] for _ in range(5)]
    assert bodies == [f"/api/v1/query?query={number}".encode() for number in range(5)]


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Length: 3", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
        (["Content-Length: 3", "Content-Length: 3"], b"m 1"),
        (["Content-Length: +3"], b"m 1"),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
        (["X-A: b", " folded: yes", "Content-Length: 3"], b"m 1"),
        (["X-A: b\rContent-Length: 3"], b"m 1"),
        (["X-A: b\nContent-Length: 3"], b"m 1"),
        (["X-A: b\0c", "Content-Length: 3"], b"m 1"),
        (["Host: other", "Content-Length: 3"], b"m 1"),
    ],
    ids=[
        "length-and-coding",
        "two-lengths",
        "signed-length",
        "unknown-coding",
        "space-before-colon",
        "folded",
        "bare-cr",
        "bare-lf",
        "nul",
        "two-hosts",
    ],
)
def test_ambiguous_heads_are_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, lines: list[str], body: bytes
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, lines) + body)
        received = client.receive_all()
    assert received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["errorType"] == "bad_data"
    assert upstream.bytes_received == 0


@pytest.mark.parametrize(
    "line",
    ["GET http://evil:81/api/v1/query HTTP/1.1", "CONNECT evil:443 HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1"],
    ids=["absolute-form", "authority-form", "asterisk", "options-asterisk"],
)
def test_only_origin_form_targets_pass(gateway: Gateway, upstream: RecordingUpstream, token: str, line: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(f"{line}\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        assert client.receive_all().startswith(b"HTTP/1.1 400 ")
    assert upstream.bytes_received == 0


# --- streams --------------------------------------------------------------------------------------------------------


def test_bodies_stream_both_ways_with_flat_memory(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    size = 200 * MIB
    pieces = [TEXT_BLOCK * 16] * 200
    gateway.client(token).post(WRITE, body=b"m 1")
    before = gateway.rss()
    gateway.client(token).post(WRITE, body=iter(pieces), headers={"Content-Length": str(size)})
    gateway.client(token).post(WRITE, body=iter(pieces))
    assert [request.body_size for request in upstream.requests[1:]] == [size, size]
    upstream.responder = lambda request: Reply(body=iter(pieces))
    assert len(gateway.client(token).get(QUERY).body) == size
    assert gateway.rss() - before < 10 * MIB
