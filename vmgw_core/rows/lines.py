"""Rows in line formats: Prometheus text, CSV, JSON lines, InfluxDB line protocol, Zabbix.

VictoriaMetrics reads these as they stream, and keeps the rows of a truncated body. So complete lines are counted, and
bytes after ``settled`` must not reach a backend yet.

Rules of this file:
- lines end in a line feed only, as in VictoriaMetrics;
- a line that VictoriaMetrics skips as malformed may count; one that it accepts always does;
- expressions work on many lines at once in linear time, without backtracking.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from vmgw_core.errors import BadBody, BadLabels, BodyTooLarge

from .names import CheckBlock

MAX_LINE: Final = 1 << 20
"""Bytes of a line. VictoriaMetrics refuses lines above 256 KiB by default."""


class Lines:
    """Counts the rows of a body line by line.

    ``rows`` are those of complete lines; ``settled`` is the offset in bytes after the last of them.
    """

    def __init__(
        self, count: Callable[[bytes], int], *, max_line: int = MAX_LINE, check: CheckBlock | None = None
    ) -> None:
        """``count`` and ``check`` (of label names) get blocks of whole lines, each after a line feed."""
        self._check = check
        self._lines = 0
        self.rows = 0
        self.settled = 0
        self._count = count
        self._max_line = max_line
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        end = data.rfind(b"\n")
        if end >= 0:
            self._settle(data[:end])
            self.settled += 1  # the line feed itself
            data = data[end + 1 :]
        if len(self._tail) + len(data) > self._max_line:
            raise BodyTooLarge(f"a line is longer than {self._max_line} bytes")
        self._tail += data

    def finish(self) -> None:
        self._settle(b"")

    def _settle(self, data: bytes) -> None:
        block = b"".join((b"\n", self._tail, data))
        self._tail.clear()
        if self._check is not None:
            fault = self._check(block)
            if fault is not None:
                raise BadLabels(f"line {self._lines + fault[0] + 1}: {fault[1]}")
            self._lines += block.count(b"\n")
        self.settled += len(block) - 1
        self.rows += self._count(block)


# Blank lines and the beginning of a line. The group has the first character of a row, and is empty for a comment, which
# only blanks and tabs may precede.
_ROW: Final = re.compile(rb"\n[ \t\r\n]*+([^#]|(?<=\r)#)?")


# A line that may be blank or a comment. To search for one is several times as fast as to look at each line.
_UNUSUAL: Final = re.compile(rb"\n(?:[ \t\r\n#]|\Z)")


def count_text(block: bytes) -> int:
    """Count one row per line that is neither blank nor a comment."""
    if not _UNUSUAL.search(block):
        return block.count(b"\n")
    starts = _ROW.findall(block)
    return len(starts) - starts.count(b"")


_FILLED: Final = re.compile(rb"\n[\r\n]*+([^\r\n])?")
_MAX_COLUMNS: Final = 64 * 1024


def count_filled(block: bytes) -> int:
    """Count one row per line that is not blank."""
    if not _UNUSUAL.search(block):
        return block.count(b"\n")
    starts = _FILLED.findall(block)
    return len(starts) - starts.count(b"")


def csv_rows(formats: list[str]) -> Callable[[bytes], int]:
    """Return a counter of the cells in columns of type metric that are not empty, as ``format`` says.

    https://docs.victoriametrics.com/victoriametrics/#how-to-import-csv-data

    ``formats``: the values of the argument. VictoriaMetrics reads the first; the one with the most columns counts.
    Raises ``BadBody`` if there is none, or it has no or too many metric columns.
    """
    columns = max(map(_metric_columns, formats), key=len, default=[])
    if not 0 < len(columns) <= _MAX_COLUMNS:
        raise BadBody("the argument format= names no column of type metric, or too many")

    def count(block: bytes) -> int:
        if not block.endswith(b",") and not any(cell in block for cell in _EMPTY_CELLS):
            return len(columns) * count_filled(block)
        return sum(_filled_cells(line.removesuffix(b"\r"), columns) for line in block.split(b"\n"))

    return count


def _metric_columns(text: str) -> list[int]:
    """Return the indexes of the metric columns; -1 for an unknown one."""
    parts = [column.split(":", 2) for column in text.split(",")]
    metrics = [part[0] for part in parts if part[1:2] == ["metric"]]
    return list(map(column_index, metrics))


def column_index(place: str) -> int:
    """Return the index of a column that ``format`` counts from 1; -1 for an unknown one."""
    return int(place) - 1 if place.isascii() and place.isdigit() and len(place) < 6 else -1


_EMPTY_CELLS: Final = (b",,", b"\n,", b",\n", b",\r", b'""', b"''")
_QUOTED: Final = re.compile(rb"""(?:"((?:[^"]|"")*+)"|'((?:[^']|'')*+)'|([^,"'][^,]*+|))(?:,|\Z)""")


