"""The fast lane's side of the backend: one connection, one request at a time, the answer parsed by llhttp.

Rules of this file:
- a connection is used again only when the answer ended where its framing said, nothing followed it, and the whole
  request was sent; in doubt it is closed;
- interim answers (1xx) are skipped, switching protocols is an error: nobody asked for it;
- no answer is held: what was read goes on in the same call;
- a head that llhttp has read once, byte for byte, is not given to it again: see ``KnownHeads``.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, cast

import httptools

from vmgw_core.enforcement import UpstreamRequest
from vmgw_core.http import HeaderEdit, Headers

if TYPE_CHECKING:
    from .pool import Pool

MAX_RESPONSE_HEAD: Final = 1 << 20
"""Bytes of a head with all interim answers before it; and of what stands between two pieces of content, or behind."""
MAX_KNOWN: Final = 256
"""Heads that are kept, each of at most ``_MAX_KNOWN_HEAD`` bytes."""
_MAX_KNOWN_HEAD: Final = 2048
_NOT_PASSED_ON: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)  # RFC 9110, section 7.6.1
_KEPT: Final = frozenset((b"content-length", b"content-type", b"content-encoding"))


class Framing(Enum):
    """Where an answer ends (RFC 9112, section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class AnswerHead:
    """The head of a backend's final answer, without the headers that end here.

    llhttp has seen to it that no header holds a control character.
    """

    __slots__ = ("edit", "framing", "headers", "length", "status", "written")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], *, is_head: bool) -> None:
        self.status = status
        self.headers: Headers
        self.edit: HeaderEdit | None = None
        self.written = b""
        """How it goes to clients, as ``edit`` has it: see :meth:`FastLane.passed_on`."""
        self.length = 0
        self.framing = Framing.CLOSE
        kept = []
        named: set[bytes] = set()
        for header in headers:
            name = header[0].lower()
            if name not in _NOT_PASSED_ON:
                kept.append(header)
                if name == b"content-length" and self.framing is Framing.CLOSE:
                    self.framing, self.length = Framing.LENGTH, int(header[1])
            elif name == b"transfer-encoding":
                # RFC 9112, section 6.3: whatever does not end in chunked lasts until the connection ends.
                last = header[1].rpartition(b",")[2].strip().lower()
                self.framing = Framing.CHUNKED if last == b"chunked" else Framing.CLOSE
            elif name == b"connection":
                named.update(token.strip().lower() for token in header[1].split(b","))
        if named - _NOT_PASSED_ON - _KEPT:
            kept = [header for header in kept if header[0].lower() not in named - _KEPT]
        self.headers = tuple(kept)
        if is_head or status in (204, 304):
            self.framing, self.length = Framing.NONE, 0
        if status == 204:  # RFC 9110, section 8.6: there is no content to tell the length of
            self.headers = tuple(header for header in kept if header[0].lower() != b"content-length")


