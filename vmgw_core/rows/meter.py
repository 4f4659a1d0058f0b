"""Between a client's body and the backend: bytes pass when the rows in them have been counted and taken.

A body of up to ``HOLD`` bytes is held until its end, so that it is judged whole before a backend sees any of it. Of a
larger one, what is counted passes as it comes; when rows no longer fit, the rest does not, and whoever carries the
bytes breaks off the connection to the backend. The last byte passes only when all are counted, so a format that is
read whole is never complete before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .dispatch import RowCounter

HOLD: Final = 1 << 20
"""Bytes held before the first one passes."""

_BATCH: Final = 64 * 1024  # bytes counted at once: a body in tiny pieces costs no more than one in large ones

# glibc's malloc gives memory back to the system as soon as it is freed, and gets it again page by page, until it has
# seen that a program frees pieces of some size. What a message decodes to is such a piece, and the 800 page faults a
# request were a third of what counting cost (scripts/bench-rows). So it sees one here.
bytes(8 << 20)


class RowMeter:
    """Meters one body. After an exception it must not be used again."""

    def __init__(self, counter: RowCounter, take: Callable[[int], None]) -> None:
        """``take`` counts rows that are about to pass, or raises."""
        self._counter = counter
        self._take = take
        self._held = bytearray()
        self._unread = 0  # bytes at the end of _held that the counter has not got yet
        self._passed = 0
        self._taken = 0

    @property
    def rows(self) -> int:
        """Rows counted so far."""
        return self._counter.rows

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the body; returns those that may be sent on now, which may be none.

        Raises:
            Refusal: what ``take`` raises, or the body cannot be read and so not be counted.
        """
        self._held += data
        self._unread += len(data)
        if self._unread < _BATCH:
            return b""
        self._read()
        if not self._passed and len(self._held) <= HOLD:
            return b""
        return self._pass(min(self._counter.settled - self._passed, len(self._held) - 1))

    def finish(self) -> bytes:
        """The body is over; returns the rest of it. Raises as :meth:`feed`."""
        self._read()
        self._counter.finish()
        return self._pass(len(self._held))

    def _read(self) -> None:
        if self._unread:
            self._counter.feed(bytes(memoryview(self._held)[-self._unread :]))
            self._unread = 0

    def _pass(self, size: int) -> bytes:
        """Let out the first ``size`` bytes held."""
        rows = self._counter.rows
        if rows > self._taken:
            self._take(rows - self._taken)
            self._taken = rows
        if size <= 0:
            return b""
        data = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._passed += size
        return data
