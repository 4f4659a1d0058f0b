"""Where the gateway listens, and where it leads as long as nothing was decided: nowhere."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Coroutine
from typing import Final

import uvloop
from mitmproxy import ctx
from mitmproxy.proxy.mode_specs import ReverseMode

from vmgw_addons._mitmproxy import ProxyConnectionHandler, ServerInstance, proxyserver
from vmgw_addons.lanes.fast import LINGER_BYTES, LINGER_SECONDS, MOST_TURNED_AWAY, FastLane
from vmgw_addons.state import DEAD_TARGET, InForce, Process
from vmgw_addons.support import Background, Outage, in_thread, raise_limit
from vmgw_core import __version__
from vmgw_core.errors import ConfigurationError, Overloaded

from .proxy_protocol import NoProxyHeader, read_header
from .tls import ListenerTLS

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
_ACCEPT_PAUSE: Final = 0.1  # seconds
_BURST: Final = 64  # connections that are accepted in one turn of the event loop


def parse_listen_address(text: str, *, ipv6: bool) -> tuple[str, int]:
    """Read ``-httpListenAddr``: ``:8431``, ``127.0.0.1:8431``, ``[::1]:8431``.

    Args:
        ipv6: whether ``:8431`` means all IPv6 addresses too (``-enableTCP6``).

    Raises:
        ConfigurationError: it is no address, or its port none of 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"-httpListenAddr: expected host:port or :port, got {text!r}")
    return host or ("" if ipv6 else "0.0.0.0"), int(port)


