"""How long the flow lane keeps a client's connection: ``-http.idleConnTimeout``, ``-http.connTimeout`` and the like."""

from __future__ import annotations

import asyncio
import random
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Request

from vmgw_addons.state import InForce, Process

from .upstreams import transports


class FlowPatience:
    """Closes connections of the flow lane that are idle, or old, or not to be kept."""

    def __init__(self, in_force: InForce, process: Process) -> None:
        self.in_force = in_force
        self.process = process
        self.flows: WeakKeyDictionary[Client, int] = WeakKeyDictionary()
        """Requests under way."""
        self.idle: WeakKeyDictionary[Client, asyncio.TimerHandle] = WeakKeyDictionary()
        self.retire_at: WeakKeyDictionary[Client, float] = WeakKeyDictionary()
        self.last: WeakSet[HTTPFlow] = WeakSet()
        """Requests whose client wants no further one: of what the backend gets nothing tells that any more."""

    def client_connected(self, client: Client) -> None:
        # Give or take a tenth, so that connections made together do not all come back together.
        age = self.in_force.configured.limits.connection_timeout * random.uniform(0.9, 1.1)  # noqa: S311
        self.retire_at[client] = asyncio.get_running_loop().time() + age
        self.rest(client)

    def client_disconnected(self, client: Client) -> None:
        self.stir(client)

    def requestheaders(self, flow: HTTPFlow) -> None:
        if is_last(flow.request):
            self.last.add(flow)
        self.flows[flow.client_conn] = self.flows.get(flow.client_conn, 0) + 1
        self.stir(flow.client_conn)

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.retire(flow)

    def response(self, flow: HTTPFlow) -> None:
        self.retire(flow)  # an answer of the gateway's own has yet to be sent; that of a backend is out by now
        self.ended(flow.client_conn)

    def error(self, flow: HTTPFlow) -> None:
        self.ended(flow.client_conn)

    def retire(self, flow: HTTPFlow) -> None:
        """Have the connection closed behind this answer where it is not to be kept (HTTP/2 has no such header)."""
        limits, client = self.in_force.configured.limits, flow.client_conn
        old = limits.connection_timeout and asyncio.get_running_loop().time() > self.retire_at.get(client, 0.0)
        leaving = self.process.draining or not limits.keep_alive or old or flow in self.last
        if leaving and flow.live and flow.response is not None and client.alpn != b"h2":
            flow.response.headers["Connection"] = "close"

    def ended(self, client: Client) -> None:
        """One request less."""
        self.flows[client] = max(0, self.flows.get(client, 0) - 1)
        if not self.flows[client] and client.connected:
            self.rest(client)

    def rest(self, client: Client) -> None:
        """The connection carries no request: it will be closed unless one comes."""
        self.stir(client)
        timeout = self.in_force.configured.limits.idle_timeout
        self.idle[client] = asyncio.get_running_loop().call_later(timeout, self.close, client)

    def stir(self, client: Client) -> None:
        """Stop the clock."""
        timer = self.idle.pop(client, None)
        if timer is not None:
            timer.cancel()

    def close(self, client: Client) -> None:
        """Nothing came."""
        io = transports(client).get(client)
        if io is not None and isinstance(io.writer, asyncio.StreamWriter):
            io.writer.close()


def is_last(request: Request) -> bool:
    """Whether the client wants its connection closed behind the answer (RFC 9112, section 9.6)."""
    options = {option.strip().lower() for option in request.headers.get("connection", "").split(",")}
    return "close" in options or (request.http_version == "HTTP/1.0" and "keep-alive" not in options)
