"""The fast lane's side of a client: reads requests from bytes, one after the other, and keeps the timeouts.

Rules of this file:
- a head goes on only after the core has checked it byte by byte; llhttp then takes it apart;
- requests that come early wait, up to a bound, and then in the kernel: responses keep the order of requests;
- a connection that is closed while its client still sends is read on for a moment, so that the client gets to see
  the response (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol, cast

from vmgw_addons.support import certificate_of
from vmgw_core.credentials import Certificate
from vmgw_core.enforcement import Cycle, TracedCycle
from vmgw_core.errors import BadRequest, MalformedHead, Refusal, RequestTimeout
from vmgw_core.http import BodyReader, ChunkedReader, LengthReader, RequestHead, find_head, mend, skip_empty_lines

from .connection import HeaderLines
from .exchange import Exchange
from .request_head import HeadReader
from .services import Services

LINGER_BYTES: Final = 8 << 20
LINGER_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 1.0
"""How long a drain waits for the first request of a connection that was just accepted."""


class Waiting(Enum):
    """What a connection waits for. It decides what happens when that takes too long."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    RESPONSE = "response"
    SENDING = "sending"
    LINGER = "linger"
    CLOSING = "closing"


class Clients(Protocol):
    """Keeps the connections of all clients."""

    def opened(self, client: FastClient) -> None:
        """A client has connected."""

    def closed(self, client: FastClient) -> None:
        """A client has left."""

    def handed_over(self, client: FastClient, protocol: asyncio.Protocol) -> None:
        """A client speaks HTTP/2, so ``protocol`` of the flow lane takes its place."""