class Listener:
    """Accepts connections, and gives each to the lane that carries it.

    mitmproxy's own listener stays closed in every program: there is one way in, with the same bounds and the same TLS
    for both lanes.
    """

    def __init__(self, in_force: InForce, process: Process, background: Background, fast: FastLane) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.fast = fast
        self.server: asyncio.AbstractServer | None = None
        self.sockets: list[socket.socket] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.refreshing: asyncio.Task[None] | None = None
        self.watching: asyncio.Task[None] | None = None
        self.tls: ListenerTLS | None = None
        self.proxy_protocol = False
        self.beyond: set[object] = set()
        """As ``FastLane.arriving``, of those that have no place."""
        self.outage = Outage(logger, "those that are open are served on")
        self.mode: ServerInstance[ReverseMode] | None = None
        self.turned_away = 0
        """Clients of the flow lane beyond ``-http.maxConnections`` that are read on."""

    async def running(self) -> None:
        # mitmproxy 12 opens a listener before it has loaded a script; without a usable configuration all are closed.
        await proxyserver().servers.update([])
        if self.in_force.configured.policy is None or self.process.offline:
            return
        if not self.process.fast and self.in_force.configured.settings.lane == "fast":
            logger.info("the flow lane is used: here flows are to be seen or kept")
        mode = self.mode = ServerInstance.make(f"reverse:{DEAD_TARGET}", proxyserver())
        self.fast.flow_connections = lambda: len(mode.manager.connections)
        settings = self.in_force.configured.settings
        raise_limit(self.in_force.configured.limits.connections)
        if settings.tls:
            self.tls = ListenerTLS(settings)
            self.refreshing = self.background.repeat("certificates", self.refresh_tls)
        self.proxy_protocol = settings.http_listen_addr_use_proxy_protocol
        host, port = parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
        try:
            await self.listen(host, port)
        except OSError as error:  # mitmproxy ends a start on which an error was logged
            logger.error(f"-httpListenAddr: cannot listen on {settings.http_listen_addr}: {error.strerror}")
            return
        lane, tls = "fast" if self.process.fast else "flow", ", TLS" if self.tls is not None else ""
        logger.info(f"vmgateway {__version__} listens on {host or '*'}:{port}, {lane} lane{tls}")

    async def listen(self, host: str, port: int) -> None:
        """Begin to accept connections. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, uvloop.Loop) and self.tls is None and not self.proxy_protocol:
            # libuv accepts at half the cost. A connection begins at once here, so that none has to be counted before.
            self.server = await loop.create_server(
                self.protocol, host or None, port, backlog=BACKLOG, reuse_port=self.process.worker is not None
            )
            self.watching = self.background.repeat("descriptors", self.look_for_descriptors)
            return
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, address in dict.fromkeys(found):
            try:
                listening = socket.socket(family, kind, number)
            except OSError:  # the machine has no IPv6
                continue
            self.sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.process.worker is not None:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(BACKLOG)
            loop.add_reader(listening, self.accept, listening)
        if not self.sockets:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    async def look_for_descriptors(self) -> float:
        """Look every second whether there are descriptors left: libuv closes what it has none for, without a word."""
        try:
            socket.socket().close()
        except OSError as error:
            self.outage.failed(f"cannot accept connections: {error.strerror}")
        return 1

    def accept(self, listening: socket.socket) -> None:
        """Take connections that have come, some at a time: those that are open have their turn in between."""
        for _ in range(_BURST):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self.rest(listening, error)
                return
            self.accepted(connection)

    def rest(self, listening: socket.socket, error: OSError) -> None:
        """Out of descriptors or memory: serve those that are open, and accept again after a moment."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(_ACCEPT_PAUSE, self.go_on, listening)
        self.outage.failed(f"cannot accept connections: {error.strerror}")

    def go_on(self, listening: socket.socket) -> None:
        """Accept again, unless the listener was closed."""
        if listening in self.sockets:
            asyncio.get_running_loop().add_reader(listening, self.accept, listening)

    def accepted(self, connection: socket.socket) -> None:
        """A connection has come. From here on it counts, or it is beyond ``-http.maxConnections``.

        One that is beyond it gets its answer after its handshake, unless too many await theirs already.
        """
        limit = self.in_force.configured.limits.connections
        arriving = self.fast.arriving
        if limit and self.fast.connections >= limit:
            arriving = self.beyond
            waiting = len(arriving) + len(self.fast.turned_away) + self.turned_away
            if waiting >= MOST_TURNED_AWAY and (self.tls is not None or self.proxy_protocol):
                connection.close()
                return
        connection.setblocking(False)
        arriving.add(connection)
        self.start(self.introduce(connection, arriving))

    async def introduce(self, connection: socket.socket, arriving: set[object]) -> None:
        """Read whose connection it is, shake hands, and hand it to its lane; all within ``-http.headTimeout`` each.

        Args:
            arriving: where the connection is kept until it begins.
        """
        seconds = self.in_force.configured.limits.head_timeout
        newcomer: object = connection
        try:
            client = await read_header(connection, seconds) if self.proxy_protocol else None
            protocol = self.protocol(client)
            arriving.discard(connection)
            arriving.add(protocol)
            newcomer = protocol
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=None if self.tls is None else self.tls.context,
                ssl_handshake_timeout=None if self.tls is None else seconds,
            )
        except (NoProxyHeader, OSError):  # a handshake that failed is an OSError
            connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            arriving.discard(newcomer)

    def protocol(self, client: str | None = None) -> asyncio.Protocol:
        """What serves a new connection. ``client`` is the address that a balancer named."""
        return self.fast.client(client, self.flow) if self.process.fast else self.flow(client)

    def flow(self, client: str | None = None) -> asyncio.Protocol:
        """A connection for mitmproxy's layers."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert self.mode is not None
            has_place = protocol in self.fast.arriving
            self.fast.arriving.discard(protocol)
            limit = self.in_force.configured.limits.connections
            if not has_place and limit and self.fast.connections >= limit:
                await self.turn_away(reader, writer)
                return
            handler = ProxyConnectionHandler(ctx.master, reader, writer, ctx.options, self.mode.mode)
            context = handler.layer.context
            handler.layer = self.mode.make_top_layer(context)
            peer = context.client.peername
            if client is not None and peer:
                context.client.peername = (client, *peer[1:])
            tls = writer.get_extra_info("ssl_object")
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                context.client.alpn = b"h2"
            with self.mode.manager.register_connection(context.client.id, handler):
                await handler.handle_client()
                await _close(writer, self.in_force.configured.limits.body_timeout)  # it counts until it is gone

        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), handle)
        return protocol

    async def turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer before anything was asked, and close behind what the client sends, so that it sees the answer."""
        writer.write(self.fast.services.last_response(Overloaded("the gateway has as many connections as it takes")))
        linger = self.turned_away < MOST_TURNED_AWAY
        self.turned_away += 1
        try:
            if linger:
                if writer.can_write_eof():
                    writer.write_eof()
                await asyncio.wait_for(_discard(reader), LINGER_SECONDS)
        except (TimeoutError, OSError, asyncio.CancelledError):  # Python 3.11 logs the cancellation of a handler
            pass
        finally:
            await _close(writer, LINGER_SECONDS)
            self.turned_away -= 1

    async def refresh_tls(self) -> float:
        """Look every second whether certificate or key have changed. A disk that hangs holds up no request."""
        assert self.tls is not None
        await in_thread(self.tls.refresh, "certificates")
        return 1

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` until it ends or the gateway does."""
        task = self.background.once("connection", work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def close(self) -> None:
        """Accept no more. What was accepted goes on."""
        for listening in self.sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self.sockets.clear()
        if self.server is not None:
            self.server.close()
            self.server = None

    async def done(self) -> None:
        self.close()
        await self.background.stop(self.refreshing, self.watching, *self.tasks)


async def _close(writer: asyncio.StreamWriter, seconds: float) -> None:
    """Close once everything written is out, or at the latest after that time: a client may take nothing."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), seconds)
    except (TimeoutError, OSError, asyncio.CancelledError):
        writer.transport.abort()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read to the end, or as much as is read of a request that was refused."""
    left = LINGER_BYTES
    while left > 0 and (data := await reader.read(1 << 16)):
        left -= len(data)
