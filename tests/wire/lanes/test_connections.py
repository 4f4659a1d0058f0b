"""Connections: who keeps them, who closes them, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, Program, auth_flags
from tests.support.wire.raw import RawClient, head
from tests.support.wire.upstream import ReceivedRequest, RecordingUpstream, Reply, never
from tests.support.wire.waiting import eventually
from tests.support.wire.write_bodies import TEXT_BLOCK
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
WRITE = "/api/v1/import/prometheus"
MIB = 1 << 20


@pytest.fixture(scope="module")
def flags(backend: RecordingUpstream, key_file: Path) -> list[str]:
    return auth_flags(backend.url, key_file)


@pytest.fixture(scope="module")
def gateway(flags: list[str]) -> Iterator[Gateway]:
    with Gateway(*flags) as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.responder = lambda request: Reply()
    backend.close_idle()
    backend.forget()
    return backend


def old(target: str, token: str, *headers: str) -> bytes:
    """A GET of HTTP/1.0."""
    lines = [f"GET {target} HTTP/1.0", f"Authorization: Bearer {token}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def chunks(*pieces: bytes) -> Reply:
    return Reply(body=iter(pieces))


# --- how an answer is framed for its client -------------------------------------------------------------------------


def test_chunks_stay_chunks_for_http_1_1(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: chunks(b"ab", b"cd")
    with RawClient(gateway.port) as client:
        answer = client.send(head("GET", QUERY, token, ["Connection: close"])).receive_all()
    assert b"\r\nTransfer-Encoding: chunked\r\n" in answer
    assert re.sub(rb"\r\n[0-9a-f]+\r\n", b"", answer.partition(b"\r\n\r\n")[2]).endswith(b"0\r\n\r\n")


def test_chunks_last_until_close_for_http_1_0(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: chunks(b"ab", b"cd")
    with RawClient(gateway.port) as client:
        answer = client.send(old(QUERY, token, "Connection: keep-alive")).receive_all()
    assert b"transfer-encoding" not in answer.lower()
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nabcd")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("named", [(), (("Content-Length", "7"),)], ids=["bare", "with a length"])
def test_an_answer_without_content_ends_with_its_head(
    gateway: Gateway,
    upstream: RecordingUpstream,
    token: str,
    status: int,
    named: tuple[tuple[str, str], ...],
) -> None:
    upstream.responder = lambda request: Reply(status=status, headers=named, body=b"")
    with RawClient(gateway.port) as client:
        for _ in range(3):
            client.send(head("GET", QUERY, token))
            assert client.receive_head().startswith(b"HTTP/1.1 %d " % status)
        client.send(head("GET", "/health", None))
        assert client.receive_answer() == (200, b"OK")
    assert len({request.connection for request in upstream.requests}) == 1


def test_an_answer_until_close_becomes_chunks(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    body = [b"x" * 1000] * 10
    upstream.responder = lambda request: Reply(headers=(("Content-Length", "10000"),), body=iter(body), close=True)
    with RawClient(gateway.port) as client:
        for _ in range(2):
            assert client.send(head("GET", QUERY, token)).receive_answer() == (200, b"".join(body))
    assert len({request.connection for request in upstream.requests}) == 2


# --- keep-alive and close -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_head", "closes"),
    [
        ("HTTP/1.1", False),
        ("HTTP/1.1 Connection: close", True),
        ("HTTP/1.1 Connection: x, Close", True),
        ("HTTP/1.0", True),
        ("HTTP/1.0 Connection: keep-alive", False),
    ],
)
def test_who_closes(gateway: Gateway, upstream: RecordingUpstream, token: str, request_head: str, closes: bool) -> None:
    version, _, field = request_head.partition(" ")
    fields = [field] if field else []
    data = old(QUERY, token, *fields) if version == "HTTP/1.0" else head("GET", QUERY, token, fields)
    with RawClient(gateway.port) as client:
        client.send(data)
        answer = client.receive_head()
        assert (b"\r\nConnection: close" in answer) is closes
        assert (b"\r\nConnection: keep-alive" in answer) is (version == "HTTP/1.0" and not closes)
        if closes:
            assert client.is_closed()
        else:
            while client.buffer != b'{"status":"success"}':
                client.receive_more()
            client.buffer = b""
            assert client.send(data).receive_head().startswith(b"HTTP/1.1 200 ")


@pytest.mark.smoke
@pytest.mark.parametrize("target", [QUERY, "/health", "/unknown"])
def test_who_closes_in_the_flow_lane(
    start_gateway: StartGateway, upstream: RecordingUpstream, flags: list[str], token: str, target: str
) -> None:
    gateway = start_gateway(*flags, "-lane=flow")
    upstream.responder = lambda request: Reply(headers=(("Content-Length", "2"),), body=b"OK")
    for request in (head("GET", target, token, ["Connection: Close"]), old(target, token)):
        with RawClient(gateway.port) as client:
            assert b"\r\nConnection: close\r\n" in client.send(request).receive_all()
    with RawClient(gateway.port) as client:
        for _ in range(3):
            client.send(head("GET", target, token, ["Connection: x"]))
            assert b"\r\nConnection:" not in client.receive_head()
            while not client.buffer.endswith((b"OK", b"}")):
                client.receive_more()
            client.buffer = b""


def test_keep_alive_can_be_disabled(
    start_gateway: StartGateway, flags: list[str], token: str, program: Program
) -> None:
    gateway = start_gateway(*flags, "-http.disableKeepAlive", program=program)
    with RawClient(gateway.port) as client:
        assert b"\r\nConnection: close\r\n" in client.send(head("GET", QUERY, token)).receive_all()


def test_a_connection_retires_behind_an_answer(
    start_gateway: StartGateway, flags: list[str], token: str, program: Program
) -> None:
    gateway = start_gateway(*flags, "-http.connTimeout=1ms", program=program)
    with RawClient(gateway.port) as client:
        eventually(lambda: gateway.metric("process_start_time_seconds") > 0)  # time passes
        assert b"\r\nConnection: close\r\n" in client.send(head("GET", QUERY, token)).receive_all()


@pytest.mark.smoke
@pytest.mark.parametrize("first", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["new", "used"])
def test_an_idle_connection_is_closed_in_the_flow_lane_too(
    start_gateway: StartGateway, flags: list[str], first: bytes
) -> None:
    gateway = start_gateway(*flags, "-http.idleConnTimeout=300ms", "-lane=flow")
    with RawClient(gateway.port) as client:
        client.send(first)
        if first:
            assert client.receive_head().startswith(b"HTTP/1.1 204 ")
        assert client.receive_all() == b""


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_more_connections_than_allowed_are_503(
    start_gateway: StartGateway, flags: list[str], token: str, lane: str
) -> None:
    gateway = start_gateway(*flags, "-http.maxConnections=3", f"-lane={lane}")
    with ExitStack() as stack:
        # Those that looked whether it is ready may still be counted.
        kept = eventually(lambda: connected(gateway, token, 3))
        for client in kept:
            stack.enter_context(client)
        for _ in range(2):
            with RawClient(gateway.port) as client:
                answer = client.receive_all()
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b'"errorType":"unavailable"' in answer
                assert b"\r\nRetry-After: " in answer
        kept[2].close()
        for client in eventually(lambda: connected(gateway, token, 1)):
            stack.enter_context(client)
            with RawClient(gateway.port) as other:
                assert other.receive_all().startswith(b"HTTP/1.1 503 ")
        for client in kept[:2]:
            assert client.send(head("GET", QUERY, token)).receive_answer()[0] == 200


def connected(gateway: Gateway, token: str, number: int) -> list[RawClient]:
    """That many connections, each of which carries requests; none where one is refused."""
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(number)]
        if all(client.send(head("GET", QUERY, token)).receive_answer()[0] == 200 for client in clients):
            stack.pop_all()
            return clients
    return []


@pytest.mark.parametrize("lane", ["fast", "flow"])
def test_a_client_that_sends_sees_why_it_is_turned_away(
    start_gateway: StartGateway, flags: list[str], token: str, lane: str
) -> None:
    """A connection that is closed while its client still sends is reset, and its answer lost."""
    gateway = start_gateway(*flags, f"-lane={lane}", "-http.maxConnections=1")
    upload = head("POST", WRITE, token, [f"Content-Length: {4 * MIB}"])
    with eventually(lambda: connected(gateway, token, 1))[0]:
        for _ in range(3):
            with RawClient(gateway.port) as client:
                client.send(upload)
                for _ in range(64):
                    client.send(bytes(4 * MIB // 64))
                assert client.receive_answer()[0] == 503
                with pytest.raises(EOFError):  # the end, and no reset
                    client.receive_more()


def test_who_was_turned_away_takes_nobodys_place(start_gateway: StartGateway, flags: list[str], token: str) -> None:
    gateway = start_gateway(*flags, "-http.maxConnections=1")
    staying: list[RawClient] = []

    def is_answered() -> bool:
        staying.append(RawClient(gateway.port))  # it does not leave by itself
        return staying[-1].send(head("GET", QUERY, token)).receive_answer()[0] == 200

    with RawClient(gateway.port) as kept:
        assert kept.send(head("GET", QUERY, token)).receive_answer()[0] == 200
        assert not any(is_answered() for _ in range(3))
    eventually(is_answered)
    for client in staying:
        client.close()


def test_a_crowd_that_is_turned_away_is_not_kept(start_gateway: StartGateway, flags: list[str], token: str) -> None:
    gateway = start_gateway(*flags, "-http.maxConnections=1")
    with RawClient(gateway.port) as kept:
        assert kept.send(head("GET", QUERY, token)).receive_answer()[0] == 200
        before = gateway.fds()
        crowd = [RawClient(gateway.port) for _ in range(400)]
        for client in crowd:
            assert client.receive_head().startswith(b"HTTP/1.1 503 ")
        assert kept.send(head("GET", QUERY, token)).receive_answer()[0] == 200
        assert gateway.fds() <= before + 110
        for client in crowd:
            client.close()


# --- half-closed and gone -------------------------------------------------------------------------------------------


def test_a_half_closed_client_gets_all_answers(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    """As of ``printf … | nc``."""
    upstream.responder = lambda request: Reply(body=request.target.encode())
    with RawClient(gateway.port) as client:
        client.send(b"".join(head("GET", f"/api/v1/query?query={number}", token) for number in range(5))).end()
        answer = client.receive_all()
    assert re.findall(rb"query=(\d)", answer) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_client_that_leaves_is_noticed_by_the_backend(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: never()
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, [f"Content-Length: {4 * MIB}"]) + TEXT_BLOCK * 20)
        eventually(lambda: upstream.requests)
    request = upstream.requests[0]
    eventually(lambda: all(each.closed for each in upstream.connections if each.number == request.connection))
    assert not request.complete


# --- connections to backends ----------------------------------------------------------------------------------------


def test_clients_share_connections_to_a_backend(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    for _ in range(20):
        with RawClient(gateway.port) as client:
            assert client.send(head("GET", QUERY, token)).receive_answer()[0] == 200
            assert client.send(head("POST", WRITE, token, ["Content-Length: 3"]) + b"m 1").receive_answer()[0] == 200
    assert len({request.connection for request in upstream.requests}) == 1


def test_requests_that_come_at_once_again_need_no_new_connections(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    clients = [RawClient(gateway.port) for _ in range(150)]
    connections = set()
    for _ in range(2):
        upstream.forget()
        waiting = never()
        upstream.responder = lambda request, waiting=waiting: waiting  # type: ignore[misc]
        for client in clients:
            client.send(head("GET", QUERY, token))
        eventually(lambda: len(upstream.requests) == 150)
        assert waiting.gate is not None
        waiting.gate.set()
        for client in clients:
            assert client.receive_answer()[0] == 200
        connections |= {request.connection for request in upstream.requests}
    assert len(connections) == 150
    for client in clients:
        client.close()


class SlowlyRead:
    """An answer that fills its client's buffers, and then a small one."""

    def __call__(self, request: ReceivedRequest) -> Reply:
        return Reply(body=b"x" * (8 * MIB) if "large" in request.target else b"small")


