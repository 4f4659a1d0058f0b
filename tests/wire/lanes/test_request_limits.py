"""What a client may send to the fast lane, how long it may take, and what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.upstream import RecordingUpstream, Reply

QUERY = "/api/v1/query?query=up"
WRITE = "/api/v1/import/prometheus"
MIB = 1 << 20
FORM = "Content-Type: application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def gateway(backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    flags = [f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    flags += ["-http.headTimeout=300ms", "-http.bodyTimeout=300ms", "-http.idleConnTimeout=300ms"]
    flags += ["-http.maxHeadSize=8KiB", "-http.maxRequestLine=4KiB", "-http.maxHeaders=20", "-http.maxChunkLine=64"]
    with Gateway("-enable.auth", *flags, "-maxFormSize=64KiB") as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.responder = lambda request: Reply()
    backend.forget()
    return backend


def read_only(answer: bytes) -> tuple[int, str]:
    """Status and ``errorType`` of the one answer there is."""
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"\r\nConnection: close\r\n" in answer
    return int(answer[9:12]), json.loads(answer.partition(b"\r\n\r\n")[2])["errorType"]


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r"])
def test_a_slow_head_is_408(gateway: Gateway, start: bytes) -> None:
    with RawClient(gateway.port) as client:
        assert read_only(client.send(start).receive_all()) == (408, "timeout")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("kind", ["write", "form"])
def test_a_slow_body_is_408(gateway: Gateway, upstream: RecordingUpstream, token: str, framing: str, kind: str) -> None:
    target, more = (WRITE, []) if kind == "write" else ("/api/v1/query", [FORM])
    with RawClient(gateway.port) as client:
        client.send(head("POST", target, token, [framing, *more]) + b"4\r\nm 1\n")
        assert read_only(client.receive_all()) == (408, "timeout")
    assert all(not request.complete for request in upstream.requests)


@pytest.mark.parametrize("first", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["new", "used"])
def test_an_idle_connection_is_closed_without_a_word(gateway: Gateway, first: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(first)
        if first:
            assert client.receive_head().startswith(b"HTTP/1.1 204 ")
        assert client.receive_all() == b""


def test_a_client_that_takes_nothing_is_cut_off(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(body=iter([b"x" * MIB] * 64))
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        gateway.wait_until(lambda: gateway.metric("vmgateway_requests_total", outcome="failed") or _failed(gateway),
                           what="gave the client up")  # fmt: skip
        assert len(client.receive_all()) < 64 * MIB


def _failed(gateway: Gateway) -> bool:
    return b'="failed"' in gateway.client().get("/metrics").body


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /" + b"x" * 4096 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, id="line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 8192 + b"\r\n\r\n", 431, id="head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431, id="headers"),
        pytest.param(b"GET /" + b"x" * 9000, 431, id="a line without end"),
    ],
)
def test_large_heads_are_refused(gateway: Gateway, upstream: RecordingUpstream, data: bytes, status: int) -> None:
    with RawClient(gateway.port) as client:
        assert read_only(client.send(data).receive_all())[0] == status
    assert upstream.bytes_received == 0


@pytest.mark.parametrize("target", [WRITE, "/api/v1/query"])
@pytest.mark.parametrize(
    "body",
    [b"4;" + b"x" * 100, b"4;" + b"x" * 100 + b"\r\nm 1\n\r\n", b"0\r\nX: " + b"x" * 100, b"0\r\n" + b"X: y\r\n" * 20],
    ids=["extension without end", "extension", "trailer without end", "trailers"],
)
def test_long_chunk_lines_are_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, target: str, body: bytes
) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", target, token, ["Transfer-Encoding: chunked", FORM]) + body)
        assert read_only(client.receive_all()) == ((403, "forbidden") if target == WRITE else (400, "bad_data"))
    assert all(not request.complete for request in upstream.requests)


@pytest.mark.parametrize("framing", ["Content-Length: 70000", "Transfer-Encoding: chunked"])
def test_a_large_form_is_413(gateway: Gateway, upstream: RecordingUpstream, token: str, framing: str) -> None:
    body = b"x" * 70_000 if "Length" in framing else b"11170\r\n" + b"x" * 70_000 + b"\r\n0\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(head("POST", "/api/v1/query", token, [framing, FORM]) + body)
        status, content = client.receive_answer()
        assert (status, json.loads(content)["errorType"]) == (413, "bad_data")
    assert upstream.bytes_received == 0


# --- floods ---------------------------------------------------------------------------------------------------------


def test_a_flood_of_requests_whose_answers_nobody_takes_is_not_read(gateway: Gateway) -> None:
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.socket.settimeout(0.5)
        sent = client.send_until_refused(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, 200 * MIB)
        assert sent < 100 * MIB
        assert gateway.rss() - before < 8 * MIB
    assert gateway.client().get("/health").status == 200


def test_a_flood_of_empty_lines_keeps_nobody_waiting(gateway: Gateway) -> None:
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.send_until_refused(b"\r\n" * 32768, 20 * MIB)
        assert gateway.client().get("/health").status == 200
    assert gateway.rss() - before < 8 * MIB
