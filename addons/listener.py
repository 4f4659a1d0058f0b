"""Where the gateway listens, and where it leads as long as nothing was decided: nowhere."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Final

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler, ServerInstance
from mitmproxy.proxy.mode_specs import ReverseMode

from vmgw_core import __version__
from vmgw_core.errors import ConfigurationError, Overloaded

from .fast_client import LINGER_BYTES, LINGER_SECONDS
from .fast_lane import MOST_TURNED_AWAY, FastLane
from .listener_tls import ListenerTLS
from .proxy_protocol import NoProxyHeader, read_header
from .runtime import Runtime

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
_ACCEPT_PAUSE: Final = 0.1  # seconds

DEAD_ADDRESS: Final = ("127.0.0.1", 1)
DEAD_TARGET: Final = "http://127.0.0.1:1"
"""The target of mitmproxy's reverse mode. No connection is ever made to it: see ``UpstreamConnections``."""


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

    def __init__(self, runtime: Runtime, fast: FastLane) -> None:
        self.runtime = runtime
        self.fast = fast
        self.server: asyncio.Server | None = None
        self.sockets: list[socket.socket] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.tls: ListenerTLS | None = None
        self.mode: ServerInstance[ReverseMode] | None = None
        self.turned_away = 0
        """Clients of the flow lane beyond ``-http.maxConnections`` that are read on."""

    async def running(self) -> None:
        proxyserver = ctx.master.addons.get("proxyserver")
        assert isinstance(proxyserver, Proxyserver)
        # mitmproxy 12 opens a listener before it has loaded a script; without a usable configuration all are closed.
        await proxyserver.servers.update([])
        if self.runtime.policy is None or self.runtime.offline:
            return
        if not self.runtime.fast and self.runtime.settings["lane"] == "fast":
            logger.info("the flow lane is used: here flows are to be seen or kept")
        mode = self.mode = ServerInstance.make(f"reverse:{DEAD_TARGET}", proxyserver)
        self.fast.flow_connections = lambda: len(mode.manager.connections)
        settings = self.runtime.settings
        if settings["tls"]:
            self.tls = ListenerTLS(settings)
            self.start(self.refresh_tls(self.tls))
        host, port = parse_listen_address(str(settings["httpListenAddr"]), ipv6=bool(settings["enableTCP6"]))
        try:
            await self.listen(host, port)
        except OSError as error:  # mitmproxy ends a start on which an error was logged
            logger.error(f"-httpListenAddr: cannot listen on {settings['httpListenAddr']}: {error.strerror}")
            return
        lane, tls = "fast" if self.runtime.fast else "flow", ", TLS" if self.tls is not None else ""
        logger.info(f"vmgateway {__version__} listens on {host or '*'}:{port}, {lane} lane{tls}")

    async def listen(self, host: str, port: int) -> None:
        """Begin to accept connections. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        shared = self.runtime.worker is not None
        if not self.runtime.settings["httpListenAddr.useProxyProtocol"]:
            context = None if self.tls is None else self.tls.context
            self.server = await loop.create_server(
                self.protocol, host or None, port, ssl=context, backlog=BACKLOG, reuse_port=shared
            )
            return
        for family, kind, number, _, address in await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listening = socket.socket(family, kind, number)
            self.sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(BACKLOG)
            self.start(self.accept(listening))

    async def accept(self, listening: socket.socket) -> None:
        """Accept connections that begin with a header of the PROXY protocol."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # out of descriptors: those that are open go on
                logger.warning(f"cannot accept a connection: {error.strerror}")
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            self.start(self.introduce(connection))

    async def introduce(self, connection: socket.socket) -> None:
        """Read whose connection it is, and hand it to its lane."""
        try:
            client = await read_header(connection)
            context = None if self.tls is None else self.tls.context
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.protocol(client), connection, ssl=context
            )
        except (NoProxyHeader, OSError):  # a handshake that failed is an OSError
            connection.close()

    def protocol(self, client: str | None = None) -> asyncio.Protocol:
        """What serves a new connection. ``client`` is the address that a balancer named."""
        return self.fast.client(client, self.flow) if self.runtime.fast else self.flow(client)

    def flow(self, client: str | None = None) -> asyncio.Protocol:
        """A connection for mitmproxy's layers."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert self.mode is not None
            limit = self.runtime.limits.connections
            if limit and self.fast.connections >= limit:
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

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), handle)

    async def turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer before anything was asked, and close behind what the client sends, so that it sees the answer."""
        writer.write(self.fast.closing(Overloaded("the gateway has as many connections as it takes")))
        if self.turned_away < MOST_TURNED_AWAY:
            self.turned_away += 1
            try:
                if writer.can_write_eof():
                    writer.write_eof()
                await asyncio.wait_for(_discard(reader), LINGER_SECONDS)
            except (TimeoutError, OSError, asyncio.CancelledError):  # Python 3.11 logs the cancellation of a handler
                pass
            finally:
                self.turned_away -= 1
        writer.close()

    async def refresh_tls(self, tls: ListenerTLS) -> None:
        """Look every second whether certificate or key have changed."""
        while True:
            await asyncio.sleep(1)
            tls.refresh()

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` in the background until it ends or the listener is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Accept no more."""
        for task in list(self.tasks):
            task.cancel()
        if self.server is not None:
            for bound in self.server.sockets:
                asyncio.get_running_loop().remove_reader(bound.fileno())
            await asyncio.sleep(0)  # asyncio loses those it has just accepted, open, once the server is closed
            self.server.close()
            self.server = None
        for listening in self.sockets:
            listening.close()
        self.sockets.clear()

    async def done(self) -> None:
        await self.close()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read to the end, or as much as is read of a request that was refused."""
    left = LINGER_BYTES
    while left > 0 and (data := await reader.read(1 << 16)):
        left -= len(data)
