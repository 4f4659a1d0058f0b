"""Bodies that go through a meter in the flow lane: what the client and the backend get."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.core.bodies import SNAPPY, remote_write, snappy
from tests.support.wire.metering import METER
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import RawClient, head
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import eventually

MIB = 1 << 20
WRITE = "/api/v1/import/prometheus"
LINE = b"m%058d 1\n" % 1
LINES = MIB // len(LINE)
"""Just under a mebibyte of lines."""


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.refuse()
    backend.listen()
    backend.forget()
    backend.responder = lambda request: Reply(status=204, body=b"")
    return backend


@pytest.fixture(scope="module")
def gateway(backend: RecordingUpstream, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    script = tmp_path_factory.mktemp("scripts") / "metering.py"
    script.write_text(METER)
    flags = [f"-write.url={backend.url}", f"-read.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    with Gateway("-enable.auth", *flags, program="mitmdump", scripts=[script]) as gateway:
        yield gateway


def rows(number: int, *more: str) -> list[str]:
    return [f"X-Rows: {number}", *more]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def posted(gateway: Gateway, token: str, body: bytes, headers: list[str], *, chunked: bool = False) -> RawClient:
    """A client that has sent a whole request."""
    client = RawClient(gateway.port)
    if chunked:
        client.send(head("POST", WRITE, token, [*headers, "Transfer-Encoding: chunked"]))
        for start in range(0, len(body), 10_000):
            client.send(chunk(body[start : start + 10_000]))
        return client.send(b"0\r\n\r\n")
    return client.send(head("POST", WRITE, token, [*headers, f"Content-Length: {len(body)}"])).send(body)


def only(upstream: RecordingUpstream) -> ReceivedRequest:
    assert len(upstream.requests) == 1
    return upstream.requests[0]


# --- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, LINES, 3 * LINES])
def test_what_fits_arrives_as_it_was_sent(
    gateway: Gateway, upstream: RecordingUpstream, token: str, size: int, chunked: bool
) -> None:
    body = LINE * size
    with posted(gateway, token, body, rows(size), chunked=chunked) as client:
        assert client.receive_answer()[0] == 204
        request = only(upstream)
        assert request.complete
        assert request.body_size == len(body)
        assert request.body == body[:MIB]
        assert request.header("Content-Length") == ([] if chunked else [str(len(body))])
        client.send(head("POST", WRITE, token, rows(0, "Content-Length: 0")))
        assert client.receive_answer()[0] == 204


def test_remote_write_arrives_as_it_was_sent(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    body = snappy(remote_write())
    headers = {name.decode(): value.decode() for name, value in SNAPPY} | {"X-Rows": "5"}
    assert gateway.client(token).post("/api/v1/write", body=body, headers=headers).status == 204
    assert only(upstream).body == body


def test_a_refusal_says_when_to_come_back(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    answer = gateway.client(token).post(WRITE, body=LINE, headers={"X-Rows": "0"})
    assert (answer.status, answer.header("Retry-After")) == (429, "7")
    assert answer.json()["error"] == "no more rows"
    assert upstream.bytes_received == 0


def test_reads_are_not_metered(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    assert gateway.client(token).get("/api/v1/query?query=up", headers={"X-Rows": "0"}).status == 204


# --- what does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [1, 3 * LINES // 4])
def test_of_a_body_up_to_a_mebibyte_the_backend_hears_nothing(
    gateway: Gateway, upstream: RecordingUpstream, token: str, size: int, chunked: bool
) -> None:
    known = len(upstream.connections)
    with posted(gateway, token, LINE * size, rows(size - 1), chunked=chunked) as client:
        assert client.receive_answer()[0] == 429
        assert len(upstream.connections) == known
        # The body was read to its end, so the connection goes on.
        client.send(head("POST", WRITE, token, rows(1, f"Content-Length: {len(LINE)}"))).send(LINE)
        assert client.receive_answer()[0] == 204
    assert only(upstream).body == LINE


@pytest.mark.smoke
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_larger_body_is_cut_off(gateway: Gateway, upstream: RecordingUpstream, token: str, chunked: bool) -> None:
    """The backend gets lines that were counted, and its connection is closed before the body is complete."""
    allowed = 2 * LINES
    with posted(gateway, token, LINE * 4 * LINES, rows(allowed), chunked=chunked) as client:
        answer = client.receive_all()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nconnection: close" in answer.lower()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "no more rows"
    eventually(lambda: upstream.connections[-1].closed, what="the connection is closed")
    request = only(upstream)
    assert not request.complete
    assert MIB < request.body_size <= allowed * len(LINE)


def test_the_end_of_a_larger_body_that_does_not_fit_does_not_arrive(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    """Its last line is one too many; the backend waits for it in vain."""
    size = 2 * LINES
    with posted(gateway, token, LINE * size, rows(size - 1)) as client:
        assert client.receive_answer()[0] == 429  # the connection may stay: the whole request may be there by now
    eventually(lambda: upstream.connections[-1].closed, what="the connection is closed")
    assert not only(upstream).complete
    assert only(upstream).body_size < len(LINE) * size


def test_a_refused_upload_is_answered_while_it_is_on_its_way(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    before = gateway.rss()
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, rows(10, "Content-Length: 1000000000")))
        sent = client.send_until_refused(LINE * 1000, 200 * MIB)
        assert sent < 32 * MIB
        assert client.receive_all().startswith(b"HTTP/1.1 429 ")
    assert upstream.bytes_received == 0
    assert gateway.rss() - before < 32 * MIB


def test_a_large_body_that_fits_takes_no_memory(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    piece = LINE * 1000
    pieces = [piece] * (100 * MIB // len(piece))
    headers = {"X-Rows": str(10**9)}
    gateway.client(token).post(WRITE, body=iter(pieces[:50]), headers=headers)
    before = gateway.rss()
    assert gateway.client(token).post(WRITE, body=iter(pieces), headers=headers).status == 204
    assert upstream.requests[1].body_size == len(piece) * len(pieces)
    assert gateway.rss() - before < 16 * MIB


# --- bodies that cannot be counted ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", b"m 1\n", 403),
        ("gzip, gzip", gzip.compress(gzip.compress(LINE, mtime=0), mtime=0), 403),
        ("gzip", b"m 1\n" * 100, 400),
        ("gzip", gzip.compress(LINE, mtime=0)[:-1], 400),
        ("identity", b"m" * (2 * MIB), 413),
        ("gzip", gzip.compress(b"m 1\n" * (6 * MIB), mtime=0), 413),
    ],
)
def test_what_cannot_be_counted_is_refused(
    gateway: Gateway, upstream: RecordingUpstream, token: str, encoding: str, body: bytes, status: int
) -> None:
    """With 400, on which vmagent drops the block, only where no repetition helps: a broken encoding."""
    with posted(gateway, token, body, rows(10**9, f"Content-Encoding: {encoding}")) as client:
        assert client.receive_answer()[0] == status
    assert upstream.bytes_received == 0


# --- backends and clients that go away ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3 * LINES])
def test_a_backend_that_is_away_is_502(gateway: Gateway, upstream: RecordingUpstream, token: str, size: int) -> None:
    upstream.refuse()
    with posted(gateway, token, LINE * size, rows(size)) as client:
        status, body = client.receive_answer()
    assert status == 502
    assert json.loads(body)["errorType"] == "unavailable"


def test_a_backend_that_answers_early_is_heard(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(status=413, early=True, body=b"too much")
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, rows(2 * LINES, f"Content-Length: {len(LINE) * 4 * LINES}")))
        client.send(LINE * (LINES + 5000))
        assert client.receive_answer() == (413, b"too much")
        upstream.responder = lambda request: Reply(status=204, body=b"")
        client.send(LINE * (3 * LINES - 5000))
        eventually(lambda: upstream.connections[-1].closed, what="the connection is closed")
        assert not only(upstream).complete
        # The rest was read and dropped, so the client may go on.
        client.send(head("POST", WRITE, token, rows(1, f"Content-Length: {len(LINE)}"))).send(LINE)
        assert client.receive_answer()[0] == 204


def test_a_client_that_leaves_leaves_nothing_behind(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    gateway.client(token).post(WRITE, body=LINE, headers={"X-Rows": "1"})
    upstream.forget()
    descriptors = gateway.fds()
    for size in (10, LINES + 5000):
        with RawClient(gateway.port) as client:
            client.send(head("POST", WRITE, token, rows(10**6, "Content-Length: 1000000000"))).send(LINE * size)
            if size > LINES:
                eventually(lambda: upstream.requests, what="the backend has the head")
            client.socket.shutdown(socket.SHUT_RDWR)
    eventually(lambda: gateway.fds() <= descriptors, what="the sockets are closed")
    assert not only(upstream).complete


# --- bodies that are wanted whole -----------------------------------------------------------------------------------


def test_a_body_that_an_addon_wants_whole_streams_through_the_meter(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    with posted(gateway, token, LINE * 10, rows(9, "X-Whole: 1")) as client:
        assert client.receive_answer()[0] == 429
    assert upstream.requests == []
    with posted(gateway, token, LINE * 3 * LINES, rows(2 * LINES, "X-Whole: 1")) as client:
        assert client.receive_all().startswith(b"HTTP/1.1 429 ")
    assert not only(upstream).complete
    upstream.forget()
    with posted(gateway, token, LINE * 10, rows(10, "X-Whole: 1")) as client:
        assert client.receive_answer()[0] == 204
    assert only(upstream).body == LINE * 10


def test_requests_behind_each_other_are_metered_each_on_its_own(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    with RawClient(gateway.port) as client:
        for allowed, status in ((2, 204), (1, 429), (2, 204)):
            client.send(head("POST", WRITE, token, rows(allowed, f"Content-Length: {2 * len(LINE)}")))
            client.send(LINE * 2)
            assert client.receive_answer()[0] == status
    assert [request.body for request in upstream.requests] == [LINE * 2] * 2


def test_the_expectation_of_a_client_is_met(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, rows(1, f"Content-Length: {len(LINE)}", "Expect: 100-continue")))
        assert client.receive_head().startswith(b"HTTP/1.1 100 ")
        client.send(LINE)
        assert client.receive_answer()[0] == 204
    assert only(upstream).header("Expect") == []
