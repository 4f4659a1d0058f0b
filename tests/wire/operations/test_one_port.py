"""Two gateways share a port only if the second one is told to: then it replaces the first, and no client sees it."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.support.wire.processes import Gateway, free_port, run_vmgateway
from tests.support.wire.tokens import SigningKey
from tests.support.wire.upstream import RecordingUpstream

QUERY = "/api/v1/query?query=up"
SHARED = "-httpListenAddr.reusePort"


def flags_of(upstream: RecordingUpstream, key_file: Path, *more: str) -> tuple[str, ...]:
    return ("-enable.auth", f"-read.url={upstream.url}", f"-auth.publicKeyFiles={key_file}", *more)


@pytest.mark.parametrize(
    ("first", "second"),
    [(("-workers=2",), "-workers=2"), ((), "-workers=1"), (("-workers=2", SHARED), "-workers=2")],
    ids=["workers", "one process", "sharing"],
)
def test_a_second_gateway_on_the_port_does_not_start(
    upstream: RecordingUpstream, key_file: Path, first: tuple[str, ...], second: str
) -> None:
    flags = flags_of(upstream, key_file)
    with Gateway(*flags, *first) as gateway:
        listen = f"-httpListenAddr=127.0.0.1:{gateway.port}"
        done = run_vmgateway(*flags, listen, second)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"vmgateway: -httpListenAddr: cannot listen on 127.0.0.1:{gateway.port}: Address already in use "
            "(to replace a gateway without a lost request, see -httpListenAddr.reusePort)\n"
        )
        checked = run_vmgateway(*flags, listen, second, "-dryRun")
        assert checked.returncode == 0, "a configuration is checked beside the gateway that runs"


def test_a_port_that_another_program_has_ends_the_start(upstream: RecordingUpstream, key_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_vmgateway(*flags_of(upstream, key_file), f"-httpListenAddr=127.0.0.1:{taken.getsockname()[1]}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_port_is_free_again_after_the_end(upstream: RecordingUpstream, key: SigningKey, key_file: Path) -> None:
    """Connections that the first one has closed are still in TIME_WAIT."""
    port = free_port()
    for workers in ("-workers=2", "-workers=1", "-workers=2"):
        with Gateway(*flags_of(upstream, key_file, workers, "-http.disableKeepAlive"), port=port) as gateway:
            assert [gateway.client(key.mint()).get(QUERY).status for _ in range(10)] == [200] * 10


@pytest.mark.parametrize("how", ["-workers=2", "-workers=1", "-lane=flow"])
def test_a_gateway_is_replaced_without_a_lost_request(
    upstream: RecordingUpstream, key: SigningKey, key_file: Path, how: str
) -> None:
    flags = flags_of(upstream, key_file, how, SHARED, "-http.shutdownDelay=200ms")
    processes = 2 if how == "-workers=2" else 1
    token = key.mint()
    statuses: list[int] = []
    over = threading.Event()

    def ask(gateway: Gateway) -> None:
        while not over.is_set():
            try:
                statuses.append(gateway.client(token).get(QUERY).status)
            except (OSError, http.client.HTTPException):
                statuses.append(0)

    with Gateway(*flags) as old:
        clients = [threading.Thread(target=ask, args=(old,)) for _ in range(8)]
        for client in clients:
            client.start()
        with Gateway(*flags, port=old.port) as new:
            new.wait_until(lambda: new.log().count("listens on") == processes, what="listens")
            before = len(statuses)
            old.signal(signal.SIGTERM)
            assert old.wait() == 0
            after = len(statuses)
            new.wait_until(lambda: len(statuses) > after + 50, what="serves alone")
            over.set()
            for client in clients:
                client.join()
    assert before > 0
    assert set(statuses) == {200}, "no client saw the change"
