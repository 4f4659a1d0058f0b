from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.each import each
from tests.support.wire.processes import free_port
from tests.support.wire.waiting import HANGS
from vmgw_addons import chain
from vmgw_addons.listener.server import Listener, parse_listen_address
from vmgw_addons.state import Cycles, Reloads
from vmgw_core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "ipv6", "expected"),
    [
        (":8431", False, ("0.0.0.0", 8431)),
        (":8431", True, ("", 8431)),
        ("127.0.0.1:1", False, ("127.0.0.1", 1)),
        ("[::1]:65535", True, ("::1", 65535)),
        ("localhost:8431", False, ("localhost", 8431)),
    ],
)
def test_accepts(text: str, ipv6: bool, expected: tuple[str, int]) -> None:
    assert parse_listen_address(text, ipv6=ipv6) == expected


@each("text", ["", "8431", ":", ":0", ":65536", ":-1", "host:", "host:http", ":٣"])
def test_rejects(text: str) -> None:
    with pytest.raises(ConfigurationError, match="-httpListenAddr"):
        parse_listen_address(text, ipv6=False)


class Greeter(asyncio.Protocol):
    """Says that it has the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"taken")
        transport.close()


class GreetingListener(Listener):
    def protocol(self, client: str | None = None) -> asyncio.Protocol:
        return Greeter()


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_comes_as_the_listener_closes_is_taken_or_closed(turns: int) -> None:
    async def scenario() -> bytes:
        known = next(addon for addon in chain.build() if isinstance(addon, Listener))
        listener = GreetingListener(known.in_force, known.process, known.background, known.fast, Reloads(), Cycles())
        port = free_port()
        await listener.listen("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            listener.close()
            loop = asyncio.get_running_loop()
            try:
                return await asyncio.wait_for(loop.sock_recv(client, 16), timeout=HANGS)
            except ConnectionResetError:
                return b""

    assert asyncio.run(scenario()) in (b"taken", b"")
