"""Keep-alive of clients' connections in the flow lane: ``-http.idleConnTimeout``, ``-http.connTimeout`` and others."""

from __future__ import annotations

import asyncio
import random
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Request

from vmgw_addons.state import InForce, Process

from .upstreams import close_client


class FlowKeepAlive:
    """Closes connections of the flow lane that are idle, too old, or not keep-alive."""

    def __init__(self, in_force: InForce, process: Process) -> None:
        self.in_force = in_force
        self.process = process
        self.flows: WeakKeyDictionary[Client, int] = WeakKeyDictionary()
        """The number of active requests."""
        self.idle: WeakKeyDictionary[Client, asyncio.TimerHandle] = WeakKeyDictionary()
        self.expiry: WeakKeyDictionary[Client, float] = WeakKeyDictionary()
        self.last: WeakSet[HTTPFlow] = WeakSet()
        """Requests whose client asked to close. The header is removed from what the backend gets."""

    def client_connected(self, client: Client) -> None:
        # Vary by a tenth, so that clients that connected together do not all reconnect together.
        age = self.in_force.configured.limits.connection_timeout * random.uniform(0.9, 1.1)  # noqa: S311
        self.expiry[client] = asyncio.get_running_loop().time() + age
        self.start_timer(client)

    def client_disconnected(self, client: Client) -> None:
        self.stop_timer(client)

    def requestheaders(self, flow: HTTPFlow) -> None:
        if is_last(flow.request):
            self.last.add(flow)
        self.flows[flow.client_conn] = self.flows.get(flow.client_conn, 0) + 1
        self.stop_timer(flow.client_conn)

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.announce_close(flow)

    def response(self, flow: HTTPFlow) -> None:
        self.announce_close(flow)  # the gateway's own response is not sent yet; a backend's is
        self.ended(flow.client_conn)

    def error(self, flow: HTTPFlow) -> None:
        self.ended(flow.client_conn)

    def announce_close(self, flow: HTTPFlow) -> None:
        """Set ``Connection: close`` if the connection is to be closed after this response (not in HTTP/2)."""
        limits, client = self.in_force.configured.limits, flow.client_conn
        old = limits.connection_timeout and asyncio.get_running_loop().time() > self.expiry.get(client, 0.0)
        closing = self.process.draining or not limits.keep_alive or old or flow in self.last
        if closing and flow.live and flow.response is not None and client.alpn != b"h2":
            flow.response.headers["Connection"] = "close"

    def ended(self, client: Client) -> None:
        """Count down the active requests; after the last one the connection is idle."""
        self.flows[client] = max(0, self.flows.get(client, 0) - 1)
        if not self.flows[client] and client.connected:
            self.start_timer(client)

    def start_timer(self, client: Client) -> None:
        """Close the connection after the idle timeout, unless a request stops the timer."""
        self.stop_timer(client)
        timeout = self.in_force.configured.limits.idle_timeout
        self.idle[client] = asyncio.get_running_loop().call_later(timeout, close_client, client)

    def stop_timer(self, client: Client) -> None:
        """Stop the idle timer."""
        timer = self.idle.pop(client, None)
        if timer is not None:
            timer.cancel()


def is_last(request: Request) -> bool:
    """Whether the client wants its connection closed after the response (RFC 9112, section 9.6)."""
    options = {option.strip().lower() for option in request.headers.get("connection", "").split(",")}
    return "close" in options or (request.http_version == "HTTP/1.0" and "keep-alive" not in options)
