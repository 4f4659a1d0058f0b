"""What may run out or stall: places for connections, file descriptors, the disk, the pipe of the log.

A FIFO that nobody reads, or a lock that a test holds, stands for a disk that hangs: what blocks on it blocks for ever,
so no test depends on time.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, Program
from tests.support.wire.raw import RawClient, head
from tests.support.wire.tls import needs_http2
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from tests.wire.conftest import StartGateway

QUERY = "/api/v1/query?query=up"
LANES = pytest.mark.parametrize("lane", ["fast", "flow"])


@pytest.fixture
def tls(authority: Authority) -> list[str]:
    issued = authority.issue("localhost")
    return ["-tls", f"-tlsCertFile={issued.cert}", f"-tlsKeyFile={issued.key}"]


class Guarded(Gateway):
    """A gateway that is ready once it says that it listens: looking for more would take up a connection."""

    def is_ready(self) -> bool:
        return " listens on " in self.log()


# --- connections that say nothing ------------------------------------------------------------------------------------


@contextmanager
def silent(gateway: Gateway, number: int) -> Iterator[list[socket.socket]]:
    """That many connections, over which nothing is sent."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS))
            for _ in range(number)
        ]


def status_over_tls(gateway: Gateway, authority: Authority, token: str, before: bytes = b"") -> int:
    """The status of a query, 0 if the connection is closed during the handshake."""
    context = ssl.create_default_context(cafile=str(authority.cert))
    try:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS) as sock:
            sock.sendall(before)
            with context.wrap_socket(sock, server_hostname="localhost") as client:
                client.sendall(head("GET", QUERY, token, ["Connection: close"]))
                return int(client.recv(4096).split(b" ")[1])
    except OSError:
        return 0


PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"


@LANES
@pytest.mark.parametrize("proxy", [False, True], ids=["tls", "proxy protocol"])
def test_connections_that_have_not_begun_count(
    flags: list[str], tls: list[str], authority: Authority, upstream: RecordingUpstream, key: SigningKey,
    lane: str, *, proxy: bool,
) -> None:  # fmt: skip
    """Who has not shaken hands takes a place, and frees it by leaving."""
    more = ["-httpListenAddr.useProxyProtocol"] if proxy else []
    before = PROXY if proxy else b""
    limits = ["-http.maxConnections=3", "-http.headTimeout=1h"]
    with Guarded(*flags, *tls, *more, *limits, f"-lane={lane}") as gateway:
        fds = gateway.fds()
        with silent(gateway, 3):
            gateway.wait_until(lambda: gateway.fds() >= fds + 3, what="has accepted them")
            assert status_over_tls(gateway, authority, key.mint(), before) == 503
            assert not upstream.requests
            with silent(gateway, 150) as crowd:
                # A hundred of them may still shake hands, to be told why they are turned away. The others are closed.
                gateway.wait_until(lambda: len(select.select(crowd, [], [], 0)[0]) >= 40, what="has closed the others")
                gateway.wait_until(lambda: gateway.fds() < fds + 3 + 110, what="keeps nothing of them")
        gateway.wait_until(
            lambda: status_over_tls(gateway, authority, key.mint(), before) == 200, what="serves once they are gone"
        )
        gateway.wait_until(lambda: gateway.fds() < fds + 5, what="has let go of them")


