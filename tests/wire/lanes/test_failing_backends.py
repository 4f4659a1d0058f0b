"""Backends that are down, slow, hang up, or answer what they may not: what the client gets, and who is asked again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.raw import RawClient, head
from tests.support.wire.upstream import HANG_UP, ReceivedRequest, RecordingUpstream, Reply, never
from tests.support.wire.write_bodies import TEXT_BLOCK
from tests.wire.conftest import StartGateway

MIB = 1 << 20
WRITE = "/api/v1/import/prometheus"
QUERY = "/api/v1/query?query=up"


@pytest.fixture(scope="module", params=["vmgateway", "mitmdump"])
def gateway(request: pytest.FixtureRequest, backend: RecordingUpstream, key_file: Path) -> Iterator[Gateway]:
    """One for all tests of this file, so each shows as well that it left the gateway in order."""
    flags = [f"-read.url={backend.url}", f"-write.url={backend.url}", f"-auth.publicKeyFiles={key_file}"]
    flags += ["-backend.connectTimeout=1s", "-backend.responseTimeout=1s"]
    with Gateway("-enable.auth", *flags, program=request.param) as gateway:
        yield gateway


@pytest.fixture
def upstream(backend: RecordingUpstream) -> RecordingUpstream:
    backend.refuse()
    backend.listen()
    backend.forget()
    backend.responder = lambda request: Reply()
    return backend


def test_a_backend_that_is_down_is_502_and_found_again(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.refuse()
    upstream.close_idle()  # which earlier requests may have left
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        status, body = client.receive_answer()
        assert (status, json.loads(body)["errorType"]) == (502, "unavailable")
        assert str(upstream.port) not in body.decode()
        upstream.listen()
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


def test_a_write_to_a_backend_that_is_down_is_502(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.refuse()
    upstream.close_idle()  # which earlier requests may have left
    assert gateway.client(token).post(WRITE, body=b"m 1\n").status == 502


def test_a_backend_that_does_not_answer_is_504_and_the_connection_lives(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: never()
    with RawClient(gateway.port) as client:
        client.send(head("GET", QUERY, token))
        status, body = client.receive_answer()
        assert (status, json.loads(body)["errorType"]) == (504, "timeout")
        upstream.responder = lambda request: Reply()
        client.send(head("GET", QUERY, token))
        assert client.receive_answer()[0] == 200


def test_a_backend_that_does_not_accept_is_504_with_flat_memory(
    start_gateway: StartGateway, key_file: Path, token: str, program: Program
) -> None:
    """A full accept queue drops the next SYN: connecting hangs. What the client uploads meanwhile is not queued."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        flags = (f"-write.url={url}", f"-auth.publicKeyFiles={key_file}", "-backend.connectTimeout=2s")
        gateway = start_gateway("-enable.auth", *flags, program=program)
        gateway.client().post(WRITE, body=b"m 1")
        before = gateway.rss()
        with RawClient(gateway.port) as client:
            client.send(head("POST", WRITE, token, ["Content-Length: 209715200"]))
            client.send_until_refused(TEXT_BLOCK, 200 * MIB)
            assert b" 504 " in client.receive_all()[:20]
        assert gateway.rss() - before < 8 * MIB
        for filler in fillers:
            filler.close()


