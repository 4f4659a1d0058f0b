"""HTTP/1.1 on both sides: mitmproxy's parsers, with limits, after the core's strict check of a head.

mitmproxy does not limit heads, chunk lines, trailers and pipelined requests, accepts folded headers and bare line
feeds, and crashes on trailers. All of this is fixed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Final

import h11
from mitmproxy.http import Headers, Request, Response
from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import (
    ChunkedReader,
    Http1Client,
    Http1Connection,
    Http1Server,
    HttpEvent,
    ReceiveBuffer,
    ReceiveHttp,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseProtocolError,
    commands,
    events,
    http1,
    layer,
    make_body_reader,
)
from vmgw_addons.state import WireLimits
from vmgw_addons.steps import FlowHeaders
from vmgw_core.errors import BackendUnreachable, BadRequest, MalformedHead, Refusal
from vmgw_core.http import ChunkedReader as CoreReader
from vmgw_core.http import RequestLine, check_head, find_head, mend, refusal_response, skip_empty_lines

_MAX_CHUNK_LINE: Final = 64 * 1024  # bytes of a chunk's head, and of the trailers, in a backend's response
_READ_SIZE: Final = 64 * 1024  # bytes of one read in mitmproxy
_MAX_RESPONSE_HEAD: Final = 1 << 20  # bytes


class BoundedChunks:
    """The core's reader of chunked bodies, with the interface of h11's: one event a call."""

    def __init__(self, max_line: int) -> None:
        self.reader = CoreReader(max_line)
        self.done = False

    def __call__(self, buffer: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        if self.done:
            return h11.EndOfMessage()
        try:
            content, rest, self.done = self.reader.feed(bytes(buffer.maybe_extract_at_most(len(buffer)) or b""))
        except BadRequest as error:
            raise h11.RemoteProtocolError(str(error)) from None
        buffer += rest
        if content:
            return h11.Data(content)
        return h11.EndOfMessage() if self.done else None

    def read_eof(self) -> h11.EndOfMessage:
        raise h11.RemoteProtocolError("the body ended before its last chunk")


class _BoundedBodies(Http1Connection):
    """Reads chunked bodies with limits, on both sides."""

    max_chunk_line = _MAX_CHUNK_LINE

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(self.body_reader, ChunkedReader):
            self.body_reader = BoundedChunks(self.max_chunk_line)  # type: ignore[assignment]
        yield from super().read_body(event)


class GatewayHttp1Server(_BoundedBodies, Http1Server):
    """The client's side: the core checks every byte of a head before mitmproxy gets it."""

    def __init__(self, context: Context, limits: WireLimits) -> None:
        super().__init__(context)
        self.limits = limits
        self.max_chunk_line = limits.chunk_line
        self.seen = 0

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            received = bytes(self.buf)
            if received.startswith(b"\r\n"):
                empty = skip_empty_lines(received)
                self.buf.maybe_extract_at_most(empty)
                received, self.seen = received[empty:], 0
            try:
                end = find_head(received, self.limits.head.size, self.seen)
                self.seen = 0 if end else len(received)
                if not end:
                    return
                line = check_head(received[:end], self.limits.head)
            except Refusal as refusal:
                mended = mend(received) if isinstance(refusal, MalformedHead) else received
                if mended == received:
                    yield from self.refuse(refusal)
                    return
                self.buf.maybe_extract_at_most(len(received))
                self.buf += mended
                self.seen = 0
                yield from self.read_headers(event)
                return
            self.buf.maybe_extract_at_most(end)
            self.request = request_of(line, received[line.size : end])
            size = http1.expected_http_body_size(self.request)
            yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, size == 0))
            if size == 0:
                yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
                yield from self.mark_done(request=True)
                return
            self.body_reader = make_body_reader(size)
            self.state = self.read_body
            yield from self.state(event)
        else:
            yield from super().read_headers(event)

    def refuse(self, refusal: Refusal) -> layer.CommandGenerator[None]:
        """Respond to an invalid request, and close: where the next request would begin is not known."""
        yield commands.SendData(self.conn, _closing(refusal))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and len(self.buf) > self.limits.pipelined + _READ_SIZE:
            event = events.ConnectionClosed(self.conn)
        yield from super().wait(event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send like mitmproxy does, but its own errors in JSON, like all others."""
        status = _status(event) if isinstance(event, ResponseProtocolError) and self.response is None else None
        if status is None:
            yield from super().send(event)
        elif status < 500:
            yield from self.refuse(BadRequest("the request is not valid HTTP"))
        else:
            yield from self.refuse(BackendUnreachable("the backend's response is not valid HTTP"))


class GatewayHttp1Client(_BoundedBodies, Http1Client):
    """The backend's side: skips interim responses, and limits the head.

    Args:
        finish: makes the head that the backend gets. It raises if there is no decision.
    """

    def __init__(self, context: Context, finish: Callable[[RequestHeaders], RequestHeaders]) -> None:
        super().__init__(context)
        self.finish = finish

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        yield from super().send(self.finish(event) if isinstance(event, RequestHeaders) else event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and self.request is not None:
            self.skip_interim()
            if len(self.buf) > _MAX_RESPONSE_HEAD and b"\r\n\r\n" not in bytes(self.buf):
                self.buf = ReceiveBuffer()
                event = events.ConnectionClosed(self.conn)
        yield from super().read_headers(event)

    def skip_interim(self) -> None:
        """Drop 1xx responses but 101 (RFC 9110, section 15.2): mitmproxy takes one for the final response."""
        received = bytes(self.buf)
        while received.startswith(b"HTTP/1.1 1") and not received.startswith(b"HTTP/1.1 101"):
            end = received.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            self.buf.maybe_extract_at_most(end)
            received = received[end:]


def request_of(line: RequestLine, fields: bytes) -> Request:
    """Make the request of a head that was checked; ``fields`` are the lines after the first, up to the empty one."""
    pairs = [field.partition(b":") for field in fields.split(b"\r\n")[:-2]]
    headers = FlowHeaders(tuple((name, value.strip()) for name, _, value in pairs))
    method, path = line.method.encode(), line.target.encode()
    headers.checked = method, path, headers.fields
    version = b"HTTP/1.0" if line.old else b"HTTP/1.1"
    return Request("", 0, method, b"", b"", path, version, headers, None, None, time.time(), None)


def _status(event: ResponseProtocolError) -> int | None:
    """Return the status that mitmproxy would send; None if it sends none (a killed flow, a client that left).

    The code is an enum in mitmproxy 12, and the status in 11, where 444 and 499 mean no response.
    """
    code: object = event.code
    status = code.http_status_code() if isinstance(code, Enum) else code  # type: ignore[attr-defined]
    return status if isinstance(status, int) and status not in (444, 499) else None


def _closing(refusal: Refusal) -> bytes:
    response = refusal_response(refusal)
    headers = Headers([*response.headers, (b"Connection", b"close")])
    return bytes(http1.assemble_response(Response.make(response.status, response.body, headers)))
