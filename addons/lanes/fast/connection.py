"""One connection to a backend: one request at a time, its response parsed by llhttp.

Rules of this file:
- a connection is used again only if the response ended where its framing said, nothing followed it, and the whole
  request was sent; in doubt it is closed;
- interim responses (1xx) are skipped; switching protocols is an error, since nobody asked for it;
- no response is held back: what was read goes on in the same call;
- llhttp reads the same head once: see ``ResponseHeadCache``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, Protocol, cast

import httptools

from vmgw_addons.outgoing import SPEAKS_TLS, TLS_ALERT, failure_of
from vmgw_core.enforcement import UpstreamRequest
from vmgw_core.errors import Cause
from vmgw_core.http import URLENCODED, Headers

from .response_head import Framing, ResponseHead, ResponseHeadCache

_URLENCODED: Final = URLENCODED.encode()
MAX_RESPONSE_HEAD: Final = 1 << 20
"""Bytes of a head with all interim responses before it; and of what is between or after two pieces of content."""

PoolKey = tuple[tuple[str, int], ssl.SSLContext | None]
"""Connections with the same key reach the same backend: host and port, and TLS."""


class Owner(Protocol):
    """The pool that a connection belongs to."""

    heads: ResponseHeadCache

    def release(self, connection: BackendConnection) -> None:
        """The connection is idle."""

    def forget(self, connection: BackendConnection) -> None:
        """The connection has ended."""


class Receiver(Protocol):
    """Whoever waits for a response."""

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        """More of the response: its head the first time, content, and whether this is its end."""

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        """The response ended too early, or is none. The connection is closed."""

    def backend_writable(self, writable: bool) -> None:
        """Whether the backend takes more of the request just now."""


class BackendConnection(asyncio.Protocol):
    """One connection to a backend."""

    __slots__ = (
        "_content", "_done", "_head", "_headers", "_interim", "_is_head", "_keep", "_left", "_parser", "_paused",
        "_seen", "_surplus", "idle_since", "key", "owner", "receiver", "transport", "uses",
    )  # fmt: skip

    def __init__(self, owner: Owner, key: PoolKey) -> None:
        self.owner = owner
        self.key = key
        self.transport: asyncio.Transport | None = None
        self.receiver: Receiver | None = None
        self.uses = 0
        self.idle_since = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        self._paused = False
        self._is_head = False
        self._head: ResponseHead | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._content: list[bytes] = []
        self._left = 0
        self._seen = 0
        self._interim = self._done = self._surplus = self._keep = False

    # --- the request -----------------------------------------------------------------------------------------------

    def send(self, receiver: Receiver, data: bytes, *, is_head: bool) -> None:
        """Begin a request: ``data`` is its head, with the body or the beginning of it."""
        assert self.transport is not None
        self._is_head = is_head
        self._head = None
        self._headers.clear()
        self._content.clear()
        self._left = self._seen = 0
        self._interim = self._done = self._surplus = self._keep = False
        self.receiver = receiver
        self.uses += 1
        self.transport.write(data)

    def write(self, data: bytes) -> None:
        """Send more of the body."""
        if self.transport is not None:
            self.transport.write(data)

    def pause(self, paused: bool) -> None:
        """Read no further for now, or go on."""
        if self.transport is not None and not self.transport.is_closing():
            self._paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def abort(self) -> None:
        """Give the connection up: nobody waits for it any more."""
        self.receiver = None
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are of no common class

    def data_received(self, data: bytes) -> None:
        receiver = self.receiver
        if receiver is None:
            self.abort()  # a response to no request
            return
        if self._left:
            self._count_off(receiver, None, data)
            return
        if self._head is None and not self._seen and not self._is_head:
            found = self.owner.heads.find(data)
            if found is not None:
                self._head, self._keep, end = found
                self._left = self._head.length
                self._count_off(receiver, self._head, data[end:])
                return
        self._parse(receiver, data)

    def _count_off(self, receiver: Receiver, head: ResponseHead | None, content: bytes) -> None:
        """Pass on content of known length: nothing in it has to be looked at."""
        self._left -= len(content)
        if self._left < 0:
            self._surplus = True
            content = content[: self._left]
        self._done = self._left <= 0
        receiver.received(head, content, self._done)
        if self._done:
            self._left = 0
            self._finish()

    def _parse(self, receiver: Receiver, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        had_head = self._head is not None
        alone = not had_head and not self._seen and not self._is_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("it switched protocols")
            return
        except httptools.HttpParserError:
            if not self._done:
                tls = alone and data.startswith(TLS_ALERT)
                self._fail(
                    SPEAKS_TLS if tls else "its response is not valid HTTP", Cause.TLS if tls else Cause.RESPONSE
                )
                return
            self._surplus = True  # rubbish after a complete response
        if self._head is None:
            self._seen += len(data)
            if self._seen > MAX_RESPONSE_HEAD:
                self._fail("the head of its response is too large")
            return
        content = b"".join(self._content)
        self._content.clear()
        self._seen = 0 if content or not had_head else self._seen + len(data)
        if self._seen > MAX_RESPONSE_HEAD and not self._done:
            self._fail("the trailers of its response, or the extensions of a chunk, are too large")
            return
        head = None if had_head else self._head
        if alone:
            self.owner.heads.note(data, len(content), self._head, self._keep)
        if head is not None and head.framing is Framing.LENGTH and not self._done:
            self._left = head.length - len(content)
            self._parser = None  # what is left is counted, so that no parser has to copy it
        receiver.received(head, content, self._done)
        if self._done:
            self._finish()

    def _finish(self) -> None:
        """End a complete response: the connection serves the next request, or is closed."""
        if self.receiver is None:
            return  # it was given up meanwhile
        self.receiver = None
        if self._head is not None and self._head.framing is Framing.NONE:
            self._parser = None  # it may still wait for the content that the headers tell of
        if self._paused:
            self.pause(False)  # the last client was slow to read
        if self._keep and not self._surplus:
            self.owner.release(self)
        elif self.transport is not None:
            self.transport.close()

    def _fail(self, reason: str, cause: Cause = Cause.RESPONSE) -> None:
        receiver = self.receiver
        self.abort()
        if receiver is not None:
            receiver.backend_lost(reason, cause)

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.forget(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        if exc is None and self._head is not None and self._head.framing is Framing.CLOSE:
            receiver.received(None, b"", True)
        elif self._head is not None:
            receiver.backend_lost("it closed the connection before the end of its response")
        elif isinstance(exc, ssl.SSLError):  # such as a client certificate that it refuses, in TLS 1.3
            receiver.backend_lost(*failure_of(exc))
        else:
            receiver.backend_lost("")

    def pause_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.backend_writable(False)

    def resume_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.backend_writable(True)

    # --- llhttp ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._done:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._done:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise ValueError("nobody asked to switch protocols")
            self._interim = True
            self._headers.clear()
            return
        head = self._head = ResponseHead(status, self._headers, is_head=self._is_head)
        self._done = head.framing is Framing.NONE
        self._keep = head.framing is not Framing.CLOSE and self._parser.should_keep_alive()

    def on_body(self, content: bytes) -> None:
        if self._done:
            self._surplus = True
        elif not self._interim:
            self._content.append(content)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self._head is not None:
            self._done = True


def head_bytes(upstream: UpstreamRequest, written: HeaderLines) -> bytes:
    """Return the head of a request for its backend, with the headers that ``written`` holds if they are the same."""
    headers, authorization = upstream.forwarded, upstream.backend.authorization
    if written.headers is not headers or written.authorization is not authorization:
        written.write(headers, authorization)
    head = f"{upstream.method} {upstream.target} HTTP/1.1\r\n".encode("ascii") + written.lines
    if upstream.body is None:
        return head + b"\r\n"
    return head + b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (_URLENCODED, len(upstream.body))


class HeaderLines:
    """Headers as bytes. A client's requests mostly have the same headers, so they are written once."""

    __slots__ = ("authorization", "headers", "lines")

    def __init__(self) -> None:
        self.headers: Headers = ()
        self.authorization: bytes | None = None
        self.lines = b""

    def write(self, headers: Headers, authorization: bytes | None) -> None:
        """Hold ``headers``, and the backend's credentials."""
        lines = [b"%b: %b\r\n" % header for header in headers]
        if authorization is not None:
            lines.append(b"Authorization: %b\r\n" % authorization)
        self.headers, self.authorization, self.lines = headers, authorization, b"".join(lines)
