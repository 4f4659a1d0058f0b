"""A process leaves a port that it shares without a lost connection."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from tests.support.wire.waiting import HANGS
from vmgw_addons.listener.leaving import drop_new_connections

CONNECTIONS = 40


@contextlib.contextmanager
def listening(family: int, host: str, port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(2 * CONNECTIONS)
        yield sock


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_connections_wait_until_the_socket_is_closed_and_go_to_the_other(family: int, host: str) -> None:
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(listening(family, host))
        port = old.getsockname()[1]
        established = stack.enter_context(socket.create_connection((host, port)))
        new = stack.enter_context(listening(family, host, port))
        assert drop_new_connections([old])
        clients = [stack.enter_context(socket.socket(family)) for _ in range(CONNECTIONS)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex((host, port))
        _, connected, _ = select.select([], clients, [], 0)
        assert 0 < len(connected) < CONNECTIONS, "those of the old socket wait"
        with old.accept()[0] as accepted:
            established.sendall(b"a")
            assert accepted.recv(1) == b"a", "what is open goes on"
        old.close()
        for client in clients:
            assert select.select([], [client], [], HANGS)[1] == [client]
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            new.accept()[0].close()


def test_a_system_that_cannot_do_it_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed:
        closed.close()
        assert not drop_new_connections([closed])
    assert "some clients may have to connect again: Bad file descriptor" in caplog.text
