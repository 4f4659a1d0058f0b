"""The fast lane: HTTP/1.1 without flows and hooks, over asyncio's transports and llhttp.

It takes the same decision as the flow lane, by the same addons and the same core; only the carrying is its own. A
``Layer`` of mitmproxy could do the parsing as well, but there each client has connections to backends of its own,
and a new client costs several times as much.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from itertools import chain
from typing import Final

from vmgw_addons.observability import StatusPages, Telemetry
from vmgw_addons.state import InForce, Process
from vmgw_addons.steps import AccessControl, RateLimit
from vmgw_addons.support import Background
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import Overloaded, Refusal
from vmgw_core.http import Headers, Response, refusal_response

from .client import FastClient
from .connection import AnswerHead
from .pool import Pool

logger = logging.getLogger(__name__)

MOST_TURNED_AWAY: Final = 100
"""How many clients beyond ``-http.maxConnections`` are read on for a moment, so that they see their answer."""

_SWEEP_SECONDS = 0.1
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class FastLane:
    """Carries HTTP/1.1 for the vmgateway command, without flows."""

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        pages: StatusPages,
        access_control: AccessControl,
        rate_limit: RateLimit,
        telemetry: Telemetry,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.pages = pages
        self.access_control = access_control
        self.rate_limit = rate_limit
        self.telemetry = telemetry
        self.pool = Pool(in_force)
        self.clients: set[FastClient] = set()
        self.turned_away: set[FastClient] = set()
        """They have their answer, and are no longer counted."""
        self.arriving: set[object] = set()
        """Connections with a place among ``-http.maxConnections`` that have been accepted and have not begun yet: their
        header of the PROXY protocol or their handshake is awaited. Sockets at first, then protocols."""
        self.flow_connections: Callable[[], int] = lambda: 0
        """How many connections the flow lane has, which is set by the listener."""
        self.sweeper: asyncio.TimerHandle | None = None
        self.now = time.monotonic

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.sweeper = loop.call_later(_SWEEP_SECONDS, self.sweep)

    def done(self) -> None:
        if self.sweeper is not None:
            self.sweeper.cancel()
        self.close()

    def client(self, address: str | None, flow: Callable[[str | None], asyncio.Protocol]) -> FastClient:
        """The protocol of a new connection.

        Args:
            address: the client's, where a balancer has told it.
            flow: makes the protocol for a connection that turns out to speak HTTP/2.
        """
        return FastClient(self, address, flow)

    def opened(self, client: FastClient) -> None:
        """A client has connected. Beyond ``-http.maxConnections`` it is told so, and closed."""
        limits = self.in_force.configured.limits
        has_place = client in self.arriving
        self.arriving.discard(client)
        self.clients.add(client)
        # Give or take a tenth, so that connections made together do not all come back together.
        client.retire_at = self.now() + limits.connection_timeout * random.uniform(0.9, 1.1)  # noqa: S311
        if not has_place and limits.connections and self.connections > limits.connections:
            self.clients.discard(client)
            wait = len(self.turned_away) < MOST_TURNED_AWAY
            self.turned_away.add(client)
            client.turn_away(Overloaded("the gateway has as many connections as it takes"), wait=wait)

    @property
    def connections(self) -> int:
        """How many clients are connected, in both lanes."""
        return len(self.clients) + len(self.arriving) + self.flow_connections()

    def handed_over(self, client: FastClient, protocol: asyncio.Protocol) -> None:
        """A client speaks HTTP/2: ``protocol`` of the flow lane takes its place."""
        if client in self.arriving:
            self.arriving.discard(client)
            self.arriving.add(protocol)

    def finished(self, cycle: Cycle, status: int | None) -> None:
        """A request has ended: count and log it. Whatever fails in that, the connection goes on to its next request."""
        try:
            if not cycle.own_page:
                self.telemetry.count(cycle, status)
            access_log = self.in_force.configured.access_log
            if access_log is not None:
                access_log.finished(cycle, status, cycle.sent)
        except Exception as error:
            logger.error(f"a request could not be counted or logged: {type(error).__name__}")

    def head(self, status: int, headers: Headers) -> bytes:
        """The head of an answer without its end: the reason phrase that everybody knows, the headers that all get."""
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        edited = self.in_force.configured.header_edit.apply(headers)
        return line + b"".join([b"%b: %b\r\n" % header for header in edited])

    def passed_on(self, head: AnswerHead) -> bytes:
        """The head of a backend's answer without its end, written once for as long as :class:`KnownHeads` keeps it."""
        edit = self.in_force.configured.header_edit
        if head.edit is not edit:
            head.written, head.edit = self.head(head.status, head.headers), edit
        return head.written

    def own(self, response: Response, connection: bytes, *, content: bool = True) -> bytes:
        """An answer of the gateway's own, as it goes over the wire.

        Args:
            connection: header lines about the connection, each with its end.
            content: False for the answer to HEAD, which has a length and no content.
        """
        head = self.head(response.status, response.headers)
        return head + connection + b"\r\n" + (response.body if content else b"")

    def closing(self, refusal: Refusal) -> bytes:
        """The whole answer to what is no request, behind which the connection is closed."""
        self.telemetry.malformed(refusal)
        return self.own(refusal_response(refusal), b"Connection: close\r\n")

    # --- housekeeping ----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Look for connections that have waited too long."""
        # First of all: whatever goes wrong, connections are looked at again.
        self.sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self.sweep)
        now = self.now()
        for client in [client for client in chain(self.clients, self.turned_away) if now > client.deadline]:
            try:
                client.too_late()
            except Exception:
                logger.exception("a connection that waited too long crashed")
                client.abort()
        self.pool.sweep(now)

    @property
    def in_flight(self) -> int:
        """Requests that are being answered, or whose answers are still on their way."""
        return sum(client.is_busy() for client in self.clients)

    def close_idle(self) -> None:
        """Close the connections that carry no request; the others close behind their answer while draining."""
        for client in list(self.clients):
            if client.is_idle():
                client.close()

    def close(self) -> None:
        """Cut everything off."""
        for client in (*self.clients, *self.turned_away):
            client.abort()
        self.pool.close()
