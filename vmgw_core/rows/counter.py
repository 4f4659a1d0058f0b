"""The counter of one body: its decoders and formats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from vmgw_core.errors import BadBody, BadLabels, BodyTooLarge
from vmgw_core.http import Decoder, Plain, Sink

_FREE: Final = 16 << 20  # bytes that any body may decode to
_EXPANSION: Final = 250  # decoded bytes per further byte: text of metrics has at most some 100


class Format(Protocol):
    """Counts rows of a decoded body. ``settled`` bytes of it may be forwarded: they hold no more than ``rows``."""

    rows: int
    settled: int

    def feed(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class Whole:
    """A format that is read whole. Without its end a backend inserts nothing, so all before it is settled."""

    def __init__(self, count: Callable[[bytes], int], *, max_decoded: int) -> None:
        self.rows = 0
        self.settled = 0
        self._count = count
        self._max = max_decoded
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.settled += len(data)
        if self.settled > self._max:
            raise BodyTooLarge(f"the body is larger than {self._max} bytes decoded (-ratelimit.maxDecodedSize)")
        self._pieces.append(data)

    def finish(self) -> None:
        body = b"".join(self._pieces)  # no copy if there is one piece
        self._pieces.clear()
        self.rows = self._count(body)


class Reading:
    """A way to read a body: a decoder and a format. ``settled`` is in bytes as sent."""

    def __init__(self, make_decoder: Callable[[Sink], Decoder], form: Format) -> None:
        self.form = form
        self._decoder = make_decoder(self._decoded)
        self._is_plain = isinstance(self._decoder, Plain)
        self._fed = 0
        self._size = 0
        self._marks: deque[tuple[int, int]] = deque()
        self._settled = 0

    @property
    def settled(self) -> int:
        if self._is_plain:
            return self.form.settled
        while self._marks and self._marks[0][1] <= self.form.settled:
            self._settled = self._marks.popleft()[0]
        return self._settled

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        self._decoder.feed(data)
        if not self._is_plain:
            self._marks.append((self._fed, self._size))

    def finish(self) -> None:
        self._decoder.finish()
        self.form.finish()

    def _decoded(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > _FREE + _EXPANSION * self._fed:
            raise BodyTooLarge(f"the body decodes to more than {_EXPANSION} times its size")
        self.form.feed(piece)


class RowCounter:
    """Counts the rows of one body, in one or several ways to read it; the most rows count.

    Any bytes give a number or a ``Refusal``. ``settled`` bytes may be forwarded: they hold no more than ``rows``.
    """

    def __init__(self, first: Reading, *others: Reading, needs_first: bool = True) -> None:
        """``needs_first``: refuse a body that the first way cannot read, not only one that no way can read."""
        self._first = first if needs_first else None
        self._readings = [first, *others]
        self._failed_rows = 0

    @property
    def rows(self) -> int:
        return max(self._failed_rows, *(reading.form.rows for reading in self._readings))

    @property
    def settled(self) -> int:
        return min(reading.settled for reading in self._readings)

    def feed(self, data: bytes) -> None:
        """Count the next bytes of the body, as sent."""
        self._each(lambda reading: reading.feed(data))

    def finish(self) -> None:
        """End the body: ``rows`` is final."""
        self._each(Reading.finish)

    def _each(self, step: Callable[[Reading], None]) -> None:
        for reading in list(self._readings):
            try:
                step(reading)
            except BadLabels:
                raise
            except BadBody:
                if reading is self._first or len(self._readings) == 1:
                    raise
                # A backend that reads it this way also stops here and keeps its rows.
                self._readings.remove(reading)
                self._failed_rows = max(self._failed_rows, reading.form.rows)