class HangUpOnReuse:
    """Answers the first request of each connection and closes on the second, without a word."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.connection in self.seen:
            return HANG_UP
        self.seen.add(request.connection)
        return Reply()


def test_a_stale_connection_is_retried_once_for_a_get(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = HangUpOnReuse()
    with RawClient(gateway.port) as client:
        for _ in range(3):
            client.send(head("GET", QUERY, token))
            assert client.receive_answer()[0] == 200
    first = upstream.requests[0].connection
    assert [request.connection - first for request in upstream.requests] == [0, 0, 1, 1, 2]


def test_a_stale_connection_is_not_retried_for_a_write(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = HangUpOnReuse()
    write = head("POST", WRITE, token, ["Content-Length: 4"]) + b"m 1\n"
    with RawClient(gateway.port) as client:
        assert client.send(write).receive_answer()[0] == 200
        assert client.send(write).receive_answer()[0] == 502
    assert len(upstream.requests) == 2


def test_a_backend_that_always_hangs_up_is_asked_twice_at_most(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: HANG_UP
    answer = gateway.client(token).get(QUERY)
    assert answer.status == 502
    assert len(upstream.requests) == 1  # the connection was new, so it was not stale


def test_a_backend_that_answers_early_is_heard(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(status=413, early=True, body=b"too much")
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 10485760"]))
        client.send_until_refused(TEXT_BLOCK, 10 * MIB)
        assert client.receive_answer() == (413, b"too much")


def test_a_backend_that_answers_early_and_leaves_never_counts_as_success(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    """Whether its words are still heard is a race between its reset and our reading."""
    upstream.responder = lambda request: Reply(status=413, early=True, close=True, body=b"too much")
    with RawClient(gateway.port) as client:
        client.send(head("POST", WRITE, token, ["Content-Length: 104857600"]))
        client.send_until_refused(TEXT_BLOCK, 100 * MIB)
        assert client.receive_all()[9:12] in (b"413", b"502")


def test_an_interim_answer_is_not_taken_for_the_answer(
    gateway: Gateway, upstream: RecordingUpstream, token: str
) -> None:
    upstream.responder = lambda request: Reply(interim=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    with RawClient(gateway.port) as client:
        for _ in range(2):
            client.send(head("GET", QUERY, token))
            assert client.receive_answer()[0] == 200


def test_an_endless_head_of_a_backend_is_given_up(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(interim=b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (4 * MIB))
    assert gateway.client(token).get(QUERY).status == 502


def test_a_backend_cannot_switch_protocols(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(status=101, headers=(("Upgrade", "x"), ("Connection", "Upgrade")))
    answer = gateway.client(token).get(QUERY, headers={"Upgrade": "x", "Connection": "Upgrade"})
    assert answer.status == 502
    assert upstream.requests[0].header("upgrade") == []


def test_a_backend_with_an_invalid_answer_is_502(gateway: Gateway, upstream: RecordingUpstream, token: str) -> None:
    upstream.responder = lambda request: Reply(headers=(("Content-Length", "1"), ("Content-Length", "2")))
    answer = gateway.client(token).get(QUERY)
    assert (answer.status, answer.json()["errorType"]) == (502, "unavailable")


# --- TLS to the backends --------------------------------------------------------------------------------------------


def test_tls_to_a_backend_is_verified(
    start_gateway: StartGateway, key_file: Path, token: str, authority: Authority, program: Program, tmp_path: Path
) -> None:
    certificate = authority.issue("backend.test")
    client_certificate = authority.issue("gateway.test")
    other = Authority(tmp_path)
    cases = {
        "the right authority and name": (["tlsCAFile", "tlsServerName"], 200),
        "the right authority and address": (["tlsCAFile"], 200),
        "a name the certificate is not for": (["tlsCAFile", "otherName"], 502),
        "an unknown authority": (["tlsServerName"], 502),
        "another authority": (["otherCA", "tlsServerName"], 502),
        "no verification": (["tlsInsecureSkipVerify"], 200),
    }
    values = {
        "tlsCAFile": f"-read.tlsCAFile={authority.cert}",
        "otherCA": f"-read.tlsCAFile={other.cert}",
        "tlsServerName": "-read.tlsServerName=backend.test",
        "otherName": "-read.tlsServerName=other.test",
        "tlsInsecureSkipVerify": "-read.tlsInsecureSkipVerify",
    }
    context = authority.server_context(certificate, clients=authority)
    with RecordingUpstream(tls=context) as upstream:
        for name, (settings, expected) in cases.items() if program == "vmgateway" else list(cases.items())[2:4]:
            gateway = start_gateway(
                "-enable.auth",
                f"-read.url={upstream.url}",
                f"-auth.publicKeyFiles={key_file}",
                f"-read.tlsCertFile={client_certificate.cert}",
                f"-read.tlsKeyFile={client_certificate.key}",
                *(values[setting] for setting in settings),
                program=program,
            )
            assert gateway.client(token).get(QUERY).status == expected, name
            gateway.stop()
        assert all(connection.tls_client_certificate for connection in upstream.connections if connection.raw)


def test_a_backend_that_asks_for_a_certificate_and_gets_none_is_502(
    start_gateway: StartGateway, key_file: Path, token: str, authority: Authority
) -> None:
    context = authority.server_context(authority.issue("backend.test"), clients=authority)
    with RecordingUpstream(tls=context) as upstream:
        gateway = start_gateway(
            "-enable.auth",
            f"-read.url={upstream.url}",
            f"-auth.publicKeyFiles={key_file}",
            "-read.tlsInsecureSkipVerify",
        )
        for _ in range(20):  # whether the refusal or the request comes first is a race
            assert gateway.client(token).get(QUERY).status == 502
        assert upstream.requests == []
