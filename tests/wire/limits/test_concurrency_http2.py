"""Requests at once over HTTP/2: whoever is reset or closed while it waits keeps no place, and no backend is asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.http2 import END_HEADERS, END_STREAM, HEADERS, HELLO, PING, RST_STREAM, Client, frame, request
from tests.support.wire.processes import Gateway, auth_flags
from tests.support.wire.raw import head
from tests.support.wire.tls import TLSGateway, needs_http2
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually

pytestmark = needs_http2

LABELS, QUERY = "/api/v1/labels", "/api/v1/query?query=up"
ANSWER = b'"success"}'


class Server:
    """A gateway with one slot, and a backend that keeps requests for labels until the gate is open."""

    def __init__(self, gateway: Gateway, upstream: RecordingUpstream, authority: Authority, token: str) -> None:
        self.gateway, self.upstream, self.authority, self.token = gateway, upstream, authority, token
        self.gate = threading.Event()
        upstream.responder = lambda request: Reply(gate=self.gate if request.path == LABELS else None)

    def connect(self) -> Client:
        client = Client(self.gateway, self.authority)
        client.send(HELLO)
        return client

    def get(self, stream: int, target: str = QUERY) -> bytes:
        """The frame of a request."""
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, request(self.token, target=target))

    def hold(self, client: Client) -> None:
        """Take the slot."""
        client.send(self.get(1, LABELS))
        eventually(lambda: self.upstream.requests)

    def is_at(self, name: str, number: int) -> None:
        eventually(lambda: self.count(name) == number, what=f"{number} requests {name}")

    def count(self, name: str) -> float:
        with Client(self.gateway, self.authority, "http/1.1") as client:
            client.send(head("GET", "/metrics", None, ["Connection: close"]))
            found = re.search(rf"^vmgateway_concurrent_requests_{name} (\S+)$", client.receive_all().decode(), re.M)
        assert found is not None
        return float(found[1])

    def check_free(self, asked: list[str]) -> None:
        """The slot comes free, the backend got only these requests, and the next one passes."""
        self.gate.set()
        self.is_at("current", 0)
        self.is_at("waiting", 0)
        assert [each.target for each in self.upstream.requests] == asked
        with self.connect() as client:
            client.send(self.get(1))
            assert ANSWER in client.receive_until(ANSWER)


@pytest.fixture(params=["fast", "flow"])
def server(
    request: pytest.FixtureRequest, upstream: RecordingUpstream, key: SigningKey, authority: Authority
) -> Iterator[Server]:
    key_file = request.getfixturevalue("key_file")
    certificate = authority.issue("localhost")
    tls = ("-tls", f"-tlsCertFile={certificate.cert}", f"-tlsKeyFile={certificate.key}", "-http.enableHTTP2")
    limits = ("-maxConcurrentRequests=1", "-maxQueueDuration=10m", f"-lane={request.param}")
    with TLSGateway(*auth_flags(upstream.url, key_file), *tls, *limits) as gateway:
        yield Server(gateway, upstream, authority, key.mint())


def test_requests_of_one_connection_wait_for_their_turn(server: Server) -> None:
    with server.connect() as client:
        server.hold(client)
        client.send(server.get(3) + server.get(5))
        server.is_at("waiting", 2)
        assert len(server.upstream.requests) == 1
        server.gate.set()
        received = b""
        while received.count(ANSWER) < 3:
            received += client.socket.recv(1 << 16)
    server.check_free([LABELS, QUERY, QUERY])


def test_a_reset_gives_the_place_in_the_queue_back(server: Server) -> None:
    with server.connect() as client:
        server.hold(client)
        client.send(b"".join(server.get(stream) for stream in range(3, 43, 2)))
        server.is_at("waiting", 20)
        client.send(b"".join(frame(RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in range(3, 43, 2)))
        server.is_at("waiting", 0)
        server.check_free([LABELS])


def test_requests_with_their_reset_keep_nobody_out(server: Server) -> None:
    """More than the queue has room for."""
    with server.connect() as client, server.connect() as other:
        server.hold(client)
        resets = (server.get(stream) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in range(3, 1003, 2))
        client.send(b"".join(resets) + frame(PING, 0, 0, b"the end."))
        assert b"the end." in client.receive_until(b"the end.")
        other.send(server.get(1))
        server.is_at("waiting", 1)
        assert server.count("rejected_total") == 0
        server.gate.set()
        assert ANSWER in other.receive_until(ANSWER)
    server.check_free([LABELS, QUERY])


def test_a_connection_that_ends_gives_its_places_back(server: Server) -> None:
    with server.connect() as client:
        server.hold(client)
        with server.connect() as other:
            other.send(b"".join(server.get(stream) for stream in range(1, 21, 2)))
            server.is_at("waiting", 10)
        server.is_at("waiting", 0)
        server.check_free([LABELS])
