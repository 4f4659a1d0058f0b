"""The fast lane: HTTP/1.1 without flows and hooks, over asyncio's transports and llhttp.

It takes the same decision as the flow lane, by the same core; only the transport is its own. A ``Layer`` of mitmproxy
could parse as well, but there each client has connections to backends of its own, and a new client costs several times
as much.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from itertools import chain
from typing import Final

from vmgw_core.errors import Cause, Overloaded

from .client import FastClient
from .services import Services

logger = logging.getLogger(__name__)

MOST_TURNED_AWAY: Final = 100
"""How many clients beyond ``-http.maxConnections`` are read on for a moment, so that they see their response."""

_SWEEP_SECONDS: Final = 0.1


class FastLane:
    """Keeps the connections of clients that speak HTTP/1.1, and their timeouts."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.clients: set[FastClient] = set()
        self.turned_away: set[FastClient] = set()
        """They have their response, and are no longer counted."""
        self.arriving: set[object] = set()
        """Accepted connections that count for ``-http.maxConnections`` while their PROXY header or their
        handshake is awaited. Sockets at first, then protocols."""
        self.flow_connections: Callable[[], int] = lambda: 0
        """Returns how many connections the flow lane has. The listener sets it."""
        self.room = 0
        """How many connections the file descriptors allow, of clients and to backends; 0 for no limit."""
        self.outage = services.in_force.outages.of("connections", logger, "more are answered 503, or closed")
        self.sweeper: asyncio.TimerHandle | None = None

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        self.services.now = loop.time
        self.sweeper = loop.call_later(_SWEEP_SECONDS, self.sweep)

    def done(self) -> None:
        if self.sweeper is not None:
            self.sweeper.cancel()
        self.close()

    def client(self, address: str | None, flow: Callable[[str | None], asyncio.Protocol]) -> FastClient:
        """Return the protocol of a new connection.

        Args:
            address: the client's address, if a load balancer has told it.
            flow: makes the protocol for a connection that turns out to speak HTTP/2.
        """
        return FastClient(self.services, self, address, flow)

    def opened(self, client: FastClient) -> None:
        """A client has connected. Beyond ``-http.maxConnections`` it is turned away."""
        limits = self.services.limits
        counted = client in self.arriving
        self.arriving.discard(client)
        self.clients.add(client)
        # Give or take a tenth, so that connections made together do not all come back together.
        client.retire_at = self.services.now() + limits.connection_timeout * random.uniform(0.9, 1.1)  # noqa: S311
        if not counted and self.is_full(self.connections):
            self.clients.discard(client)
            wait = len(self.turned_away) < MOST_TURNED_AWAY
            self.turned_away.add(client)
            client.turn_away(Overloaded("the gateway has as many connections as it takes"), wait=wait)

    def is_full(self, connections: int) -> bool:
        """Whether so many connections of clients are too many. Log that once a minute, and its end."""
        most = self.services.limits.connections
        if most and connections > most:
            self.outage.failed(f"-http.maxConnections: {most} clients are connected", Cause.RESOURCES)
            return True
        if self.room and connections + len(self.services.pool.open) + self.flow_connections() > self.room:
            self.outage.failed("too many connections for the limit of open file descriptors", Cause.RESOURCES)
            return True
        if self.outage.reason is not None:
            self.outage.succeeded("new connections are served again")
        return False

    @property
    def connections(self) -> int:
        """How many clients are connected, in both lanes."""
        return len(self.clients) + len(self.arriving) + self.flow_connections()

    def handed_over(self, client: FastClient, protocol: asyncio.Protocol) -> None:
        """A client speaks HTTP/2, so ``protocol`` of the flow lane takes its place."""
        if client in self.arriving:
            self.arriving.discard(client)
            self.arriving.add(protocol)

    def closed(self, client: FastClient) -> None:
        """A client has left."""
        self.clients.discard(client)
        self.turned_away.discard(client)

    # --- housekeeping ----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Look for connections that have waited too long."""
        # First of all: whatever goes wrong, connections are looked at again.
        self.sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self.sweep)
        now = self.services.now()
        for client in [client for client in chain(self.clients, self.turned_away) if now > client.deadline]:
            try:
                client.too_late()
            except Exception:
                logger.exception("a connection that waited too long crashed")
                client.abort()
        self.services.pool.sweep(now)

    @property
    def in_flight(self) -> int:
        """Requests that are under way, or whose responses are still being written."""
        return sum(client.is_busy() for client in self.clients)

    def close_idle(self) -> None:
        """Close the connections that carry no request; while draining, the others close after their response."""
        for client in list(self.clients):
            if client.is_idle():
                client.close()

    def close(self) -> None:
        """Cut everything off."""
        for client in (*self.clients, *self.turned_away):
            client.abort()
        self.services.pool.close()