def _filled_cells(line: bytes, columns: list[int]) -> int:
    """Return how many cells at ``columns`` are not empty; all if the line is malformed."""
    if not line:
        return 0
    cells = csv_cells(line)
    if cells is None:
        return len(columns)
    return sum(column >= len(cells) or cells[column] != b"" for column in columns)


def csv_cells(line: bytes) -> list[bytes] | None:
    """Return the cells of a CSV line, or None if it is malformed."""
    if b'"' not in line and b"'" not in line:
        return line.split(b",")
    cells, start = [], 0
    while start < len(line):
        match = _QUOTED.match(line, start)
        if match is None:
            return None
        double, single, plain = match.groups()
        if double is not None:
            cells.append(double.replace(b'""', b'"'))
        else:
            cells.append(plain if single is None else single.replace(b"''", b"'"))
        start = match.end()
    return cells


_LINE: Final = re.compile(rb"[^\n]+")
_VALUES: Final = re.compile(rb'"values"[ \t\r]*+:[ \t\r]*+\[([^\]\[{}\n]*+\])?')


def count_json_lines(block: bytes) -> int:
    """Count the elements of the array ``values`` of each line."""
    arrays = _VALUES.findall(block)
    if b"" in arrays or (b"\\" in block and b"\\u" in block):
        return sum(map(_json_line, _LINE.findall(block)))
    return _elements(arrays)


def _json_line(line: bytes) -> int:
    """Count the rows of a line that may have an escaped key or odd values."""
    arrays = _VALUES.findall(line)
    if b"" in arrays or b"\\u" in line:
        # There are as many timestamps as values, so at least twice as many commas.
        return line.count(b",") // 2 + 1
    return _elements(arrays)


def _elements(arrays: list[bytes]) -> int:
    filled = [array for array in arrays if array.strip(b" \t\r]")]
    return len(filled) + b"".join(filled).count(b",")


# measurement[,tag=value...] field=value[,field=value...] [timestamp]; the group has the fields. A backslash escapes the
# next character, and quotes escape what is within, except in a measurement or tag.
_PLAIN: Final = re.compile(rb"\n(?!#)[^ \n]*+ ++([^ \n]++)[^\n]*+")
_ESCAPED: Final = re.compile(
    rb"\n(?!#)(?:[^ \n\\]|\\[^\n]?)*+ ++"
    rb'((?:[^ \n"\\]|\\[^\n]?|"(?:[^"\\\n]|\\[^\n]?)*+"?)++)[^\n]*+'
)  # fmt: skip
_MEANINGLESS: Final = re.compile(rb'\\[^\n]|"(?:[^"\\\n]|\\[^\n]?)*+"?')
_BLANK_LINES: Final = re.compile(rb"\n{2,}")


def _second_parts(block: bytes) -> list[bytes]:
    """Return the second part of each line, or nothing unless all lines have two parts, or all have three.

    Single spaces divide the parts. Nearly all blocks are like that, and splitting takes half the time of a search.
    """
    lines = block.count(b"\n")
    parts = block.replace(b"\n", b" \n").split(b" ")[1:]
    each = len(parts) // lines
    if each not in (2, 3) or each * lines != len(parts):
        return []
    first, second = b"".join(parts[::each]), parts[1::each]
    # If the first parts have all the line feeds, each of them begins a line.
    return [] if first.count(b"\n") != lines or b"#" in first or b"" in second else second


def count_influx(block: bytes) -> int:
    """Count one row per field."""
    plain = b'"' not in block and b"\\" not in block
    fields = _second_parts(block) if plain else []
    if not fields:
        if b"\n\n" in block:
            block = _BLANK_LINES.sub(b"\n", block)
        fields = (_PLAIN if plain else _ESCAPED).findall(block)
    joined = b"\n".join(fields)
    return len(fields) + (joined if plain else _MEANINGLESS.sub(b"", joined)).count(b",")
