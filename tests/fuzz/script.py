"""Fuzz input as a script: bytes choose from tables of what is worth sending, and carry bytes to send as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tests.support.addons.fakes import TOKEN

T = TypeVar("T")

_TOKEN = TOKEN.encode()
_AUTHORIZATION = b"Authorization: Bearer " + _TOKEN + b"\r\n"
_WRITE = b" /api/v1/import/prometheus HTTP/1.1\r\nHost: g\r\n" + _AUTHORIZATION

REQUESTS: tuple[bytes, ...] = (
    b"GET /api/v1/query?query=%M HTTP/1.1\r\nHost: g\r\n" + _AUTHORIZATION + b"\r\n",
    b"GET /api/v1/query?query=%M HTTP/1.0\r\n" + _AUTHORIZATION + b"\r\n",
    b"GET /api/v1/query?query=%M HTTP/1.0\r\nConnection: keep-alive\r\n" + _AUTHORIZATION + b"\r\n",
    b"GET /api/v1/query?query=%M HTTP/1.1\r\nHost: g\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: g\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\n",
    b"POST" + _WRITE + b"X: %M\r\nContent-Length: 4\r\n\r\nm 1\n",
    b"POST" + _WRITE + b"X: %M\r\nContent-Length: 100000\r\n\r\n" + b"x" * 90_000,
    b"POST" + _WRITE + b"X: %M\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nm 1\n\r\n0\r\n\r\n",
    b"POST" + _WRITE + b"X: %M\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST" + _WRITE + b"X: %M\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    b"POST /api/v1/query HTTP/1.1\r\nHost: g\r\nContent-Length: 8\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n" + _AUTHORIZATION + b"\r\nquery=%M",
    b"POST /api/v1/query HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n" + _AUTHORIZATION + b"\r\n8\r\nquery=%M\r\n0\r\n\r\n",
    b"POST /api/v1/query HTTP/1.1\r\nHost: g\r\nContent-Length: 8\r\n" + _AUTHORIZATION + b"\r\n",
    b"FOO /api/v1/query HTTP/1.1\r\nHost: g\r\n" + _AUTHORIZATION + b"\r\n",
)
"""Whole requests, and some that are not; ``%M`` becomes the client's mark."""

PIECES: tuple[bytes, ...] = (
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"/api/v1/query",
    b"/api/v1/write",
    b"/health",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: g\r\n",
    _AUTHORIZATION,
    b"Content-Length: 4\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 99999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"4\r\nabcd\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"4;x=y\r\n",
    b"ffffffffffffffff\r\n",
    b"X-A: b\r\n",
    b" folded\r\n",
    b"abcd",
    b"\r\n" * 5000,
    b"x" * 5000,
    b"x" * 70_000,
    b"\x16\x03\x01\x02\x00\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
)

ANSWERS: tuple[bytes, ...] = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%M",
    b"HTTP/1.1 200 OK\r\nX: %M\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n%M\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\n%M\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n%M",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n%M",
    b"HTTP/1.1 304 Not\r\nContent-Length: 4\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n%M",
    b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\n%M",
    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"%M" * 99_000,
    b"0\r\n\r\n",
    b"2\r\n%M\r\n",
    b"%M" * 1000,
    b"%M",
    b"0\r\nX: %M\r\n\r\n",
    b"HTTP/1.1 ",
    b"200 OK\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: X\r\nX: y\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"x" * 70_000,
)
"""Whole answers and parts of them; ``%M`` becomes the mark of the request that is answered."""


class Script:
    """Reads a fuzz input from its beginning. Behind its end it is all zeros."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.data)

    def number(self, below: int) -> int:
        """One byte, as a number below ``below``, which is at most 256."""
        byte = self.data[self.position] if not self.over else 0
        self.position += 1
        return byte % below

    def choose(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return choices[self.number(len(choices))]

    def raw(self) -> bytes:
        """Up to 40 bytes as they stand in the input; none of them can be taken for a mark, which begins with a q."""
        size = self.number(41)
        self.position += size
        return self.data[self.position - size : self.position].replace(b"q", b"Q")

    def mutated(self, data: bytes) -> bytes:
        """``data``, mostly as it is, else with a piece taken out, put in, or its end cut off."""
        kind = self.number(16)
        if kind < 12 or not data:
            return data
        place = (self.number(256) << 8 | self.number(256)) % len(data)
        if kind == 12:
            return data[:place]
        if kind == 13:
            return data[:place] + data[place + 1 + self.number(8) :]
        if kind == 14:
            return data[:place] + self.choose(PIECES) + data[place:]
        return data[:place] + self.raw() + data[place:]

    def message(self, whole: Sequence[bytes], mark: bytes) -> bytes:
        """Something to send."""
        kind = self.number(8)
        if kind < 5:
            return self.mutated(self.choose(whole)).replace(b"%M", mark)
        return self.choose(PIECES) if kind < 7 else self.raw()
