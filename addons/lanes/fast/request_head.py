"""From the bytes of a head to the value that the core decides on.

The core checks every byte, llhttp takes the head apart. Clients send the same headers over and over, so what was
checked and taken apart once is not done again for the very same bytes.
"""

from __future__ import annotations

from typing import Final

import httptools

from vmgw_core.base import BoundedCache
from vmgw_core.errors import BadRequest
from vmgw_core.http import HeaderFacts, Headers, HeadLimits, RequestHead, check_head, check_request_line, facts_bytes

CACHE_BYTES: Final = 12 << 20
"""Memory for the headers of requests: those of some 3,500 tokens."""
_MAX_ENTRY: Final = 32 << 10
"""A large head is not cached: it would push out many small ones."""
_FIELDS_BYTES: Final = 200  # without the headers, and what is computed from them


class Fields:
    """All of a head after its request line, read."""

    __slots__ = ("facts", "headers", "keep_alive", "memory", "old")

    def __init__(self, headers: Headers, *, old: bool, keep_alive: bool) -> None:
        self.headers = headers
        self.facts = HeaderFacts(headers)
        self.old = old
        """Whether it is HTTP/1.0."""
        self.keep_alive = keep_alive
        """Whether the client wants the connection to stay (RFC 9112, section 9.3)."""
        self.memory = _FIELDS_BYTES + facts_bytes(headers)
        """Bytes."""


def _size(received: bytes, fields: Fields) -> int:
    return received.__sizeof__() + fields.memory


class FieldsCache:
    """Fields by their bytes, those of all clients. They were checked with ``limits``."""

    __slots__ = ("_known", "_limits")

    def __init__(self) -> None:
        self._known: BoundedCache[bytes, Fields] = BoundedCache(CACHE_BYTES, _size, max_entry=_MAX_ENTRY)
        self._limits: HeadLimits | None = None

    def __len__(self) -> int:
        return len(self._known)

    @property
    def used(self) -> int:
        """Bytes of memory that are taken."""
        return self._known.used

    def find(self, received: bytes, limits: HeadLimits) -> Fields | None:
        """Return the fields that ``received`` is, if these very bytes were read before with the same limits."""
        if limits is not self._limits:
            self._known.clear()
            self._limits = limits
        return self._known.get(received)

    def note(self, received: bytes, fields: Fields) -> None:
        """Cache the fields that ``received`` is; ``find`` has not found them."""
        self._known.put(received, fields)


class HeadReader:
    """Reads the heads of one connection. ``fields`` are of the head that was read last."""

    __slots__ = ("_cache", "_found", "_keep_alive", "_parser", "_received", "fields")

    def __init__(self, cache: FieldsCache) -> None:
        self._cache = cache
        self._received = b""
        self.fields = Fields((), old=False, keep_alive=False)
        self._found: list[tuple[bytes, bytes]] = []
        self._keep_alive = False
        self._parser: httptools.HttpRequestParser | None = None

    def read(self, head: bytes, limits: HeadLimits, client: str) -> RequestHead:
        """The request that the complete ``head`` is. Raises ``BadRequest``, ``TargetTooLong`` and ``HeadTooLarge``."""
        # The version, which says what the headers mean, and all that follows.
        received = head[head.index(b"\r\n") - 8 :]
        fields = self.fields if received == self._received else self._cache.find(received, limits)
        if fields is not None:
            line = check_request_line(head, limits)
        else:
            line = check_head(head, limits)
            self._received = b""
            fields = self._take_apart(received, old=line.old)
            self._cache.note(received, fields)
        self._received, self.fields = received, fields
        return RequestHead(line.method, line.target, fields.headers, client, fields.facts)

    def _take_apart(self, received: bytes, *, old: bool) -> Fields:
        """Have llhttp read the headers. The request line is the core's: llhttp knows but a fixed list of methods."""
        self._found = []
        self._keep_alive = False
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(b"GET / " + received)
        except httptools.HttpParserUpgrade:
            pass  # the head is complete; nothing is upgraded
        except httptools.HttpParserError:
            raise BadRequest("the request is not valid HTTP") from None
        finally:
            self._parser = None
        return Fields(tuple(self._found), old=old, keep_alive=self._keep_alive)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp."""
        self._found.append((name, value.rstrip(b" \t")))  # llhttp takes blanks off the front only

    def on_headers_complete(self) -> None:
        """Called by llhttp, which forgets what it was told of the connection when the message ends."""
        assert self._parser is not None
        self._keep_alive = self._parser.should_keep_alive()
