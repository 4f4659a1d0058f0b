"""Connections to backends: which may be opened, their timeouts, and their TLS."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData

from vmgw_addons._mitmproxy import ConnectionHandler, ConnectionIO, commands, events, proxyserver
from vmgw_addons.state import InForce

_MAX_CONNECTIONS: Final = 100
"""To one backend for one client: as many as requests that a client on HTTP/2 may have open (h2's default)."""


class UpstreamConnections:
    """Guards every connection to a backend.

    mitmproxy has no timeout for connecting and for a response, and keeps reading from a client while it connects. Here
    both have a timeout, and the client's upload is not read until the backend is connected.
    """

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force
        self.connecting: WeakKeyDictionary[Server, asyncio.TimerHandle] = WeakKeyDictionary()
        self.waiting: WeakKeyDictionary[HTTPFlow, asyncio.TimerHandle] = WeakKeyDictionary()
        self.timed_out: WeakSet[Server] = WeakSet()
        self.requested: WeakKeyDictionary[Server, tuple[str, int]] = WeakKeyDictionary()
        """The address of each connection that the HTTP layer asked for."""

    def client_connected(self, client: Client) -> None:
        """Put a gate before the client's stream, and see every connection to a backend to its end."""
        handler = proxyserver().connections[client.id]
        io = handler.transports[client]
        io.reader = GatedReader(io.reader)  # type: ignore[assignment]
        # mitmproxy opens five at most, and lets the requests of a client on HTTP/2 wait for them without a word.
        handler.max_conns = defaultdict(lambda: asyncio.Semaphore(_MAX_CONNECTIONS))
        handler.open_connection = partial(self.open, handler, handler.open_connection)  # type: ignore[method-assign]

    # --- opening ---------------------------------------------------------------------------------------------------

    async def open(
        self,
        handler: ConnectionHandler,
        open_connection: Callable[[commands.OpenConnection], Awaitable[None]],
        command: commands.OpenConnection,
    ) -> None:
        """Open a connection as mitmproxy does, and report one that the backend reset at once.

        Such a socket has no peer any more. mitmproxy asserts that it has one, and the request would wait forever.
        """
        try:
            await open_connection(command)
        except AssertionError:
            server = command.connection
            io = handler.transports.get(server)
            if server not in self.connecting or io is None or io.writer is None:
                raise
            io.writer.close()
            server.state = ConnectionState.CLOSED
            server.error = "the backend reset the connection at once"
            self.server_connect_error(ServerConnectionHookData(server=server, client=handler.client))
            await handler.server_event(events.OpenConnectionCompleted(command, server.error))

    def server_connect(self, data: ServerConnectionHookData) -> None:
        data.server.error = self.objection(data)
        if data.server.error is not None:
            return
        task = asyncio.current_task()
        assert task is not None
        self.connecting[data.server] = asyncio.get_running_loop().call_later(
            self.in_force.configured.settings.backend_connect_timeout, self.time_out, data.server, task
        )
        gate(data.client).clear()

    def objection(self, data: ServerConnectionHookData) -> str | None:
        """Return why a connection must not be opened, or None."""
        members = [member for group in self.in_force.configured.groups for member in group.members]
        address = data.server.address
        if address is None or address not in [member.backend.address for member in members]:
            return "not the address of a backend"
        if data.server.transport_protocol != "tcp":
            return "not over TCP"
        if data.client.id in proxyserver().connections and self.requested.get(data.server) != address:
            return "no request asked for it"  # in a client replay mitmproxy's own layer asks
        if ":" in address[0] and not self.in_force.configured.settings.enable_tcp6:
            return "an IPv6 address, without -enableTCP6"
        return None

    def server_connected(self, data: ServerConnectionHookData) -> None:
        if not data.server.tls:
            self.opened(data.client, data.server)

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        self.opened(data.client, data.server)
        transports(data.client).pop(data.server, None)

    def tls_start_server(self, data: TlsData) -> None:
        assert isinstance(data.conn, Server)
        address = data.conn.address
        if address is not None and (tls := self.in_force.configured.upstream_tls.get((address[0], address[1]))):
            data.conn.sni = tls.server_name
            data.ssl_conn = tls.connect()

    def tls_established_server(self, data: TlsData) -> None:
        self.opened(data.context.client, data.conn)

    def tls_failed_server(self, data: TlsData) -> None:
        self.opened(data.context.client, data.conn)

    def opened(self, client: Client, server: object) -> None:
        """Stop the timer and open the gate: the attempt to connect is over."""
        assert isinstance(server, Server)
        timer = self.connecting.pop(server, None)
        if timer is not None:
            timer.cancel()
            gate(client).set()

    # --- waiting for the response ----------------------------------------------------------------------------------

    def request(self, flow: HTTPFlow) -> None:
        if flow.response is None:
            self.wait(flow, self.in_force.configured.settings.backend_response_timeout)

    def wait(self, flow: HTTPFlow, seconds: float) -> None:
        self.waiting[flow] = asyncio.get_running_loop().call_later(seconds, self.no_response, flow)

    def responseheaders(self, flow: HTTPFlow) -> None:
        timer = self.waiting.pop(flow, None)
        if timer is not None:
            timer.cancel()

    response = error = responseheaders

    def no_response(self, flow: HTTPFlow) -> None:
        """Close the connection that the flow waits for; the lane responds 504."""
        open_now = transports(flow.client_conn)
        io = open_now.get(flow.server_conn)
        if io is not None and io.handler is not None:
            self.time_out(flow.server_conn, io.handler)
        elif open_now:  # another member of the group is still being connected
            self.wait(flow, self.in_force.configured.settings.backend_connect_timeout)

    def time_out(self, server: Server, task: asyncio.Task[None]) -> None:
        """Cancel the task that serves ``server``."""
        self.timed_out.add(server)
        task.cancel("timed out")


class ConnectionSeal:
    """Comes after all addons: one may have changed the address or the TLS of a connection to a backend."""

    def __init__(self, connections: UpstreamConnections) -> None:
        self.connections = connections

    def server_connect(self, data: ServerConnectionHookData) -> None:
        if data.server.error is None:
            data.server.error = self.connections.objection(data)

    def tls_start_server(self, data: TlsData) -> None:
        self.connections.tls_start_server(data)


def transports(client: Client) -> dict[object, ConnectionIO]:
    """Return the sockets of a client's connection handler: the client's own, and those of its backends."""
    handler = proxyserver().connections.get(client.id)
    return handler.transports if handler is not None else {}  # type: ignore[return-value]


def close_client(client: Client) -> None:
    """Close the client's socket."""
    io = transports(client).get(client)
    if io is not None and isinstance(io.writer, asyncio.StreamWriter):
        io.writer.close()


class GatedReader:
    """A client's stream that can be paused.

    mitmproxy queues the events of a waiting layer without limit. What is not read stays in the stream's buffer, which
    is bounded, and in the kernel.
    """

    def __init__(self, reader: object) -> None:
        assert isinstance(reader, asyncio.StreamReader)
        self.reader = reader
        self.open = asyncio.Event()
        self.open.set()

    async def read(self, size: int) -> bytes:
        """Read from the stream when the gate is open."""
        if not self.open.is_set():
            await self.open.wait()
        return await self.reader.read(size)


def gate(client: Client) -> asyncio.Event:
    """Return the gate of the client's stream; a dummy if the client has left."""
    io = transports(client).get(client)
    return io.reader.open if io is not None and isinstance(io.reader, GatedReader) else asyncio.Event()
