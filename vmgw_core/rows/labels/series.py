"""The series of a body: a hash of the labels of each.

Two rows are of one series if they have the same labels in the same order, and the URL or the token adds the same ones.
Labels without a value do not count. A label that is repeated matters each time, and so does one that an added label
replaces. VictoriaMetrics joins labels in another order later, but until it has indexed a series (for a second), and in
each month, it makes one of each spelling: a client could make thousands of them of ten labels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from vmgw_core.base import Labels, TenantID, tenant_name
from vmgw_core.errors import BodyTooLarge, Overloaded
from vmgw_core.http import RequestHead, decoded_key, split_pairs
from vmgw_core.limits import LabelHashes, joined, key_of

MAX_SERIES: Final = 250_000
"""Different series of a body, or of the part of it that is judged at once."""
MAX_LABELS: Final = 1_000_000
"""Labels of the rows of a body, or of a part of it: each takes some 0.3 microseconds, and 2 if it is new."""
PIECE: Final = 2_000
"""Labels that are read at once. Others wait meanwhile."""
_MAX_WAITING: Final = 32 << 20
"""Bytes of all bodies that wait to be read, unless one alone has more. Beyond that, large ones are refused."""
_LARGE: Final = 1 << 20
_EXTRA_LABEL: Final = "extra_label"
_DATABASE: Final = "db"

Pair = tuple[bytes, bytes]
NAME: Final = b"__name__"
_UNREAD: Final = b"\x00unread"  # no name of a label


def as_it_is(label: Pair) -> Pair:
    """Return a label that is a pair already."""
    return label


class Parts(NamedTuple):
    """Several series that differ in one value."""

    labels: Sequence[Any]
    values: Iterable[object]


class SeriesReader(NamedTuple):
    """Reads the labels of each series in complete rows, as they are written, and what a written label is."""

    read: Callable[[bytes], Iterable[Sequence[Any] | Parts]]
    parse: Callable[[Any], Pair] = as_it_is


class Series:
    """The hashes of the series of one body."""

    def __init__(self, hashes: LabelHashes, tenant: TenantID | None, labels: Labels, head: RequestHead) -> None:
        """``labels``: those of the token; without any, the client's of the URL are added to each series."""
        added = [(name.encode(), value.encode()) for name, value in labels]
        place, _, query = head.target.partition("?")
        context = [tenant_name(tenant), place.partition("/metrics/job")[2]]  # the labels in a path of Pushgateway
        for pair in split_pairs(query, "URL") if query else ():
            value = unquote_to_bytes(pair.partition("=")[2].replace("+", " "))
            if decoded_key(pair) == _EXTRA_LABEL and not labels:
                name, _, value = value.partition(b"=")
                added.append((name, value))
            elif decoded_key(pair) == _DATABASE:  # a label of InfluxDB
                context.append(value.hex())
        # Of several the last one counts; one without a value is none.
        values = {name: value for name, value in added if value}
        self._start = hashes.hash(b"context", repr((context, sorted(values.items()))).encode())
        self._hashes = hashes
        self.found: set[int] = set()
        """Those that were read and not taken yet."""
        self._unread: deque[tuple[SeriesReader, bytes]] = deque()

    def read(self, reader: SeriesReader, data: bytes) -> None:
        """Let :meth:`steps` read complete rows. Raises ``Overloaded`` if too many bytes wait for that."""
        waiting = self._hashes.waiting
        if waiting and len(data) > _LARGE and waiting + len(data) > _MAX_WAITING:
            raise Overloaded("the gateway reads the series of as many bodies as it may: retry later")
        self._unread.append((reader, data))
        self._hashes.waiting += len(data)

    @property
    def waits(self) -> bool:
        """Whether there are rows to read."""
        return bool(self._unread)

    def steps(self) -> Generator[None, None, None]:
        """Read what there is to read, with pauses.

        Raises ``BodyTooLarge`` if there are too many series, or too many labels, and ``BadBody`` if rows are broken.
        """
        while self._unread:
            reader, data = self._unread.popleft()
            try:
                yield from self._read(reader, data)
            finally:
                self._hashes.waiting -= len(data)

    def drop(self) -> None:
        """Read no more."""
        while self._unread:
            self._hashes.waiting -= len(self._unread.popleft()[1])

    def _read(self, reader: SeriesReader, data: bytes) -> Generator[None, None, None]:
        found, start, hashes, parse = self.found, self._start, self._hashes, reader.parse
        known, left = hashes.known(parse), MAX_LABELS
        pause = left - PIECE
        for written in reader.read(data):
            parts, labels = (written.values, written.labels) if isinstance(written, Parts) else (None, written)
            if len(labels) > PIECE:
                raise BodyTooLarge(f"a row has more than {PIECE} labels")
            left -= len(labels) + 1
            hashed = joined(start, [known.get(label) or hashes.of(label, parse) for label in labels])
            if parts is None:
                found.add(key_of(hashed))
            else:
                for number in map(hashes.part, parts):
                    found.add(key_of(joined(hashed, (number,))))
                    left -= 1
                    if left < pause:
                        pause = self._check(left)
                        yield
            if left < pause:
                pause = self._check(left)
                yield
        self._check(left)

    def _check(self, left: int) -> int:
        """Return what is left of ``left`` labels after the next piece. Raises ``BodyTooLarge``."""
        if left < 0 or len(self.found) > MAX_SERIES:
            raise BodyTooLarge(f"the body has more than {MAX_SERIES} series or {MAX_LABELS} labels: split it")
        return left - PIECE

    def taken(self) -> set[int]:
        """Return the hashes, and begin anew. All rows must have been read."""
        found, self.found = self.found, set()
        return found


def unread(row: bytes) -> list[Pair]:
    """Return a series of its own for a row that cannot be read in one way only."""
    return [(_UNREAD, row)]
