"""Which series were written lately, and how many: a hash table in a fixed amount of memory.

A series is a hash of 48 bits. The table keeps in which part of the window each was last written. A series counts for
the window and at most one part longer; it never leaves early.

Up to ``MAX_SERIES`` series the table is exact, but for two series with the same hash: one in 2**48 / ``MAX_SERIES``.
With more it keeps one hash in 2, 4, 8 and so on, and multiplies. The standard error of the count is then at most
1 / sqrt(``MAX_SERIES`` / 2), which is 0.45 %. A table that has once kept a part of the hashes goes on with that part
until it is empty.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from secrets import randbits
from typing import Final

KEY_BITS: Final = 48
MAX_KEY: Final = (1 << KEY_BITS) - 1
"""The greatest hash of a series."""
MAX_SERIES: Final = 100_000
"""The most hashes in a table."""

_SMALLEST: Final = 1 << 10  # cells of eight bytes
_LARGEST: Final = 1 << 18
_SLICE: Final = 1 << 13
_PART_BITS: Final = 16
_PARTS: Final = 1 << _PART_BITS
_PART: Final = _PARTS - 1
_MIX: Final = randbits(KEY_BITS) | 1
"""A cell belongs where some bits of the product with this number say. So who knows hashes, or makes some up in a store
that replicas share, cannot choose those that belong to one place."""
_INDEX: Final = 30  # the bits of the product from here on say where


class SeriesTable:
    """The series written in the last ``window`` seconds, in ``parts`` parts.

    Moments are seconds of any clock; each call's ``now`` must not be before the one of the call before. Keys are
    hashes of ``KEY_BITS`` bits, from 1 on.
    """

    __slots__ = (
        "_cells",
        "_counts",
        "_live",
        "_part",
        "_parts",
        "_rebuilt",
        "_seconds",
        "_shift",
        "_used",
        "expected",
        "window",
    )

    def __init__(self, window: float, parts: int) -> None:
        self.window = window
        self._parts = parts
        self._seconds = window / parts
        # A cell has a key, and below it the part in which the series was last written; 0 is an empty cell. Cells whose
        # part has left the window stay until the table is rebuilt.
        self._cells = array("Q", bytes(8 * _SMALLEST))
        self._used = 0  # cells that are not empty
        self._counts: dict[int, int] = {}  # part: how many series were last written in it
        self._live = 0  # their sum
        self._part = 0
        self._rebuilt = 0
        self._shift = 0
        self.expected = 0
        """How many series count already, though they are not noted yet."""

    @property
    def exact(self) -> bool:
        """Whether the table has every series."""
        return not self._shift

    @property
    def memory(self) -> int:
        """Bytes of the cells."""
        return 8 * len(self._cells)

    def count(self, now: float) -> int:
        """Return how many series are in the window."""
        self._turn(now)
        return (self._live << self._shift) + self.expected

    def unknown(self, keys: Iterable[int], now: float) -> int:
        """Return how many of the series are not in the window."""
        self._turn(now)
        sampled = (1 << self._shift) - 1
        oldest = self._part - self._parts
        cells, found = self._cells, 0
        for key in keys:
            if not key & sampled and not self._is_live(cells[self._place(key)], oldest):
                found += 1
        return found << self._shift

    def note(self, keys: Iterable[int], now: float, at: float | None = None) -> list[int]:
        """Note that series were written ``at`` a moment, which is ``now`` if it is None.

        Returns those that were not known to be written in that part of the window, or later.
        """
        self._turn(now)
        changed: list[int] = []
        oldest = self._part - self._parts
        part = self._part if at is None else min(int(at // self._seconds), self._part)
        if part < oldest:
            return changed
        for key in keys:
            if key & ((1 << self._shift) - 1):
                continue
            place = self._place(key)
            cell = self._cells[place]
            new = key << _PART_BITS | part & _PART
            if cell == new:
                continue
            if not cell:
                self._used += 1
            elif (before := self._age(cell)) >= part:
                continue
            elif before >= oldest:
                self._live -= 1
                self._counts[before] -= 1
            changed.append(key)
            self._cells[place] = new
            self._counts[part] = self._counts.get(part, 0) + 1
            self._live += 1
            if self._used * 4 > len(self._cells) * 3 or self._live > MAX_SERIES:
                self._make_room()
        return changed

    def known(self, now: float) -> Iterator[tuple[float, list[int]]]:
        """Yield the series of the table, and the end of the part of the window in which they were last written.

        They come from some thousand cells at a time. Those that are written meanwhile may be missing.
        """
        self._turn(now)
        cells, now_in, oldest = self._cells, self._part, self._part - self._parts
        for begin in range(0, len(cells), _SLICE):
            parts: dict[int, list[int]] = {}
            for cell in cells[begin : begin + _SLICE]:
                if cell and (part := now_in - ((now_in - cell) & _PART)) >= oldest:
                    parts.setdefault(part, []).append(cell >> _PART_BITS)
            for part, keys in parts.items():
                yield (part + 1) * self._seconds, keys

    def _turn(self, now: float) -> None:
        """Begin the part of the window that ``now`` is in."""
        part = int(now // self._seconds)
        if part == self._part:
            return
        self._part = part
        for old in [each for each in self._counts if each < part - self._parts]:
            self._live -= self._counts.pop(old)
        if not self._live:
            self._cells, self._used, self._shift, self._rebuilt = array("Q", bytes(8 * _SMALLEST)), 0, 0, part
        elif part - self._rebuilt >= _PARTS - 2 * self._parts - 2:  # the number of a part is about to be used again
            self._rebuild()

    def _age(self, cell: int) -> int:
        """Return the part of a cell, which is written in its last bits only."""
        return self._part - ((self._part - cell) & _PART)

    def _is_live(self, cell: int, oldest: int) -> bool:
        return cell != 0 and self._age(cell) >= oldest

    def _place(self, key: int) -> int:
        """Return the index of the cell with the key, or of the empty one where it belongs."""
        cells = self._cells
        mask = len(cells) - 1
        at = key * _MIX >> _INDEX & mask
        while (cell := cells[at]) and cell >> _PART_BITS != key:
            at = (at + 1) & mask
        return at

    def _make_room(self) -> None:
        while self._live > MAX_SERIES:
            self._shift += 1
            self._rebuild()
        if self._used * 4 > len(self._cells) * 3:
            self._rebuild()

    def _rebuild(self) -> None:
        """Drop the cells that have left the window or belong to no kept hash, in a table of the right size."""
        sampled = ((1 << self._shift) - 1) << _PART_BITS
        parts = {part & _PART: part for part in range(self._part - self._parts, self._part + 1)}
        live = [cell for cell in self._cells if cell and not cell & sampled and cell & _PART in parts]
        size = _SMALLEST
        while size < 2 * len(live) and size < _LARGEST:
            size *= 2
        cells, mask = array("Q", bytes(8 * size)), size - 1
        for cell in live:
            at = (cell >> _PART_BITS) * _MIX >> _INDEX & mask
            while cells[at]:
                at = (at + 1) & mask
            cells[at] = cell
        self._cells = cells
        self._counts = {parts[part]: number for part, number in Counter(cell & _PART for cell in live).items()}
        self._used = self._live = len(live)
        self._rebuilt = self._part
