"""Taps of the fast lane: what a capture keeps of an exchange, made into a flow at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from mitmproxy import connection
from mitmproxy.http import Headers, HTTPFlow, Request, Response

from vmgw_core.enforcement import Cycle
from vmgw_core.http import Headers as Fields

from .redaction import Tee


class FastTap:
    """Keeps bodies up to ``limit`` bytes, and gives the flow to ``finish`` at the end."""

    def __init__(self, limit: int, finish: Callable[[HTTPFlow, Cycle, FastTap], None]) -> None:
        self.finish = finish
        self.request = Tee(True, limit)
        self.response = Tee(True, limit)
        self.head: tuple[int, Fields] | None = None

    def keep_form(self, cycle: Cycle, form: bytes) -> None:
        """Keep the client's form, if it is not too large."""
        if self.request.whole:
            cycle.kept_form = form

    def sent(self, content: bytes) -> None:
        """Keep more of the request's body."""
        self.request(content)

    def responded(self, status: int, headers: Fields) -> None:
        """Keep the head of the response."""
        self.head = (status, headers)

    def received(self, content: bytes) -> None:
        """Keep more of the response's body."""
        self.response(content)

    def end(self, cycle: Cycle, *, complete: bool) -> None:
        """Capture the exchange."""
        if not cycle.own_page:
            self.finish(self.flow(cycle, complete=complete), cycle, self)

    def flow(self, cycle: Cycle, *, complete: bool) -> HTTPFlow:
        """Make the flow: the request as a backend got it, or the client's own if none did."""
        head, upstream, now = cycle.head, cycle.upstream, time.time()
        client = connection.Client(peername=(head.client, 0), sockname=("", 0), timestamp_start=cycle.at)
        flow = HTTPFlow(client, connection.Server(address=None if upstream is None else upstream.backend.address))
        asked = next(iter(head.values(b"host")), b"")
        host, port = ("", 0) if upstream is None else upstream.backend.address
        flow.request = Request(
            host=host,
            port=port,
            method=(head.method if upstream is None else upstream.method).encode(),
            scheme=b"http" if upstream is None else upstream.backend.scheme.encode(),
            authority=asked if upstream is None else b"",
            path=(head.target if upstream is None else upstream.target).encode("utf-8", "surrogateescape"),
            http_version=b"HTTP/1.1",
            headers=Headers(head.headers if upstream is None else upstream.headers),
            content=self.request_body(cycle, complete=complete),
            trailers=None,
            timestamp_start=cycle.at,
            timestamp_end=now,
        )
        if self.head is not None:
            status, headers = self.head
            flow.response = Response(
                b"HTTP/1.1", status, b"", Headers(headers), self.kept(self.response, complete=complete), None, now, now
            )
        return flow

    def request_body(self, cycle: Cycle, *, complete: bool) -> bytes | None:
        """Return the rewritten form, or the body that went through."""
        if cycle.upstream is None:
            return None  # it may not have been read to its end
        if cycle.upstream.body is not None:
            return cycle.upstream.body
        return self.kept(self.request, complete=complete)

    def kept(self, tee: Tee, *, complete: bool) -> bytes | None:
        """Return a body that was kept whole."""
        return bytes(tee.data) if tee.whole and complete else None
