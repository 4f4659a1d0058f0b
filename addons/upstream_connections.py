"""Upstream connections: which may be opened, how long they may take, and TLS to them."""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, Server
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.server import ConnectionIO
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.tls import TlsData

from . import upstream_tls
from .runtime import Runtime
from .upstream_tls import UpstreamTLS

logger = logging.getLogger(__name__)


class UpstreamConnections:
    """Guards every connection to a backend.

    mitmproxy has no connect or response timeout, and goes on reading from a client while it connects. Here a
    connect that takes too long and an answer that does not come are broken off, and a client's upload waits in the
    kernel while there is nowhere to send it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.tls: dict[tuple[str, int], UpstreamTLS] = {}
        self.tls_settings: object = None
        self.connecting: WeakKeyDictionary[Server, asyncio.TimerHandle] = WeakKeyDictionary()
        self.answering: WeakKeyDictionary[HTTPFlow, asyncio.TimerHandle] = WeakKeyDictionary()
        self.timed_out: WeakSet[Server] = WeakSet()

    # --- opening ---------------------------------------------------------------------------------------------------

    def server_connect(self, data: ServerConnectionHookData) -> None:
        policy = self.runtime.policy
        backends = [] if policy is None else [b for b in (policy.read, policy.write) if b is not None]
        if data.server.address not in [backend.address for backend in backends]:
            data.server.error = "not the address of a backend"
            return
        task = asyncio.current_task()
        assert task is not None
        self.connecting[data.server] = asyncio.get_running_loop().call_later(
            self.seconds("backend.connectTimeout"), self.break_off, data.server, task
        )
        pause_reading(data.client)

    def server_connected(self, data: ServerConnectionHookData) -> None:
        if not data.server.tls:
            self.opened(data.client, data.server)

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        self.opened(data.client, data.server)
        transports(data.client).pop(data.server, None)

    def tls_start_server(self, data: TlsData) -> None:
        if self.tls_settings is not self.runtime.settings:  # a reload reads the files anew
            self.tls = upstream_tls.contexts(self.runtime.settings)
            self.tls_settings = self.runtime.settings
        assert isinstance(data.conn, Server)
        address = data.conn.address
        if address is not None and (settings := self.tls.get((address[0], address[1]))):
            data.conn.sni = settings.server_name
            data.ssl_conn = settings.connect()

    def tls_established_server(self, data: TlsData) -> None:
        self.opened(data.context.client, data.conn)

    def tls_failed_server(self, data: TlsData) -> None:
        self.opened(data.context.client, data.conn)

    def opened(self, client: Client, server: object) -> None:
        """The attempt is over, well or badly."""
        assert isinstance(server, Server)
        timer = self.connecting.pop(server, None)
        if timer is not None:
            timer.cancel()
            resume_reading(client)

    # --- waiting for the answer ------------------------------------------------------------------------------------

    def request(self, flow: HTTPFlow) -> None:
        if flow.response is None:
            self.answering[flow] = asyncio.get_running_loop().call_later(
                self.seconds("backend.responseTimeout"), self.no_answer, flow
            )

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.answered(flow)

    def response(self, flow: HTTPFlow) -> None:
        self.answered(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.answered(flow)

    def answered(self, flow: HTTPFlow) -> None:
        """Stop the clock."""
        timer = self.answering.pop(flow, None)
        if timer is not None:
            timer.cancel()

    def no_answer(self, flow: HTTPFlow) -> None:
        """Break off the connection that the flow waits on; the lane answers 504."""
        io = transports(flow.client_conn).get(flow.server_conn)
        if io is not None and io.handler is not None:
            self.break_off(flow.server_conn, io.handler)

    def break_off(self, server: Server, task: asyncio.Task[None]) -> None:
        """Cancel the task that serves ``server``."""
        self.timed_out.add(server)
        task.cancel("timed out")

    def seconds(self, flag: str) -> float:
        """A duration flag."""
        return float(str(self.runtime.settings[flag]))


def transports(client: Client) -> dict[object, ConnectionIO]:
    """The sockets of a client's connection handler: the client's own, and those of its backends."""
    proxyserver = ctx.master.addons.get("proxyserver")
    assert isinstance(proxyserver, Proxyserver)
    handler = proxyserver.connections.get(client.id)
    return handler.transports if handler is not None else {}  # type: ignore[return-value]


def pause_reading(client: Client) -> None:
    """Leave what the client sends in the kernel: events of a layer that waits are queued without bound."""
    io = transports(client).get(client)
    if io is not None and isinstance(io.writer, asyncio.StreamWriter) and not io.writer.is_closing():
        io.writer.transport.pause_reading()  # type: ignore[attr-defined]


def resume_reading(client: Client) -> None:
    """Undo :func:`pause_reading`."""
    io = transports(client).get(client)
    if io is not None and isinstance(io.writer, asyncio.StreamWriter) and not io.writer.is_closing():
        io.writer.transport.resume_reading()  # type: ignore[attr-defined]
