"""Readers that find the end of a body: by length or by chunks.

A reader takes bytes as they arrive and returns ``(content, rest, done)``: the content, the bytes after the end of the
body, and whether that end was reached. It keeps no content.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from vmgw_core.errors import BadRequest

# RFC 9112, section 7.1: a size, extensions, CRLF. No blank, sign or prefix, no control character, no bare CR or LF.
_CHUNK_HEAD: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n")


class BodyReader(Protocol):
    """Reads one body."""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Take the next bytes. Raises ``BadRequest`` if they break the framing."""


class LengthReader:
    """A body of a known number of bytes (RFC 9112, section 6.2)."""

    __slots__ = ("_missing",)

    def __init__(self, length: int) -> None:
        self._missing = length

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """As :class:`BodyReader`; never raises."""
        missing = self._missing
        if len(data) < missing:
            self._missing = missing - len(data)
            return data, b"", False
        self._missing = 0
        return data[:missing], data[missing:], True


class ChunkedReader:
    """A chunked body (RFC 9112, section 7.1). Trailers are discarded (RFC 9110, section 6.5.1).

    Args:
        max_line: the most bytes of a chunk's size with its extensions, and of all trailers together.
    """

    __slots__ = ("_held", "_left", "_max_line", "_trailers")

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._held = b""
        self._left = -1
        """Bytes that this chunk still lacks; 0 before the line break after it, -1 before a chunk's head."""
        self._trailers = -1
        """Bytes of trailers so far; -1 before the last chunk."""

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """As :class:`BodyReader`."""
        if self._held:
            data = self._held + data
        content: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if self._left > 0:
                piece = data[position : position + self._left]
                content.append(piece)
                self._left -= len(piece)
                position += len(piece)
                continue
            if self._left == 0 and self._trailers < 0:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise BadRequest("a chunk does not end in a line break")
                if size - position < 2:
                    break
                self._left = -1
                position += 2
                continue
            end = data.find(b"\n", position, position + self._max_line + 1)
            if end < 0:
                if size - position > self._max_line:
                    raise BadRequest(f"the size line of a chunk or the trailers are longer than {self._max_line} bytes")
                break
            if self._line(data, position, end + 1):
                return b"".join(content), data[end + 1 :], True
            position = end + 1
        self._held = data[position:]
        return b"".join(content), b"", False

    def _line(self, data: bytes, start: int, end: int) -> bool:
        """Take the line ``data[start:end]``; return whether it is the last one."""
        if self._trailers >= 0:
            if end - start == 2 and data[start] == 13:
                return True
            self._trailers += end - start
            if _TRAILER.fullmatch(data, start, end) is None or self._trailers > self._max_line:
                raise BadRequest(f"the trailers are malformed or longer than {self._max_line} bytes")
        else:
            head = _CHUNK_HEAD.fullmatch(data, start, end)
            if head is None:
                raise BadRequest("a chunk does not begin with its size")
            self._left = int(head[1], 16)
            if self._left == 0:
                self._trailers = 0
        return False
