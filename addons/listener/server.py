"""The listener: accepts connections, and gives each to a lane."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from typing import Final

import uvloop
from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy.mode_specs import ReverseMode

from vmgw_addons._mitmproxy import ProxyConnectionHandler, ServerInstance, proxyserver
from vmgw_addons.lanes.fast import LINGER_BYTES, LINGER_SECONDS, MOST_TURNED_AWAY, FastLane
from vmgw_addons.state import DEAD_TARGET, Cycles, InForce, Process, Reloads
from vmgw_addons.support import Background, certificate_of, in_thread, raise_limit
from vmgw_core import __version__
from vmgw_core.base import quoted
from vmgw_core.errors import Cause, ConfigurationError, Overloaded

from .leaving import HANDSHAKE_SECONDS, drop_new_connections
from .proxy_protocol import NoProxyHeader, read_header
from .takeover import release, take_over
from .tls import ListenerTLS

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024
_ACCEPT_PAUSE: Final = 0.1  # seconds
_BURST: Final = 64  # connections accepted in one turn of the event loop


def parse_listen_address(text: str, *, ipv6: bool) -> tuple[str, int]:
    """Read ``-httpListenAddr``: ``:8431``, ``127.0.0.1:8431``, ``[::1]:8431``. Raises ``ConfigurationError``.

    Args:
        ipv6: whether ``:8431`` means all IPv6 addresses too (``-enableTCP6``).
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"-httpListenAddr: expected host:port or :port, got {quoted(text)}")
    return host or ("" if ipv6 else "0.0.0.0"), int(port)