def is_closed(sock: socket.socket) -> bool:
    """Whether the gateway closes a connection over which nothing was sent."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@LANES
@pytest.mark.parametrize("kind", ["tls", "proxy protocol", "half a client hello"])
def test_connections_that_do_not_begin_are_closed(
    flags: list[str], tls: list[str], authority: Authority, key: SigningKey, lane: str, kind: str
) -> None:
    more = ["-httpListenAddr.useProxyProtocol"] if kind == "proxy protocol" else tls
    with Guarded(*flags, *more, "-http.headTimeout=300ms", f"-lane={lane}") as gateway, silent(gateway, 3) as clients:
        if kind == "half a client hello":
            for client in clients:
                client.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert all(is_closed(client) for client in clients)


@needs_http2
@LANES
@pytest.mark.parametrize("sent", [b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=len)
@pytest.mark.parametrize("timeout", ["1h", "2s"])
def test_http2_that_does_not_begin_is_counted_and_closed(
    flags: list[str], tls: list[str], authority: Authority, key: SigningKey, lane: str, sent: bytes, timeout: str
) -> None:
    """No preface, half of it, or no settings behind it."""
    limits = ["-http.maxConnections=1", f"-http.idleConnTimeout={timeout}", "-http.enableHTTP2"]
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.set_alpn_protocols(["h2"])
    with Guarded(*flags, *tls, *limits, f"-lane={lane}") as gateway, silent(gateway, 1) as (sock,):
        with context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(sent)
            if timeout == "1h":
                assert status_over_tls(gateway, authority, key.mint()) == 503
            else:
                while client.recv(4096):
                    pass
        gateway.wait_until(lambda: status_over_tls(gateway, authority, key.mint()) == 200, what="has a place again")


# --- file descriptors ------------------------------------------------------------------------------------------------


class WithDescriptors(Gateway):
    """A gateway that may open ``soft`` file descriptors, and raise that to ``hard``."""

    def __init__(self, *flags: str, soft: int, hard: int, program: Program) -> None:
        self.limits = f"ulimit -S -n {soft} && ulimit -H -n {hard}"
        super().__init__(*flags, program=program)

    def command(self) -> list[str]:
        return ["bash", "-c", f'{self.limits} && exec "$@"', "bash", *super().command()]


def test_the_limit_of_descriptors_is_raised(flags: list[str], program: Program) -> None:
    with WithDescriptors(*flags, "-http.maxConnections=400", soft=100, hard=500, program=program) as gateway:
        assert gateway.metric("process_max_fds") == 500
        assert "file descriptors" not in gateway.log()
    with WithDescriptors(*flags, "-http.maxConnections=600", soft=500, hard=500, program=program) as gateway:
        gateway.wait_for_log(r"-http.maxConnections=600 needs more file descriptors .* may open \(500\)")


def test_out_of_descriptors_those_that_are_open_are_served(
    flags: list[str], upstream: RecordingUpstream, key: SigningKey, program: Program
) -> None:
    token = key.mint()
    with WithDescriptors(*flags, soft=100, hard=100, program=program) as gateway, ExitStack() as stack:
        kept = stack.enter_context(RawClient(gateway.port))
        assert kept.send(head("GET", QUERY, token)).receive_answer()[0] == 200
        crowd = [stack.enter_context(RawClient(gateway.port)) for _ in range(150)]
        gateway.wait_for_log("cannot accept connections: Too many open files; open connections are still served")
        for _ in range(20):
            assert kept.send(head("GET", QUERY, token)).receive_answer()[0] == 200
        assert gateway.log().count("cannot accept connections") == 1
        for client in crowd[:100]:
            client.close()
        assert len(upstream.requests) == 21
        gateway.wait_until(lambda: gateway.client(token).get(QUERY).status == 200, what="serves new clients again")


# --- a disk that hangs -----------------------------------------------------------------------------------------------


def test_a_capture_that_another_process_holds_up_holds_up_no_request(
    tmp_path: Path, start_gateway: StartGateway, flags: list[str], upstream: RecordingUpstream, key: SigningKey
) -> None:
    upstream.responder = lambda _: Reply(body=b"x" * 1_000_000)
    file = tmp_path / "flows.mitm"
    gateway = start_gateway(*flags, f"-capture.file={file}", "-capture.maxBodySize=2MiB")
    client = gateway.client(key.mint())

    def lost() -> float:
        return gateway.metric("vmgateway_capture_lost_flows_total")

    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for _ in range(80):
            assert client.get(QUERY).status == 200
        gateway.wait_for_log("the capture is too slow: .*; flows are missing in the capture")
        assert 10 < lost() < 30, "64 MiB may wait"
        assert gateway.metric("vmgateway_captured_flows_total") == 0
        fcntl.flock(held, fcntl.LOCK_UN)
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_captured_flows_total") + lost() == 80, what="has written what waited"
    )
    before = lost()
    assert client.get(QUERY).status == 200
    gateway.wait_until(lambda: gateway.metric("vmgateway_captured_flows_total") == 81 - before, what="captures again")


def test_the_end_does_not_wait_for_a_capture_that_is_held_up(
    tmp_path: Path, start_gateway: StartGateway, flags: list[str], key: SigningKey
) -> None:
    file = tmp_path / "flows.mitm"
    gateway = start_gateway(*flags, f"-capture.file={file}")
    with file.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert gateway.client(key.mint()).get(QUERY).status == 200
        gateway.stop()
        assert "the end of the capture is lost" in gateway.log()
    assert file.stat().st_size == 0


class LogsToPipe(Gateway):
    """A gateway whose log is a FIFO."""

    def command(self) -> list[str]:
        return ["bash", "-c", 'exec 2<>pipe; exec "$@"', "bash", *super().command()]

    def start(self) -> None:
        os.mkfifo(self.directory / "pipe")
        super().start()


@LANES
def test_a_log_that_nobody_reads_holds_up_no_request(flags: list[str], key: SigningKey, lane: str) -> None:
    token = key.mint()
    with LogsToPipe(*flags, "-accessLog", f"-lane={lane}") as gateway:
        client = gateway.client(token)
        for _ in range(600):  # more than a pipe takes, 64 KiB
            assert client.get(f"/api/v1/series/{'x' * 400}").status in (403, 404)
        read = bytearray()
        descriptor = os.open(gateway.directory / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)

        def drain() -> None:
            while data := os.read(descriptor, 1 << 16):
                read.extend(data)

        reader = threading.Thread(target=drain, daemon=True)
        reader.start()
        eventually(lambda: read.count(b"\taccess\trequest") >= 600)
        assert gateway.metric("vmgateway_log_lost_lines_total") == 0
        gateway.stop()
        reader.join(HANGS)
        os.close(descriptor)


def test_a_reload_of_a_file_that_hangs_holds_up_no_request(
    tmp_path: Path, start_gateway: StartGateway, flags: list[str], key: SigningKey
) -> None:
    limits = tmp_path / "key.pem"
    limits.write_bytes(Path(flags[-1].partition("=")[2]).read_bytes())
    gateway = start_gateway(*flags[:-1], f"-auth.publicKeyFiles={limits}")
    client = gateway.client(key.mint())
    content = limits.read_bytes()
    limits.unlink()
    os.mkfifo(limits)
    gateway.signal(signal.SIGHUP)
    for _ in range(5):
        assert client.get(QUERY).status == 200
    assert gateway.metric("vmgateway_config_reloads_total") == 0
    with limits.open("wb") as file:  # which begins once the gateway reads
        for _ in range(5):
            assert client.get(QUERY).status == 200
        file.write(content)
    gateway.wait_until(lambda: gateway.metric("vmgateway_config_reloads_total", result="success") == 1, what="reloads")
    assert client.get(QUERY).status == 200


def test_no_background_task_has_failed(start_gateway: StartGateway, flags: list[str]) -> None:
    page = start_gateway(*flags).client().get("/metrics").text
    (errors,) = [family for family in text_string_to_metric_families(page) if family.name.endswith("task_errors")]
    assert errors.samples
    assert {sample.value for sample in errors.samples} == {0}
