"""Taps of the fast lane: what a capture keeps of an exchange, written as a flow at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from vmgw_core.enforcement import Cycle
from vmgw_core.http import Headers as Fields
from vmgw_core.replay import redact_target

from .flow_state import flow_netstring
from .redaction import Tee, redact_message


class FastTap:
    """Keeps bodies up to ``limit`` bytes, and calls ``finish`` at the end, with whether the response is complete."""

    def __init__(self, limit: int, finish: Callable[[FastTap, Cycle, bool], None]) -> None:
        self.limit = limit
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
            self.finish(self, cycle, complete)

    def flow(
        self, cycle: Cycle, metadata: Mapping[str, object], token_headers: Collection[bytes], *, complete: bool
    ) -> bytes:
        """Write the flow without secrets: the request as a backend got it, or the client's own if none did."""
        head, upstream, now = cycle.head, cycle.upstream, time.time()
        address = None if upstream is None else upstream.backend.address
        host, port = address or ("", 0)
        target = redact_target(head.target if upstream is None else upstream.target)
        fields = head.headers if upstream is None else upstream.headers
        fields, content = redact_message(fields, self.request_body(cycle, complete=complete), token_headers)
        request = {
            "host": host,
            "port": port,
            "method": (head.method if upstream is None else upstream.method).encode(),
            "scheme": b"http" if upstream is None else upstream.backend.scheme.encode(),
            "authority": next(iter(head.values(b"host")), b"") if upstream is None else b"",
            "path": target.encode("utf-8", "surrogateescape"),
            **self.message(fields, content, cycle.at, now),
        }
        response = None
        if self.head is not None:
            status, fields = self.head
            fields, content = redact_message(fields, self.kept(self.response, complete=complete), token_headers)
            response = {"status_code": status, "reason": b"", **self.message(fields, content, now, now)}
        return flow_netstring(
            client=(head.client, 0),
            server=address,
            at=cycle.at,
            request=request,
            response=response,
            metadata=metadata,
        )

    def message(self, fields: Fields, content: bytes | None, start: float, end: float) -> dict[str, object]:
        """Return what requests and responses have in common."""
        return {
            "http_version": b"HTTP/1.1",
            "headers": fields,
            "content": content if content is None or len(content) <= self.limit else None,
            "trailers": None,
            "timestamp_start": start,
            "timestamp_end": end,
        }

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
