"""Rows in VictoriaMetrics' native format (``/api/v1/export/native``).

A time range of 16 bytes, then blocks: the size of a metric name (4 bytes, big endian), the name, the size of a
block of data, the data. VictoriaMetrics drops rows outside the time range; they count here.

The data has a header of varints and single bytes, then timestamps and values, each after its length. Older and newer
releases have different headers without a mark: a block must be valid with one of them.
"""

from __future__ import annotations

import re
from typing import Final

from vmgw_core.errors import BadBody, BadLabels

from .labels.series import Series
from .labels.series_lines import NATIVE
from .labels.tenant_lines import native_row
from .labels.tenants import Tenants
from .names import check_names

_TIME_RANGE: Final = 16
_SIZE: Final = 4
_MAX_SIZE: Final = 1 << 20  # bytes of a name or of a block's data; VictoriaMetrics refuses larger ones
_MAX_VARINT: Final = 10  # bytes of a number of 64 bits
_MAX_ROWS: Final = 16 * 1024  # of a block; VictoriaMetrics refuses larger ones

_NUMBER: Final = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"  # a varint of up to 64 bits
# The first timestamp (newer releases: and the last one), the first value, the rows, the scale, two types (newer
# releases: and the precision), the size of the timestamps.
_HEADERS: Final = tuple(
    re.compile(rb"(?:%b){%d}(%b)%b.{%d}(%b)" % (_NUMBER, before, _NUMBER, _NUMBER, behind, _NUMBER), re.DOTALL)
    for before, behind in ((2, 2), (3, 3))
)
_NUMBER_AT: Final = re.compile(_NUMBER)


class Native:
    """Counts the rows of complete blocks; ``settled`` is the offset in bytes after the last of them."""

    def __init__(self, *, check: bool = False, tenants: Tenants | None = None, series: Series | None = None) -> None:
        self._check = check
        self._tenants = tenants
        self._series = series
        self._blocks = 0
        self.rows = 0
        self.settled = 0
        self._tail = b""
        self._in_blocks = False

    def feed(self, data: bytes) -> None:
        data = self._tail + data
        start = 0
        if not self._in_blocks and len(data) >= _TIME_RANGE:
            self._in_blocks, start = True, _TIME_RANGE
        if self._in_blocks:
            while end := self._block(data, start):
                start = end
        self.settled += start
        self._tail = data[start:]

    def finish(self) -> None:
        """VictoriaMetrics ignores an incomplete block too."""

    def _block(self, data: bytes, start: int) -> int:
        """Count the block at ``start``; return the offset after it, or 0 if it is incomplete."""
        name_end = self._item_end(data, start)
        end = self._item_end(data, name_end) if name_end else 0
        if end:
            self._blocks += 1
            if self._check:
                _check_name(data[start + _SIZE : name_end], self._blocks)
            if self._tenants is not None:
                self._tenants.check_rows([native_row(data[start + _SIZE : name_end])])
            self.rows += _rows_of_block(data, name_end + _SIZE, end)
            if self._series is not None:
                self._series.read(NATIVE, data[start + _SIZE : name_end])
        return end

    def _item_end(self, data: bytes, start: int) -> int:
        size = int.from_bytes(data[start : start + _SIZE], "big")
        if len(data) < start + _SIZE:
            return 0
        if size > _MAX_SIZE:
            raise BadBody("a block of the native format is larger than a mebibyte")
        end = start + _SIZE + size
        return end if end <= len(data) else 0


def _check_name(name: bytes, number: int) -> None:
    """Check a name as the storage encodes it: the metric's, then keys and values, each with 0x01 after it.

    A control character in a key may be an escape for another one.
    """
    group, *labels = name.split(b"\x01")
    if not group:
        raise BadLabels(f"block {number} has no metric name")
    check_names(labels[:-1:2], f"block {number}")


def _rows_of_block(data: bytes, start: int, end: int) -> int:
    rows = -1
    for header in _HEADERS:
        match = header.match(data, start, end)
        if match is not None:
            values = match.end() + _number(match[2])  # the offset of their size
            number = _NUMBER_AT.match(data, values, end)
            if number is not None and number.end() + _number(number[0]) == end and _number(match[1]) <= _MAX_ROWS:
                rows = max(rows, _number(match[1]))
    if rows < 0:
        raise BadBody("a block of the native format is broken")
    return rows


def _number(data: bytes) -> int:
    return data[0] if len(data) == 1 else varint(data, 0, len(data))[0]


def varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return a number of up to 64 bits, least significant seven bits first, and the offset after it.

    Raises ``BadBody`` if it does not end before ``end``.
    """
    value = 0
    for index, byte in enumerate(data[start : min(start + _MAX_VARINT, end)]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, start + index + 1
    raise BadBody("a number is truncated or has more than 64 bits")
