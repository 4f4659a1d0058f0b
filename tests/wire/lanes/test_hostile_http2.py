"""Bytes over TLS that are not what was agreed on: an answer or a closed connection, and the next client is served."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HELLO,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    frame,
    literal,
    request,
)
from tests.support.wire.processes import Gateway
from tests.support.wire.raw import head
from tests.support.wire.tls import TLSGateway, needs_http2
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually

pytestmark = needs_http2

QUERY = "/api/v1/query?query=up"
MIB = 1 << 20

NOISE = random.Random(20).randbytes(20_000)  # noqa: S311
PLAIN = request(None)


@pytest.fixture(scope="module", params=["fast", "flow"])
def served(
    request: pytest.FixtureRequest, key_file: Path, authority: Authority
) -> Iterator[tuple[Gateway, RecordingUpstream]]:
    certificate = authority.issue("localhost")
    with RecordingUpstream() as upstream:
        tls = ("-tls", f"-tlsCertFile={certificate.cert}", f"-tlsKeyFile={certificate.key}", "-http.enableHTTP2")
        flags = (f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", f"-lane={request.param}")
        with TLSGateway("-enable.auth", *flags, *tls) as gateway:
            yield gateway, upstream


@pytest.fixture
def gateway(served: tuple[Gateway, RecordingUpstream]) -> Gateway:
    return served[0]


@pytest.fixture
def backend(served: tuple[Gateway, RecordingUpstream]) -> RecordingUpstream:
    served[1].forget()
    return served[1]


def still_serves(gateway: Gateway, authority: Authority, key: SigningKey) -> None:
    with Client(gateway, authority) as client:
        client.send(HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, request(key.mint())))
        assert b'"success"}' in client.receive_until(b'"success"}')
    with Client(gateway, authority, "http/1.1") as client:
        client.send(head("GET", QUERY, key.mint(), ["Connection: close"]))
        assert client.receive_all().startswith(b"HTTP/1.1 200 ")


CLOSED = {
    "broken preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + frame(SETTINGS),
    "HTTP/1.1": head("GET", QUERY, None),
    "noise": NOISE,
    "noise behind the preface": PREFACE + NOISE,
    "noise behind the settings": HELLO + NOISE,
    "a frame too large": HELLO + b"\xff\xff\xff" + bytes((DATA, 0, 0, 0, 0, 1)),
    "a request for stream 0": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 0, PLAIN),
    "a request for an even stream": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 2, PLAIN),
    "data of no request": HELLO + frame(DATA, 0, 1, b"x"),
    "a push": HELLO + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + PLAIN),
    "settings of no length": HELLO + frame(SETTINGS, 0, 0, b"x"),
    "a ping too short": HELLO + frame(PING, 0, 0, b"x"),
    "a window too large": HELLO + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
    "a window of nothing": HELLO + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "a reset of nothing": HELLO + frame(RST_STREAM, 0, 1, bytes(4)),
    "a continuation of nothing": HELLO + frame(CONTINUATION, END_HEADERS, 1, PLAIN),
    "something within a header block": HELLO + frame(HEADERS, 0, 1, PLAIN) + frame(PING, 0, 0, bytes(8)),
    "an index of nothing": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\x7f"),
    "a number without end": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" + b"\xff" * 4000),
    "a table that grows": HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe1\xff\xff\x07" + PLAIN),
    "a table quoted without end": HELLO
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, PLAIN + literal(b"a", b"x" * 3900, indexed=True) + b"\xbe" * 10_000),
    "one large header": HELLO
    + frame(HEADERS, 0, 1, (block := request(None, literal(b"a", b"x" * 200_000)))[:16_000])
    + b"".join(frame(CONTINUATION, 0, 1, block[start : start + 16_000]) for start in range(16_000, 192_000, 16_000))
    + frame(CONTINUATION, END_HEADERS, 1, block[192_000:]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_what_is_no_http2_is_closed(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey, name: str
) -> None:
    with Client(gateway, authority) as client:
        client.send(CLOSED[name])
        client.receive_all()
    assert backend.requests == []
    still_serves(gateway, authority, key)


FLOODS = {
    "settings": frame(SETTINGS),
    "pings": frame(PING, 0, 0, bytes(8)),
    "acknowledgements": frame(SETTINGS, 1),
    "priorities": frame(PRIORITY, 0, 1, b"\0\0\0\3\0"),
    "unknown frames": frame(0x77, 0, 0, b"x" * 8),
    "empty data": frame(DATA, 0, 1),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_is_bounded(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey, name: str
) -> None:
    """The client reads nothing: what it is owed for its frames must not pile up."""
    still_serves(gateway, authority, key)
    memory = gateway.rss()
    with Client(gateway, authority) as client:
        opened = frame(HEADERS, END_HEADERS, 1, PLAIN) if name == "empty data" else b""
        client.send(HELLO + opened)
        client.socket.settimeout(1)  # the gateway stops reading, or closes
        for _ in range(20):
            if not client.send(FLOODS[name] * 2500):
                break
        assert gateway.rss() - memory < 16 * MIB
    still_serves(gateway, authority, key)


def counted(gateway: Gateway, authority: Authority) -> float:
    """How many requests have ended, by the gateway's own account."""
    with Client(gateway, authority, "http/1.1") as client:
        client.send(head("GET", "/metrics", None, ["Connection: close"]))
        page = client.receive_all().decode()
    return sum(float(value) for value in re.findall(r"^vmgateway_requests_total\{.*\} (\S+)$", page, re.MULTILINE))


