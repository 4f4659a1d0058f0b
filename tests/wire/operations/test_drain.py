"""SIGTERM: what is in flight is answered, nothing new is taken, and the program ends in order."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.support.wire.client import Answer
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply, never
from tests.support.wire.waiting import HANGS, eventually
from tests.support.wire.write_bodies import JSON_LINE, TEXT_BLOCK
from tests.wire.conftest import StartGateway


class InFlight:
    """A request in a thread of its own, and what became of it."""

    def __init__(self, gateway: Gateway, token: str, *, method: str = "GET", body: bytes | None = None) -> None:
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._ask = (gateway.client(token), method, body)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        client, method, body = self._ask
        path = "/api/v1/query?query=slow" if method == "GET" else "/api/v1/import"
        try:
            self.answer = client.ask(method, path, body=body)
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def join(self) -> None:
        self._thread.join()


def refuses(gateway: Gateway) -> bool:
    try:
        gateway.client().get("/health")
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def gate(upstream: RecordingUpstream) -> threading.Event:
    """What the upstream waits for before it answers."""
    opened = threading.Event()
    upstream.responder = lambda _: Reply(gate=opened)
    return opened


@pytest.fixture
def gateway(start_gateway: StartGateway, flags: list[str], program: Program) -> Gateway:
    return start_gateway(*flags, "-http.maxGracefulShutdownDuration=1h", program=program)


@pytest.mark.smoke
def test_requests_in_flight_are_answered(
    gateway: Gateway, upstream: RecordingUpstream, gate: threading.Event, key: SigningKey
) -> None:
    flights = [InFlight(gateway, key.mint()), InFlight(gateway, key.mint(), method="POST", body=JSON_LINE)]
    eventually(lambda: len(upstream.requests) == 2, what="both requests reached the upstream")
    gateway.signal(signal.SIGTERM)
    gateway.wait_until(lambda: refuses(gateway), what="refuses new connections")
    assert gateway.exit_code is None
    assert all(flight.answer is None for flight in flights)
    gate.set()
    for flight in flights:
        flight.join()
        assert flight.error is None
        assert flight.answer is not None
        assert flight.answer.status == 200
    assert gateway.wait() == 0


def test_an_upload_in_flight_is_taken_to_its_end(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    fields = ("Host: h", f"Authorization: Bearer {key.mint()}", f"Content-Length: {40 * len(TEXT_BLOCK)}")
    head = "\r\n".join(("POST /api/v1/import/prometheus HTTP/1.1", *fields, "", ""))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS) as sock:
        sock.sendall(head.encode() + TEXT_BLOCK * 20)
        eventually(lambda: upstream.requests, what="the request reached the upstream")
        gateway.signal(signal.SIGTERM)
        gateway.wait_until(lambda: refuses(gateway), what="refuses new connections")
        sock.sendall(TEXT_BLOCK * 20)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert gateway.wait() == 0
    (request,) = upstream.requests
    assert (request.complete, request.body_size) == (True, 40 * len(TEXT_BLOCK))


def test_a_slow_reader_gets_its_whole_answer(gateway: Gateway, upstream: RecordingUpstream, key: SigningKey) -> None:
    size = 8 << 20
    block = b"0123456789abcdef" * 4096
    headers = (("Content-Length", str(size)),)
    upstream.responder = lambda _: Reply(headers=headers, body=(block for _ in range(size // len(block))))
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=HANGS)
    connection.request("GET", "/api/v1/export?match[]=m", headers={"Authorization": f"Bearer {key.mint()}"})
    response = connection.getresponse()
    gateway.signal(signal.SIGTERM)
    gateway.wait_until(lambda: refuses(gateway), what="refuses new connections")
    received = 0
    pause = threading.Event()
    while data := response.read(len(block)):
        received += len(data)
        pause.wait(0.005)  # slow enough that the last of the answer is written long before it is read
    connection.close()
    assert received == size
    assert gateway.wait() == 0


def test_a_kept_connection_may_still_ask_while_others_drain(
    gateway: Gateway, upstream: RecordingUpstream, gate: threading.Event, key: SigningKey
) -> None:
    headers = {"Authorization": f"Bearer {key.mint()}"}
    flight = InFlight(gateway, key.mint())
    eventually(lambda: upstream.requests, what="the request reached the upstream")
    upstream.responder = lambda _: Reply()
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=HANGS)
    connection.request("GET", "/api/v1/labels", headers=headers)
    assert connection.getresponse().read()
    gateway.signal(signal.SIGTERM)
    gateway.wait_until(lambda: refuses(gateway), what="refuses new connections")
    try:
        connection.request("GET", "/api/v1/labels", headers=headers)
        assert connection.getresponse().status == 200
    except (http.client.RemoteDisconnected, ConnectionError):
        pass  # closed without an answer is as good: a client tries again elsewhere
    connection.close()
    gate.set()
    flight.join()
    assert flight.answer is not None
    assert flight.answer.status == 200
    assert gateway.wait() == 0


@pytest.mark.smoke
def test_idle_connections_do_not_hold_the_end_up(
    gateway: Gateway, upstream: RecordingUpstream, key: SigningKey
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    connection.request("GET", "/api/v1/labels", headers={"Authorization": f"Bearer {key.mint()}"})
    assert connection.getresponse().read()
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    connection.close()


def test_the_drain_has_an_end(
    start_gateway: StartGateway,
    flags: list[str],
    upstream: RecordingUpstream,
    gate: threading.Event,
    key: SigningKey,
    program: Program,
) -> None:
    gateway = start_gateway(*flags, "-http.maxGracefulShutdownDuration=1s", program=program)
    flight = InFlight(gateway, key.mint())
    eventually(lambda: upstream.requests, what="the request reached the upstream")
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    flight.join()
    assert flight.error is not None or (flight.answer is not None and flight.answer.status >= 500)


def test_health_tells_load_balancers_first(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, program: Program
) -> None:
    flags = ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}")
    gateway = start_gateway(*flags, "-http.shutdownDelay=2s", program=program)
    gateway.signal(signal.SIGTERM)
    gateway.wait_until(lambda: gateway.client().get("/health").status == 503, what="is no longer healthy")
    assert gateway.client(key.mint()).get("/api/v1/labels").status == 200
    assert gateway.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_without_work_ends_at_once(gateway: Gateway, number: signal.Signals) -> None:
    gateway.signal(number)
    assert gateway.wait() == 0


def test_a_slow_identity_provider_does_not_hold_up_the_end(
    start_gateway: StartGateway, upstream: RecordingUpstream
) -> None:
    upstream.responder = lambda request: never()
    gateway = start_gateway("-enable.auth", f"-read.url={upstream.url}", f"-auth.jwksEndpoints={upstream.url}/jwks")
    eventually(lambda: upstream.requests, what="the gateway asks for keys")
    assert gateway.client().get("/-/ready").status == 503
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(within=8.0) == 0
