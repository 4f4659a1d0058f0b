"""What the gateway needs and does not get is told with its reason: to the client, in the log, and in the metrics."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway, free_port
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import HANG_UP, RecordingUpstream
from tests.wire.conftest import StartGateway

LANES: Final = ("fast", "flow")
QUERY: Final = "/api/v1/query?query=up"


def shake_hands(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    """As a server; after a failure the alert is delivered, and not cut off by a reset."""
    secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        secured.do_handshake()
    except OSError:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(secured, socket.SHUT_WR)
            while os.read(secured.fileno(), 65536):
                pass
        secured.close()
        raise
    return secured


@contextlib.contextmanager
def serving(answer: bytes, context: ssl.SSLContext | None = None, *, reads: bool = True) -> Iterator[int]:
    """A server that answers each connection with the same bytes, and closes it. Yields its port."""
    open_connections: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_connections.append(connection)
                with contextlib.suppress(OSError):
                    if context is not None:
                        connection = shake_hands(context, connection)
                    if reads:
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            for connection in open_connections:
                connection.close()
            thread.join()


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def own_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("own"), "own")


Fault = Callable[[contextlib.ExitStack, Authority, Authority], tuple[str, list[str]]]
"""Starts a backend with a fault; its URL, and the gateway's flags."""