def test_a_slow_reader_holds_nobody_up(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = SlowlyRead()
    before = gateway.rss()
    with RawClient(gateway.port) as slow, RawClient(gateway.port) as other:
        slow.send(head("GET", "/api/v1/query?query=large", token))
        for _ in range(3):
            assert other.send(head("GET", QUERY, token)).receive_answer() == (200, b"small")
        assert gateway.rss() - before < 4 * MIB
        assert slow.receive_answer() == (200, b"x" * (8 * MIB))
        for client in (slow, other, slow):
            assert client.send(head("GET", QUERY, token)).receive_answer() == (200, b"small")


# --- in the end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["answered", "aborted", "silent"])
def test_connections_leave_nothing_behind(gateway: Gateway, upstream: RecordingUpstream, token: str, kind: str) -> None:
    def come_and_go(times: int) -> None:
        open_before = gateway.fds()
        for number in range(times):
            if number % 100 == 0:  # what many connections at once take is another matter
                eventually(lambda: gateway.fds() <= open_before + 50, what="most of them are gone")
            with RawClient(gateway.port) as client:
                if kind == "answered":
                    assert client.send(head("GET", QUERY, token)).receive_answer()[0] == 200
                elif kind == "aborted":
                    client.send(head("POST", WRITE, token, ["Content-Length: 9"]) + b"x")
                    client.reset()

    come_and_go(300)
    before, descriptors = gateway.rss(), gateway.fds()
    come_and_go(1500 if kind == "answered" else 5000)
    eventually(lambda: gateway.fds() <= descriptors + 2, what="descriptors are given back")
    # Up to some 10 MiB are seen for connections that were reset, however many there were; then it stays.
    assert gateway.rss() - before < 16 * MIB
