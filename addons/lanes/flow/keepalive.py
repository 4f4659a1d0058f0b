"""Keep-alive of clients' connections in the flow lane: ``-http.idleConnTimeout``, ``-http.connTimeout`` and others."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakSet

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Request

from vmgw_addons.state import InForce, Process

from .upstreams import close_client


@dataclass(eq=False, slots=True)
class Patience:
    """What is known of one client."""

    expiry: float
    """When its connection is too old, by the clock of the event loop."""
    requests: int = 0
    """The number of active requests."""
    timer: asyncio.TimerHandle | None = None
    """Closes the connection if no request comes."""

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FlowKeepAlive:
    """Closes connections of the flow lane that are idle, too old, or not keep-alive."""

    def __init__(self, in_force: InForce, process: Process) -> None:
        self.in_force = in_force
        self.process = process
        self.clients: WeakKeyDictionary[Client, Patience] = WeakKeyDictionary()
        self.last: WeakSet[HTTPFlow] = WeakSet()
        """Requests whose client asked to close. The header is removed from what the backend gets."""

    def client_connected(self, client: Client) -> None:
        # Vary by a tenth, so that clients that connected together do not all reconnect together.
        age = self.in_force.configured.limits.connection_timeout * random.uniform(0.9, 1.1)  # noqa: S311
        patience = self.clients[client] = Patience(asyncio.get_running_loop().time() + age)
        self.start_timer(client, patience)

    def client_disconnected(self, client: Client) -> None:
        patience = self.clients.pop(client, None)
        if patience is not None:
            patience.stop_timer()

    def requestheaders(self, flow: HTTPFlow) -> None:
        if is_last(flow.request):
            self.last.add(flow)
        patience = self.clients.get(flow.client_conn)
        if patience is not None:  # else it is replayed
            patience.requests += 1
            patience.stop_timer()

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.announce_close(flow, self.clients.get(flow.client_conn))

    def response(self, flow: HTTPFlow) -> None:
        patience = self.clients.get(flow.client_conn)
        self.announce_close(flow, patience)  # the gateway's own response is not sent yet; a backend's is
        self.ended(flow.client_conn, patience)

    def error(self, flow: HTTPFlow) -> None:
        self.ended(flow.client_conn, self.clients.get(flow.client_conn))

    def announce_close(self, flow: HTTPFlow, patience: Patience | None) -> None:
        """Set ``Connection: close`` if the connection is to be closed after this response (not in HTTP/2)."""
        limits = self.in_force.configured.limits
        expiry = 0.0 if patience is None else patience.expiry
        old = limits.connection_timeout and asyncio.get_running_loop().time() > expiry
        closing = self.process.draining or not limits.keep_alive or old or flow in self.last
        if closing and flow.live and flow.response is not None and flow.client_conn.alpn != b"h2":
            flow.response.headers["Connection"] = "close"

    def ended(self, client: Client, patience: Patience | None) -> None:
        """Count down the active requests; after the last one the connection is idle."""
        if patience is not None:
            patience.requests = max(0, patience.requests - 1)
            if not patience.requests and client.connected:
                self.start_timer(client, patience)

    def start_timer(self, client: Client, patience: Patience) -> None:
        """Close the connection after the idle timeout, unless a request stops the timer."""
        patience.stop_timer()
        timeout = self.in_force.configured.limits.idle_timeout
        patience.timer = asyncio.get_running_loop().call_later(timeout, close_client, client)


def is_last(request: Request) -> bool:
    """Whether the client wants its connection closed after the response (RFC 9112, section 9.6)."""
    options = {option.strip().lower() for option in request.headers.get("connection", "").split(",")}
    return "close" in options or (request.http_version == "HTTP/1.0" and "keep-alive" not in options)