class Listener:
    """Accepts connections, and gives each to the lane in use.

    mitmproxy's own listener stays closed in every program, so that limits and TLS are the same for both lanes.
    """

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        fast: FastLane,
        certificate_reloads: Reloads,
        cycles: Cycles,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.fast = fast
        self.certificate_reloads = certificate_reloads
        self.cycles = cycles
        self.server: asyncio.AbstractServer | None = None
        self.sockets: list[socket.socket] = []
        self.inherited: list[socket.socket] = []
        """Sockets that mitmproxy listened on before it loaded the gateway."""
        self.tls: ListenerTLS | None = None
        self.proxy_protocol = False
        self.excess: set[object] = set()
        """Like ``FastLane.arriving``, for connections over the limit."""
        self.outage = in_force.outages.of("listener", logger, "open connections are still served")
        self.mode: ServerInstance[ReverseMode] | None = None
        self.turned_away = 0
        """Clients of the flow lane over ``-http.maxConnections`` that are still being read."""

    def load(self, loader: Loader) -> None:
        if "scripts" in loader.master.options:  # one of mitmproxy's programs
            self.inherited = take_over()

    async def running(self) -> None:
        await release()
        if self.in_force.configured.policy is None or self.process.offline:
            return
        mode = self.mode = ServerInstance.make(f"reverse:{DEAD_TARGET}", proxyserver())
        self.fast.flow_connections = lambda: len(mode.manager.connections)
        settings = self.in_force.configured.settings
        self.fast.room = raise_limit(self.in_force.configured.limits.connections)
        if settings.tls:
            self.tls = ListenerTLS(settings, self.certificate_reloads, self.in_force.outages)
            self.background.repeat("certificates", self.refresh_tls)
        self.proxy_protocol = settings.http_listen_addr_use_proxy_protocol
        host, port = parse_listen_address(settings.http_listen_addr, ipv6=settings.enable_tcp6)
        self.background.repeat("descriptors", self.check_descriptors)
        try:
            await self.listen(host, port)
        except OSError as error:  # mitmproxy exits if an error is logged at start
            logger.error(f"-httpListenAddr: cannot listen on {settings.http_listen_addr}: {error.strerror}")
            return
        finally:
            self.close_inherited()
        lane = "fast lane" if self.process.fast else "flow lane"
        reason = f" ({self.process.why_flows})" if self.process.why_flows else ""
        tls = ", TLS" if self.tls is not None else ""
        logger.info(f"vmgateway {__version__} listens on {host or '*'}:{port}, {lane}{reason}{tls}")

    @property
    def shared(self) -> bool:
        """Whether other processes listen on the port too."""
        return self.process.worker is not None or self.in_force.configured.settings.http_listen_addr_reuse_port

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, uvloop.Loop) and self.tls is None and not self.proxy_protocol:
            # libuv accepts at half the cost. Without a handshake, a connection counts from its first moment.
            self.server = await loop.create_server(
                self.protocol, host or None, port, backlog=BACKLOG, reuse_port=self.shared
            )
            return
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, number, _, address in dict.fromkeys(found):
            bound = next((each for each in self.inherited if each.getsockname()[:2] == address[:2]), None)
            try:
                listening = bound or socket.socket(family, kind, number)
            except OSError:  # no IPv6 on this machine
                continue
            self.sockets.append(listening)
            if bound is None:
                self.bind(listening, address)
            listening.listen(BACKLOG)
            loop.add_reader(listening, self.accept, listening)
        if not self.sockets:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def bind(self, listening: socket.socket, address: object) -> None:
        """Bind a new socket to ``address``."""
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)  # type: ignore[arg-type]

    def close_inherited(self) -> None:
        """Close the sockets of mitmproxy that the gateway does not use."""
        for sock in self.inherited:
            if sock not in self.sockets:
                sock.close()
        self.inherited.clear()

    async def check_descriptors(self) -> float:
        """Check every second for free descriptors: without one, libuv closes new connections silently."""
        try:
            socket.socket().close()
        except OSError as error:
            self.outage.failed(f"cannot accept connections: {error.strerror}", Cause.RESOURCES)
        else:
            self.outage.succeeded("connections are accepted again")
        return 1

    def accept(self, listening: socket.socket) -> None:
        """Accept a burst of connections; open ones get their turn between bursts."""
        for _ in range(_BURST):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self.pause(listening, error)
                return
            self.accepted(connection)

    def pause(self, listening: socket.socket, error: OSError) -> None:
        """Stop accepting for a moment: descriptors or memory are exhausted."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(_ACCEPT_PAUSE, self.resume, listening)
        self.outage.failed(f"cannot accept connections: {error.strerror}", Cause.RESOURCES)

    def resume(self, listening: socket.socket) -> None:
        """Accept again, unless the listener was closed."""
        if listening in self.sockets:
            asyncio.get_running_loop().add_reader(listening, self.accept, listening)

    def accepted(self, connection: socket.socket) -> None:
        """Count a new connection, and start its handshake.

        A connection over ``-http.maxConnections`` gets a response after its handshake, or is closed if too many
        already wait for theirs.
        """
        arriving = self.fast.arriving
        if self.fast.is_full(self.fast.connections + 1):
            arriving = self.excess
            waiting = len(arriving) + len(self.fast.turned_away) + self.turned_away
            if waiting >= MOST_TURNED_AWAY and (self.tls is not None or self.proxy_protocol):
                connection.close()
                return
        connection.setblocking(False)
        arriving.add(connection)
        self.background.once("connection", self.shake_hands(connection, arriving))

    async def shake_hands(self, connection: socket.socket, arriving: set[object]) -> None:
        """Read the PROXY header, do the TLS handshake, each within ``-http.headTimeout``, and start the lane.

        Args:
            arriving: the set that counts the connection until it is established.
        """
        seconds = self.in_force.configured.limits.head_timeout
        counted: object = connection
        try:
            client = await read_header(connection, seconds) if self.proxy_protocol else None
            protocol = self.protocol(client)
            arriving.discard(connection)
            arriving.add(protocol)
            counted = protocol
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=None if self.tls is None else self.tls.context,
                ssl_handshake_timeout=None if self.tls is None else seconds,
            )
        except (NoProxyHeader, OSError):  # ssl.SSLError is an OSError
            connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            arriving.discard(counted)

    def protocol(self, client: str | None = None) -> asyncio.Protocol:
        """Make the protocol of a new connection. ``client`` is the address in the PROXY header."""
        return self.fast.client(client, self.flow) if self.process.fast else self.flow(client)

    def flow(self, client: str | None = None) -> asyncio.Protocol:
        """Make the protocol of the flow lane."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert self.mode is not None
            is_counted = protocol in self.fast.arriving
            self.fast.arriving.discard(protocol)
            if not is_counted and self.fast.is_full(self.fast.connections + 1):
                await self.turn_away(reader, writer)
                return
            handler = ProxyConnectionHandler(ctx.master, reader, writer, ctx.options, self.mode.mode)
            context = handler.layer.context
            handler.layer = self.mode.make_top_layer(context)
            peer = context.client.peername
            if client is not None and peer:
                context.client.peername = (client, *peer[1:])
            tls = writer.get_extra_info("ssl_object")
            certificate = certificate_of(tls)
            if certificate is not None:
                self.cycles.certificates[context.client] = certificate
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                context.client.alpn = b"h2"
            with self.mode.manager.register_connection(context.client.id, handler):
                await handler.handle_client()
                await _close(writer, self.in_force.configured.limits.body_timeout)  # it counts until it is closed

        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), handle)
        return protocol

    async def turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse a connection over the limit. Read what the client sends for a while, so that it gets the response."""
        writer.write(self.fast.services.last_response(Overloaded("the gateway has as many connections as it takes")))
        linger = self.turned_away < MOST_TURNED_AWAY
        self.turned_away += 1
        try:
            if linger:
                if writer.can_write_eof():
                    writer.write_eof()
                await asyncio.wait_for(_discard(reader), LINGER_SECONDS)
        except (TimeoutError, OSError, asyncio.CancelledError):  # Python 3.11 logs a cancelled handler
            pass
        finally:
            await _close(writer, LINGER_SECONDS)
            self.turned_away -= 1

    async def refresh_tls(self) -> float:
        """Reload the certificate within a second of a change, in a thread, and watch its expiry."""
        assert self.tls is not None
        await in_thread(self.tls.refresh, "certificates")
        self.tls.check_expiry(time.time())
        if self.tls.ends is not None:
            self.in_force.certificate_ends["-tlsCertFile"] = self.tls.ends
        return 1

    async def leave(self) -> None:
        """Close, after new connections go to the other processes on the port, if it is shared."""
        listening = self.listening()
        if self.shared and listening and drop_new_connections(listening):
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for each in listening:
            each.close()
        self.close()

    def listening(self) -> list[socket.socket]:
        """Return the listening sockets, as copies to close."""
        served = getattr(self.server, "sockets", ())
        return [socket.socket(fileno=os.dup(each.fileno())) for each in (*self.sockets, *served)]

    def close(self) -> None:
        """Accept what has come, and then no more. Open connections stay."""
        for each in self.listening():
            with each:
                self.accept(each)
        for listening in self.sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self.sockets.clear()
        if self.server is not None:
            self.server.close()
            self.server = None


async def _close(writer: asyncio.StreamWriter, seconds: float) -> None:
    """Close after everything is written, or after ``seconds`` if the client does not read."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), seconds)
    except (TimeoutError, OSError, asyncio.CancelledError):
        writer.transport.abort()


async def _discard(reader: asyncio.StreamReader) -> None:
    """Read to the end, or up to the limit for a refused request."""
    left = LINGER_BYTES
    while left > 0 and (data := await reader.read(1 << 16)):
        left -= len(data)