def refused(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"http://127.0.0.1:{free_port()}", []


def unknown_name(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return "http://nonexistent.invalid:8428", []


def foreign_certificate(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    port = stack.enter_context(serving(b"", other.server_context(other.issue("localhost"))))
    return f"https://127.0.0.1:{port}", [f"-read.tlsCAFile={own.cert}"]


def certificate_of_another_name(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    port = stack.enter_context(serving(b"", own.server_context(own.issue("localhost"))))
    return f"https://127.0.0.1:{port}", [f"-read.tlsCAFile={own.cert}", "-read.tlsServerName=vm.example.com"]


def no_client_certificate(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    context = own.server_context(own.issue("localhost"), clients=own)
    return f"https://127.0.0.1:{stack.enter_context(serving(b'', context))}", [f"-read.tlsCAFile={own.cert}"]


def plain_text_on_tls(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"https://127.0.0.1:{stack.enter_context(serving(b'HTTP/1.1 400 Bad Request'))}", []


def tls_on_plain_text(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"http://127.0.0.1:{stack.enter_context(serving(bytes.fromhex('15030100020246')))}", []


def not_http(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"http://127.0.0.1:{stack.enter_context(serving(b'hello, this is no HTTP' + 2 * bytes([13, 10])))}", []


def closed_at_once(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"http://127.0.0.1:{stack.enter_context(serving(b''))}", []


def silent(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"http://127.0.0.1:{stack.enter_context(serving(b'', reads=False))}", ["-backend.responseTimeout=200ms"]


def silent_tls(stack: contextlib.ExitStack, own: Authority, other: Authority) -> tuple[str, list[str]]:
    return f"https://127.0.0.1:{stack.enter_context(serving(b'', reads=False))}", ["-backend.connectTimeout=200ms"]


FAULTS: Final[tuple[tuple[Fault, int, str, str], ...]] = (
    (refused, 502, "refused", "the backend cannot be reached: Connection refused"),
    (unknown_name, 502, "dns", "the backend cannot be reached: .*[Nn]ame"),
    (foreign_certificate, 502, "certificate", "certificate verify failed: unable to get local issuer"),
    (certificate_of_another_name, 502, "certificate", "certificate verify failed: [Hh]ostname mismatch"),
    (no_client_certificate, 502, "certificate", "the backend failed: .*certificate required"),
    (plain_text_on_tls, 502, "tls", "cannot be reached: the server does not speak TLS: write http"),
    (tls_on_plain_text, 502, "tls", "the backend failed: it speaks TLS: write https in the URL"),
    (not_http, 502, "response", "the backend failed: its response is not valid HTTP"),
    (closed_at_once, 502, "closed", "the backend failed: the connection ended before the response"),
    (silent, 504, "timeout", "the backend did not respond in time"),
    (silent_tls, 504, "timeout", "connecting to the backend took too long"),
)  # fmt: skip


def failing(gateway: Gateway, what: str) -> list[str]:
    """The reasons that the page of metrics gives for what fails now."""
    page = gateway.client().get("/metrics").text
    return re.findall(rf'vmgateway_failing{{reason="(\w+)",what="{re.escape(what)}"}} 1\.0', page)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(("fault", "status", "cause", "words"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS])
def test_why_the_backend_failed_is_told(
    start_gateway: StartGateway,
    key: SigningKey,
    key_file: Path,
    own_authority: Authority,
    other_authority: Authority,
    lane: str,
    fault: Fault,
    status: int,
    cause: str,
    words: str,
) -> None:
    with contextlib.ExitStack() as stack:
        url, flags = fault(stack, own_authority, other_authority)
        gateway = start_gateway(
            "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}", f"-read.url={url}", *flags
        )
        answers = [gateway.client(key.mint()).get(QUERY) for _ in range(3)]
        assert [answer.status for answer in answers] == [status] * 3
        for answer in answers:
            assert re.search(f"-read.url: .*{words}", answer.json()["error"]), answer.text
            assert "127.0.0.1" not in answer.text
        found = gateway.wait_for_log(
            rf"\twarn\t.*-read.url: .*{words}.*{re.escape(url)}.*; requests to it are answered {status}"
        )
        assert found
        assert failing(gateway, f"-read.url {url}") == [cause]
        assert gateway.metric("vmgateway_failures_total", what=f"-read.url {url}", reason=cause) == 3
        assert len([line for line in gateway.log().splitlines() if "\twarn\t" in line and "listen" not in line]) == 1


@pytest.mark.parametrize("lane", LANES)
def test_a_response_that_is_cut_off_is_told(
    start_gateway: StartGateway, key: SigningKey, key_file: Path, lane: str
) -> None:
    """The client has its status already, so the log says what really follows."""
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc") as port:
        url = f"http://127.0.0.1:{port}"
        gateway = start_gateway("-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}", f"-read.url={url}")
        for _ in range(3):
            with pytest.raises(http.client.IncompleteRead):
                gateway.client(key.mint()).get(QUERY)
        words = "the backend failed: it closed the connection before the end of its response"
        gateway.wait_for_log(rf"\twarn\t.*-read.url: {words} \({url}\); its response ends too early for the client")
        assert gateway.log().count(words) == 1
        assert gateway.metric("vmgateway_failures_total", what=f"-read.url {url}", reason="closed") == 3


@pytest.mark.parametrize("lane", LANES)
def test_the_end_of_a_failure_is_told(
    start_gateway: StartGateway, upstream: RecordingUpstream, key: SigningKey, key_file: Path, lane: str
) -> None:
    gateway = start_gateway(
        "-enable.auth", f"-auth.publicKeyFiles={key_file}", f"-lane={lane}", f"-read.url={upstream.url}"
    )
    answering = upstream.responder
    upstream.responder = lambda _: HANG_UP
    client = gateway.client(key.mint())
    assert client.get(QUERY).status == 502
    assert failing(gateway, f"-read.url {upstream.url}") == ["closed"]
    upstream.responder = answering
    assert [client.get(QUERY).status for _ in range(3)] == [200] * 3
    gateway.wait_for_log(rf"\tinfo\t.*-read.url: {re.escape(upstream.url)} responds again")
    assert gateway.log().count("responds again") == 1
    assert failing(gateway, f"-read.url {upstream.url}") == []


@pytest.mark.parametrize(
    ("flags", "what", "cause", "words"),
    [
        pytest.param(
            "-auth.jwksEndpoints=http://127.0.0.1:{port}/keys",
            "-auth.jwksEndpoints[0]",
            "refused",
            "cannot fetch keys: Connection refused; it has given no key yet",
            id="an identity provider that refuses",
        ),
        pytest.param(
            "-auth.oidcDiscoveryEndpoints=http://nonexistent.invalid/",
            "-auth.oidcDiscoveryEndpoints[0]",
            "dns",
            "cannot fetch keys: .*; it has given no key yet",
            id="an identity provider without an address",
        ),
        pytest.param(
            "-enable.rateLimit -ratelimit.config={limits} -datasource.url=http://127.0.0.1:{port}",
            "-datasource.url",
            "refused",
            "cannot refresh usage: -datasource.url: Connection refused; the last known usage still counts",
            id="the datasource",
        ),
        pytest.param(
            "-enable.rateLimit -ratelimit.config={limits} -ratelimit.storage=redis://127.0.0.1:{port}/0",
            "usage exchange",
            "refused",
            "cannot exchange counts with other replicas: -ratelimit.storage: Connection refused; only the counts",
            id="Redis",
        ),
        pytest.param(
            "-pushmetrics.url=http://127.0.0.1:{port}/push -pushmetrics.interval=100ms",
            "-pushmetrics.url http://127.0.0.1:{port}/push",
            "refused",
            "cannot push metrics to http://127.0.0.1:{port}/push: Connection refused; they are not sent later",
            id="a push of metrics",
        ),
    ],
)  # fmt: skip
def test_why_another_server_failed_is_told(
    start_gateway: StartGateway, tmp_path: Path, flags: str, what: str, cause: str, words: str
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 5}]")
    port = free_port()
    given = flags.format(port=port, limits=limits).split()
    gateway = start_gateway("-enable.auth", "-read.url=http://127.0.0.1:1", *given)
    gateway.wait_for_log(rf"\twarn\t.*{words.format(port=port)}")
    gateway.wait_until(lambda: failing(gateway, what.format(port=port)) == [cause], what="shows the failure")
    assert gateway.metric("vmgateway_failures_total", what=what.format(port=port), reason=cause) >= 1


def test_a_file_that_cannot_be_used_is_told_until_it_can(
    start_gateway: StartGateway, upstream: RecordingUpstream, key_file: Path, tmp_path: Path
) -> None:
    """The gauge stays at 0 for as long as the bad file is there, and every reload of it is counted."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("limits: [{type: queries, value: 5}]")
    gateway = start_gateway(
        "-enable.auth",
        f"-auth.publicKeyFiles={key_file}",
        f"-read.url={upstream.url}",
        "-enable.rateLimit",
        f"-ratelimit.config={limits}",
        "-ratelimit.configCheckInterval=100ms",
    )

    def successful(source: str) -> float:
        return gateway.metric("vmgateway_last_reload_successful", source=source)

    assert (successful("configuration"), successful("limits")) == (1, 1)
    read = gateway.metric("vmgateway_last_reload_success_timestamp_seconds", source="configuration")
    assert read > 1.7e9
    limits.write_text("limits: [{type: nonsense}]")
    gateway.wait_until(lambda: successful("limits") == 0, what="sees the bad file")
    gateway.wait_for_log(r"\twarn\t.*cannot reload the limits: .*limits.yaml.*; the old limits stay in force")
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: successful("configuration") == 0, what="cannot reload")
    gateway.wait_until(
        lambda: gateway.metric("vmgateway_ratelimit_config_reloads_total", result="error") > 5, what="looks again"
    )
    assert (successful("configuration"), successful("limits")) == (0, 0)
    assert gateway.log().count("cannot reload the limits: ") == 1
    assert failing(gateway, "-ratelimit.config") == ["file"]
    limits.write_text("limits: [{type: queries, value: 6}]")
    gateway.wait_until(lambda: successful("limits") == 1, what="sees the good file")
    gateway.wait_for_log(r"\tinfo\t.*the limits can be read again")
    assert successful("configuration") == 0, "nobody has reloaded it yet"
    gateway.signal(signal.SIGHUP)
    gateway.wait_until(lambda: successful("configuration") == 1, what="reloads")
    assert gateway.metric("vmgateway_last_reload_success_timestamp_seconds", source="configuration") > read
