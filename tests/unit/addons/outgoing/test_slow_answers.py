"""Servers that the gateway asks and that send a byte now and then: no timeout of a single read ever ends that."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.addons.datasources import datasource
from tests.support.wire.certificates import Authority
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import eventually
from vmgw_addons.observability.push_metrics import PushTarget
from vmgw_addons.outgoing import RequestFailed, download

BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nX-Drop: "


class Dripping:
    """Answers ``start`` and then a byte at a time, until it is left."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/jwks"
        self.gone = 0
        """Connections that the gateway has closed."""
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._drip, args=(sock,)).start()

    def _drip(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.sendall(self._start)
                while not self._stopping.wait(0.02):
                    sock.sendall(b"x")
            except OSError:
                self.gone += 1

    def close(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture(params=[HEAD, BODY, CHUNK], ids=["head", "body", "chunk"])
def server(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    dripping = Dripping(request.param)
    yield dripping
    dripping.close()


def ends(question: Callable[[], object]) -> None:
    """Within the deadline, and not by the patience of this test."""
    thread = threading.Thread(target=question, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "still asking"


def test_a_document_that_drips_in_is_given_up(server: Dripping) -> None:
    def ask() -> None:
        with pytest.raises(RequestFailed, match=r"^no response within 0\.1 seconds$"):
            download(server.url, deadline=0.1)

    ends(ask)
    eventually(lambda: server.gone == 1, what="the connection is closed")


@pytest.mark.parametrize("start", [HEAD, b""], ids=["head", "status line"])
def test_a_push_whose_answer_drips_in_is_given_up(start: bytes) -> None:
    server = Dripping(start)
    target = PushTarget(url=server.url, shown=server.url, labels="", headers=(), compressed=True)

    def push() -> None:
        with pytest.raises(RequestFailed, match=r"^no response within 0\.1 seconds$"):
            target.push(b"up 1\n", deadline=0.1)

    try:
        ends(push)
        eventually(lambda: server.gone == 1, what="the connection is closed")
    finally:
        server.close()


@pytest.mark.parametrize("start", [BODY, CHUNK], ids=["body", "chunk"])
def test_a_push_does_not_wait_for_what_follows_the_head(start: bytes) -> None:
    server = Dripping(start)
    target = PushTarget(url=server.url, shown=server.url, labels="", headers=(), compressed=False)
    try:
        ends(lambda: target.push(b"up 1\n"))
        eventually(lambda: server.gone == 1, what="the connection is closed")
    finally:
        server.close()


def test_an_answer_of_the_datasource_that_drips_in_is_given_up(
    server: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmgw_addons.outgoing.http.DEADLINE", 0.1)
    source = datasource(server.url)

    def ask() -> None:
        for _ in range(6):  # more than may be under way at once: none is left behind
            with pytest.raises(RequestFailed, match=r"no response within 0\.1 seconds$"):
                source.query("up", 1_600_000_000)

    ends(ask)
    eventually(lambda: server.gone == 6, what="the connections are closed")


def test_tls_ends_it_no_later(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.cert))
    stopped = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stopped.wait(0.02):
            yield b"x"

    with RecordingUpstream(
        lambda _: Reply(body=drip()), tls=authority.server_context(authority.issue("keys.example"))
    ) as server:

        def ask() -> None:
            with pytest.raises(RequestFailed, match=r"^no response within 0\.2 seconds$"):
                download(server.url, deadline=0.2)

        ends(ask)
        stopped.set()
        assert len(server.requests) == 1


def test_a_proxy_whose_answer_drips_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Dripping(HEAD)
    monkeypatch.setenv("HTTPS_PROXY", server.url.removesuffix("/jwks"))

    def ask() -> None:
        with pytest.raises(RequestFailed, match=r"^no response within 0\.1 seconds$"):
            download("https://keys.example/jwks", deadline=0.1)

    try:
        ends(ask)
        eventually(lambda: server.gone == 1, what="the connection is closed")
    finally:
        server.close()