class KnownHeads:
    """Heads of answers by their bytes, so that a parser reads the same one once.

    Only of answers to other requests than HEAD, with content of known length: behind them, no parser is needed.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[AnswerHead, bool]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, received: bytes) -> tuple[AnswerHead, bool, bytes] | None:
        """The head that ``received`` begins with, whether the connection stays, and what follows; None if not known."""
        end = received.find(b"\r\n\r\n") + 4
        known = self._known.get(received[:end])
        return None if known is None else (*known, received[end:])

    def note(self, received: bytes, content: int, head: AnswerHead, keep: bool) -> None:
        """The head of ``received``, behind which a parser has found ``content`` bytes and nothing else."""
        end = received.find(b"\r\n\r\n") + 4
        bounded = head.framing in (Framing.LENGTH, Framing.NONE)
        # Where the parser did not end the head at the first empty line, the length does not fit.
        if bounded and end + content == len(received) and end <= _MAX_KNOWN_HEAD:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[received[:end]] = head, keep


class Receiver(Protocol):
    """Whoever waits for an answer."""

    def answered(self, head: AnswerHead | None, content: bytes, done: bool) -> None:
        """More of the answer: its head the first time, content, and whether this is its end."""

    def backend_lost(self, reason: str) -> None:
        """The answer ended too early, or is none. The connection is closed."""

    def backend_writable(self, writable: bool) -> None:
        """Whether the backend takes more of the request just now."""


class BackendConnection(asyncio.Protocol):
    """One connection to a backend."""

    __slots__ = (
        "_content", "_done", "_head", "_headers", "_interim", "_is_head", "_keep", "_left", "_parser", "_paused",
        "_seen", "_surplus", "idle_since", "pool", "receiver", "transport", "uses",
    )  # fmt: skip

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport | None = None
        self.receiver: Receiver | None = None
        self.uses = 0
        self.idle_since = 0.0
        self._parser: httptools.HttpResponseParser | None = None
        self._paused = False
        self._reset(is_head=False)

    def _reset(self, *, is_head: bool) -> None:
        self._is_head = is_head
        self._head: AnswerHead | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._content: list[bytes] = []
        self._left = 0
        self._seen = 0
        self._interim = self._done = self._surplus = self._keep = False

    # --- the request -----------------------------------------------------------------------------------------------

    def send(self, receiver: Receiver, data: bytes, *, is_head: bool) -> None:
        """Begin a request: ``data`` is its head, with the body or the beginning of it."""
        assert self.transport is not None
        self._reset(is_head=is_head)
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
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
            self.abort()  # an answer to nothing
            return
        if self._left:
            self._count_off(receiver, None, data)
            return
        if self._head is None and not self._seen and not self._is_head:
            known = self.pool.heads.find(data)
            if known is not None:
                self._head, self._keep, content = known
                self._left = self._head.length
                self._count_off(receiver, self._head, content)
                return
        self._parse(receiver, data)

    def _count_off(self, receiver: Receiver, head: AnswerHead | None, content: bytes) -> None:
        """Pass on content of known length: nothing in it has to be looked at."""
        self._left -= len(content)
        if self._left < 0:
            self._surplus = True
            content = content[: self._left]
        self._done = self._left <= 0
        receiver.answered(head, content, self._done)
        if self._done:
            self._left = 0
            self._finish()

    def _parse(self, receiver: Receiver, data: bytes) -> None:
        assert self._parser is not None
        had_head = self._head is not None
        alone = not had_head and not self._seen and not self._is_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("it switched protocols")
            return
        except httptools.HttpParserError:
            if not self._done:
                self._fail("its answer is no valid HTTP")
                return
            self._surplus = True  # rubbish behind a complete answer
        if self._head is None:
            self._seen += len(data)
            if self._seen > MAX_RESPONSE_HEAD:
                self._fail("the head of its answer is too large")
            return
        content = b"".join(self._content)
        self._content.clear()
        self._seen = 0 if content or not had_head else self._seen + len(data)
        if self._seen > MAX_RESPONSE_HEAD and not self._done:
            self._fail("the trailers of its answer, or what stands in a chunk's head, are too large")
            return
        head = None if had_head else self._head
        if alone:
            self.pool.heads.note(data, len(content), self._head, self._keep)
        if head is not None and head.framing is Framing.LENGTH and not self._done:
            self._left = head.length - len(content)
            self._parser = None  # what is left is counted, so that no parser has to copy it
        receiver.answered(head, content, self._done)
        if self._done:
            self._finish()

    def _finish(self) -> None:
        """The answer is complete: the connection serves the next request, or ends."""
        if self.receiver is None:
            return  # it was given up meanwhile
        self.receiver = None
        if self._head is not None and self._head.framing is Framing.NONE:
            self._parser = None  # it may still wait for the content that the headers tell of
        if self._paused:
            self.pause(False)  # for a client that was slow with the last answer
        if self._keep and not self._surplus:
            self.pool.release(self)
        elif self.transport is not None:
            self.transport.close()

    def _fail(self, reason: str) -> None:
        receiver = self.receiver
        self.abort()
        if receiver is not None:
            receiver.backend_lost(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        if exc is None and self._head is not None and self._head.framing is Framing.CLOSE:
            receiver.answered(None, b"", True)
        else:
            receiver.backend_lost("it broke off before the end of its answer" if self._head else "")

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
        head = self._head = AnswerHead(status, self._headers, is_head=self._is_head)
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


def written(upstream: UpstreamRequest) -> bytes:
    """The head of a request as it goes to its backend."""
    line = f"{upstream.method} {upstream.target} HTTP/1.1\r\n".encode("ascii")
    return line + _written(upstream.headers, upstream.backend.authorization)


@lru_cache(maxsize=256)
def _written(headers: Headers, authorization: bytes | None) -> bytes:
    """Headers as they go to a backend. The same client's are the same again and again."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    if authorization is not None:
        lines.append(b"Authorization: %b\r\n" % authorization)
    return b"".join(lines) + b"\r\n"