class FastClient(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_advancing", "_buffer", "_clients", "_full", "_heads", "_held", "_held_since", "_paused", "_seen", "_services",
        "_stuck", "_stuck_since", "address", "body", "certificate", "deadline", "discarded", "exchange", "flow",
        "fresh_until", "half_closed", "lines", "old", "peer", "retire_at", "transport", "waiting", "write_paused",
    )  # fmt: skip

    def __init__(
        self,
        services: Services,
        clients: Clients,
        address: str | None,
        flow: Callable[[str | None], asyncio.Protocol],
    ) -> None:
        self._services = services
        self._clients = clients
        self.address = address
        self.flow = flow
        self.lines = HeaderLines()
        self.transport: asyncio.Transport | None = None
        self.peer = "unknown"
        self.certificate: Certificate | None = None
        self.exchange: Exchange | None = None
        self.body: BodyReader | None = None
        self.waiting = Waiting.IDLE
        self.deadline = 0.0
        self.retire_at = 0.0
        self.fresh_until = 0.0
        """Until then the first request is expected; a drain waits for it."""
        self.old = self.half_closed = self.write_paused = False
        self.discarded = 0
        self._heads = HeadReader(services.fields)
        self._buffer = b""
        self._seen = 0
        self._advancing = self._held = self._full = self._paused = False
        self._stuck = (0, 0)
        self._stuck_since = self._held_since = 0.0

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            protocol = self.flow(self.address)
            self._clients.handed_over(self, protocol)
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            return
        self.certificate = certificate_of(tls)
        peer = transport.get_extra_info("peername")
        self.peer = self.address or (peer[0] if peer else "unknown")
        self.fresh_until = self._services.now() + FRESH_SECONDS
        self._wait(Waiting.IDLE, self._services.limits.idle_timeout)
        self._clients.opened(self)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self.advance()

    def eof_received(self) -> bool:
        """The client sends no more. It still gets the responses to the requests that were complete."""
        self.half_closed = True
        if self.exchange is None:
            waiting = self.write_paused and bool(self._buffer)
        else:
            waiting = self.body is None
        return waiting and self.transport is not None and self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.closed(self)
        self.waiting = Waiting.CLOSING
        if self.exchange is not None:
            self.exchange.abandon()
            self.exchange = None

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.pause(True)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.exchange is not None and self.exchange.connection is not None:
            self.exchange.connection.pause(False)
        self._full = False
        self._pause()
        self.advance()

    # --- requests --------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Work on what was received, as far as it goes."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._buffer and self._step():
                pass
        finally:
            self._advancing = False
        if self.half_closed and self.exchange is None and not (self.write_paused and self._buffer):
            self.close()  # what is left is no request, and will not become one

    def _step(self) -> bool:
        if self.waiting is Waiting.LINGER:
            return self._discard()
        if self.waiting is Waiting.CLOSING:
            self._buffer = b""
            return False
        if self.exchange is None:
            if not self.write_paused:
                return self._read_head()
        elif self.body is not None and not self.exchange.queued:
            return self._read_body(self.exchange, self.body)
        if len(self._buffer) > self._services.limits.pipelined:
            self._full = True
            self._pause()
        return False

    def _read_head(self) -> bool:
        limits = self._services.limits
        received = self._buffer
        if received.startswith(b"\r\n"):
            self._buffer, self._seen = received[skip_empty_lines(received) :], 0
            return True
        try:
            end = find_head(received, limits.head.size, self._seen)
            if not end:
                self._seen = len(received)
                if self.waiting is not Waiting.HEAD:
                    self._wait(Waiting.HEAD, limits.head_timeout)
                return False
            head = self._heads.read(received[:end], limits.head, self.peer)
            head.certificate = self.certificate
            self._buffer, self._seen = received[end:], 0
            self._begin(head)
        except MalformedHead as refusal:
            self._buffer, self._seen = mend(received), 0
            if self._buffer == received:
                self._respond_and_close(refusal)
        except Refusal as refusal:
            self._respond_and_close(refusal)
        return True

    def _begin(self, head: RequestHead) -> None:
        self.fresh_until = 0.0
        self.old = self._heads.fields.old
        at, started, traces = time.time(), time.perf_counter(), self._services.in_force.configured.traces
        if traces is None:
            cycle = Cycle(head, at=at, started=started)
        else:
            cycle = TracedCycle(head, at=at, started=started, tracer=traces.tracer)
        exchange = self.exchange = Exchange(self._services, self, cycle, keep_alive=self._heads.fields.keep_alive)
        has_body = head.has_body
        if has_body:
            length = head.content_length
            limits = self._services.limits
            self.body = ChunkedReader(limits.chunk_line) if length is None else LengthReader(length)
            self._wait(Waiting.BODY, limits.body_timeout)
        exchange.start()
        if not has_body and exchange.connection is None and not exchange.over:
            self.await_response()  # it waits for something else first

    def _read_body(self, exchange: Exchange, body: BodyReader) -> bool:
        try:
            content, self._buffer, done = body.feed(self._buffer)
        except BadRequest as refusal:
            self._buffer = b""
            exchange.refuse(refusal)
            return False
        if done:
            self.body = None
        else:
            self._wait(Waiting.BODY, self._services.limits.body_timeout)
        if content or done:
            exchange.receive(content, done)
        return True

    def body_is_read(self) -> bool:
        """Whether the request has been received to its end."""
        if self.body is not None:
            try:
                _, self._buffer, done = self.body.feed(self._buffer)
            except BadRequest:
                return False
            if done:
                self.body = None
        return self.body is None

    # --- responses -------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a piece of a response."""
        if self.transport is not None:
            self.transport.write(data)

    def exchanged(self, exchange: Exchange) -> None:
        """The response is written: go on to the next request, or close."""
        self.exchange = None
        self._held = self._full = False
        self._stuck = (0, 0)
        if self._paused:
            self._pause()
        if not exchange.keep_alive or (self.half_closed and not self._buffer):
            if self.body is None:
                self.close()
            else:
                self._linger()
            return
        self._wait(Waiting.IDLE, self._services.limits.idle_timeout)
        if self._buffer:
            self.advance()

    def resume(self) -> None:
        """Read on after the request has waited in the queue."""
        self._full = False
        self._pause()
        self.advance()

    def await_response(self) -> None:
        """The whole request is there, and its response is due."""
        self._wait(Waiting.RESPONSE, self._services.limits.response_timeout)

    def sending(self) -> None:
        """The response has begun: from now on the client may be too slow."""
        self._stuck = (0, 0)
        self._stuck_since = self._services.now()
        self._wait(Waiting.SENDING, self._services.limits.body_timeout)

    def hold(self, held: bool) -> None:
        """Stop reading, or go on."""
        if held and not self._held:
            self._held_since = self._services.now()
        self._held = held
        self._pause()

    def retiring(self) -> bool:
        """Whether the connection closes after the present response."""
        limits = self._services.limits
        return not limits.keep_alive or (bool(limits.connection_timeout) and self._services.now() > self.retire_at)

    def _pause(self) -> None:
        paused = self._held or self._full
        if paused != self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # --- timeouts, and the end --------------------------------------------------------------------------------------

    def _wait(self, what: Waiting, seconds: float) -> None:
        self.waiting = what
        self.deadline = self._services.now() + seconds

    def too_late(self) -> None:
        """The deadline has passed."""
        waiting, exchange = self.waiting, self.exchange
        if waiting is Waiting.HEAD:
            self._respond_and_close(RequestTimeout("the head of the request took too long"))
        elif waiting is Waiting.BODY and exchange is not None:
            timeout = self._services.limits.response_timeout
            if self._held and self._services.now() - self._held_since > timeout:
                exchange.too_late()
            elif self._paused or exchange.queued:  # it is not the client that is slow
                self._wait(Waiting.BODY, self._services.limits.body_timeout)
            else:
                exchange.refuse(RequestTimeout("the body of the request took too long"))
        elif waiting is Waiting.RESPONSE and exchange is not None:
            exchange.too_late()
        elif waiting is Waiting.SENDING or self._is_reading():
            self._see_progress()
        elif waiting is Waiting.IDLE:
            self.close()
        else:
            self.abort()

    def _is_reading(self) -> bool:
        """Whether the client has not read all of its complete responses yet."""
        complete = self.waiting in (Waiting.IDLE, Waiting.CLOSING)
        return complete and self.transport is not None and self.transport.get_write_buffer_size() > 0

    def _see_progress(self) -> None:
        """Cut off a client that has read nothing since the last look, or whose backend has sent nothing for long."""
        limits, now = self._services.limits, self._services.now()
        size = 0 if self.transport is None else self.transport.get_write_buffer_size()
        state = (size, 0 if self.exchange is None else self.exchange.cycle.sent)
        if state != self._stuck:
            self._stuck, self._stuck_since = state, now
        elif size or now - self._stuck_since > limits.response_timeout:
            self.abort()
            return
        self._wait(self.waiting, limits.body_timeout)

    def turn_away(self, refusal: Refusal, *, wait: bool) -> None:
        """Respond before anything was asked, and close: after reading what the client sends, or at once."""
        if not wait:
            self.write(self._services.last_response(refusal))
            self.close()
            return
        self._respond_and_close(refusal)
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def is_idle(self) -> bool:
        """Whether nothing has come of a next request."""
        return self.exchange is None and not self._buffer and self.waiting is Waiting.IDLE and not self._is_fresh()

    def is_busy(self) -> bool:
        """Whether a request is under way or about to come, or its response is still being written."""
        writing = bool(self.transport and self.transport.get_write_buffer_size())
        return self.exchange is not None or writing or self._is_fresh()

    def _is_fresh(self) -> bool:
        return self._services.now() < self.fresh_until

    def _respond_and_close(self, refusal: Refusal) -> None:
        """Respond to what is no request, and close: nobody knows where the next one would begin."""
        self.write(self._services.last_response(refusal))
        self._linger()

    def _linger(self) -> None:
        if self.half_closed:
            self.close()
            return
        self._wait(Waiting.LINGER, LINGER_SECONDS)
        if self._buffer:
            self.advance()

    def _discard(self) -> bool:
        data, self._buffer = self._buffer, b""
        self.discarded += len(data)
        done = self.discarded > LINGER_BYTES
        if self.body is not None and not done:
            try:
                _, _, done = self.body.feed(data)
            except BadRequest:
                done = True
        if done:
            self.close()
        return False

    def close(self) -> None:
        """Close once everything written is out, or at the latest after a moment."""
        if self.transport is not None:
            self._wait(Waiting.CLOSING, self._services.limits.body_timeout)
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()