@pytest.mark.parametrize("good", [True, False], ids=["admitted", "refused"])
def test_requests_that_are_reset_at_once_leave_nothing(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey, good: bool
) -> None:
    token = key.mint() if good else "bad"
    resets = [
        frame(HEADERS, END_HEADERS | END_STREAM, stream, request(token)) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
        for stream in range(1, 601, 2)
    ]
    still_serves(gateway, authority, key)
    memory, descriptors, before = gateway.rss(), gateway.fds(), counted(gateway, authority)
    for _ in range(3):
        with Client(gateway, authority) as client:
            client.send(HELLO + b"".join(resets) + frame(PING, 0, 0, b"the end."))
            client.receive_until(b"the end.")
    eventually(lambda: gateway.fds() <= descriptors + 5, what="connections are given back")
    eventually(lambda: counted(gateway, authority) == before + 900, what="every request has ended, once")
    assert gateway.rss() - memory < 16 * MIB
    assert len(backend.requests) <= (902 if good else 2) + 2
    still_serves(gateway, authority, key)


def test_requests_of_one_connection_run_at_the_same_time(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey
) -> None:
    """Each has a connection to the backend of its own, whether it comes first or while others are answered."""
    token, go_on = key.mint(), threading.Event()

    def respond(_: ReceivedRequest) -> Reply:
        assert go_on.wait(HANGS)
        return Reply(body=b'"success"}')

    backend.responder = respond
    try:
        with Client(gateway, authority) as client:
            client.send(HELLO)
            for number in range(12):
                client.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, request(token)))
                eventually(lambda n=number: len(backend.requests) > n, what="the backend has it")  # type: ignore[misc]
            go_on.set()
            received = b""
            while received.count(b'"success"}') < 12 and (data := client.socket.recv(1 << 16)):
                received += data
            assert received.count(b'"success"}') == 12
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, 25, request(token)))
            assert b'"success"}' in client.receive_until(b'"success"}')
    finally:
        go_on.set()
        backend.responder = lambda _: Reply()


def test_continuations_without_end_are_cut_off(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey
) -> None:
    memory = gateway.rss()
    with Client(gateway, authority) as client:
        client.send(HELLO + frame(HEADERS, 0, 1, PLAIN))
        piece = frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f" + b"x" * 16_000)
        for _ in range(2000):  # 32 MB of one head
            if not client.send(piece):
                break
        client.receive_all()
    assert gateway.rss() - memory < 16 * MIB
    assert backend.requests == []
    still_serves(gateway, authority, key)


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
@pytest.mark.parametrize("ending", ["notified", "cut"])
def test_a_half_closed_client_is_answered_or_closed(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey, protocol: str, ending: str
) -> None:
    token = key.mint()
    with Client(gateway, authority, protocol) as client:
        if protocol == "h2":
            client.send(HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, request(token)))
        else:
            client.send(head("GET", QUERY, token))
        if ending == "cut":
            client.socket.shutdown(socket.SHUT_WR)
            client.receive_all()
        else:
            with contextlib.suppress(OSError):
                client.socket.unwrap()  # the alert that closes, then what the gateway makes of it
    assert len(backend.requests) <= 1
    still_serves(gateway, authority, key)


def test_http_1_1_where_it_was_not_agreed_reaches_no_backend(
    gateway: Gateway, backend: RecordingUpstream, authority: Authority, key: SigningKey
) -> None:
    with Client(gateway, authority) as client:
        client.send(head("GET", QUERY, key.mint()))
        assert b"200" not in client.receive_all()
    with Client(gateway, authority, "http/1.1") as client:
        client.send(HELLO + frame(HEADERS, END_HEADERS | END_STREAM, 1, request(key.mint())))
        assert client.receive_all().startswith(b"HTTP/1.1 400 ")
    assert backend.requests == []
    still_serves(gateway, authority, key)
