"""The meter between a client's body and the backend: it passes bytes on once their rows are counted.

A body of up to ``HOLD`` bytes is held until its end, so it is counted whole before a backend sees it. A larger one
streams; when its rows exceed a limit, the rest is not forwarded, and the carrier closes the connection to the backend.
The last byte passes only after everything is counted, so a format that is read whole never arrives complete before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .counter import RowCounter

HOLD: Final = 1 << 20
"""Bytes held before the first one is forwarded."""

_BATCH: Final = 64 * 1024  # bytes counted at once, so tiny pieces cost no more than large ones

# glibc's malloc returns freed memory to the system and gets it back page by page, until a program has freed a large
# piece once. Decoded messages are such pieces, and 800 page faults a request were a third of the cost of counting
# (scripts/bench-rows). So free one here.
bytes(8 << 20)


class RowMeter:
    """Meters one body. Do not use it after an exception."""

    def __init__(self, counter: RowCounter, take: Callable[[int], bool | None]) -> None:
        """``take`` counts rows before they are forwarded, or raises. If it returns True, they wait for
        :meth:`resume`."""
        self._counter = counter
        self._take = take
        self._held = bytearray()
        self._unread = 0  # bytes at the end of _held that are not counted yet
        self._passed = 0
        self._taken = 0
        self.forwarded = 0
        """Rows of what was passed on."""
        self._waiting: int | None = None  # bytes that pass once their rows are counted

    @property
    def rows(self) -> int:
        return self._counter.rows

    @property
    def waits(self) -> bool:
        """Whether nothing passes until :meth:`resume`."""
        return self._waiting is not None

    def feed(self, data: bytes) -> bytes:
        """Count the next bytes of the body; return those to forward now, if any.

        Raises the ``Refusal`` of ``take``, or one for a body that cannot be read.
        """
        self._held += data
        self._unread += len(data)
        if self._unread < _BATCH:
            return b""
        self._read()
        if not self._passed and len(self._held) <= HOLD:
            return b""
        return self._pass(min(self._counter.settled - self._passed, len(self._held) - 1))

    def finish(self, data: bytes = b"") -> bytes:
        """End the body with ``data``; return the rest of it. Raises as :meth:`feed`."""
        self._held += data
        self._unread += len(data)
        self._read()
        self._counter.finish()
        return self._pass(len(self._held))

    def _read(self) -> None:
        if self._unread:
            self._counter.feed(bytes(memoryview(self._held)[-self._unread :]))
            self._unread = 0

    def _pass(self, size: int) -> bytes:
        """Take the counted rows, and return the first ``size`` bytes held."""
        rows = self._counter.rows
        if rows > self._taken:
            more, self._taken = rows - self._taken, rows
            if self._take(more):
                self._waiting = size
                return b""
        return self._release(size)

    def resume(self) -> bytes:
        """Return what waited until its rows were counted."""
        size, self._waiting = self._waiting, None
        assert size is not None
        return self._release(size)

    def _release(self, size: int) -> bytes:
        if size <= 0:
            return b""
        data = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._passed += size
        self.forwarded = self._taken
        return data
