"""Response heads of backends: where a response ends, which headers go on to the client, and a cache of them."""

from __future__ import annotations

from enum import Enum
from typing import Final

from vmgw_core.http import HeaderEdit, Headers

MAX_CACHED: Final = 256
"""Heads that are cached, each of at most ``_MAX_CACHED_HEAD`` bytes."""
_MAX_CACHED_HEAD: Final = 2048
_NOT_FORWARDED: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)  # RFC 9110, section 7.6.1
_KEPT: Final = frozenset((b"content-length", b"content-type", b"content-encoding"))


class Framing(Enum):
    """Where a response ends (RFC 9112, section 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class ResponseHead:
    """The head of a backend's final response, without the headers that concern this connection only.

    llhttp has made sure that no header holds a control character.
    """

    __slots__ = ("edit", "framing", "headers", "length", "status", "written")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], *, is_head: bool) -> None:
        self.status = status
        self.headers: Headers
        self.edit: HeaderEdit | None = None
        self.written = b""
        """The head as clients get it, with ``edit`` applied: see :meth:`Services.backend_head`."""
        self.length = 0
        self.framing = Framing.CLOSE
        kept = []
        named: set[bytes] = set()
        for header in headers:
            name = header[0].lower()
            if name not in _NOT_FORWARDED:
                kept.append(header)
                if name == b"content-length" and self.framing is Framing.CLOSE:
                    self.framing, self.length = Framing.LENGTH, int(header[1])
            elif name == b"transfer-encoding":
                # RFC 9112, section 6.3: a response whose last coding is not chunked ends with the connection.
                last = header[1].rpartition(b",")[2].strip().lower()
                self.framing = Framing.CHUNKED if last == b"chunked" else Framing.CLOSE
            elif name == b"connection":
                named.update(token.strip().lower() for token in header[1].split(b","))
        if named - _NOT_FORWARDED - _KEPT:
            kept = [header for header in kept if header[0].lower() not in named - _KEPT]
        self.headers = tuple(kept)
        if is_head or status in (204, 304):
            self.framing, self.length = Framing.NONE, 0
        if status == 204:  # RFC 9110, section 8.6: a 204 has no Content-Length
            self.headers = tuple(header for header in kept if header[0].lower() != b"content-length")


class ResponseHeadCache:
    """Response heads by their bytes, so that llhttp reads each one once.

    Only those with content of known length, and not of responses to HEAD: after such a head no parser is needed.
    """

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[ResponseHead, bool]] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def find(self, received: bytes) -> tuple[ResponseHead, bool, int] | None:
        """Return the head that ``received`` begins with, whether the connection stays open, and the head's size."""
        end = received.find(b"\r\n\r\n") + 4
        found = self._heads.get(received[:end])
        return None if found is None else (found[0], found[1], end)

    def note(self, received: bytes, content: int, head: ResponseHead, keep: bool) -> None:
        """Cache the head of ``received``, after which llhttp found ``content`` bytes and nothing else."""
        end = received.find(b"\r\n\r\n") + 4
        bounded = head.framing in (Framing.LENGTH, Framing.NONE)
        # If llhttp did not end the head at the first empty line, the sizes do not add up.
        if bounded and end + content == len(received) and end <= _MAX_CACHED_HEAD:
            if len(self._heads) >= MAX_CACHED:
                self._heads.clear()
            self._heads[received[:end]] = head, keep
