"""Labels of rows in line formats and in the native format, for the check of their tenants.

Each reader yields the labels of every row that any release may find. A line whose labels could be read in several ways
is refused. ``names`` checks names without reading values, so it is faster and accepts more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from vmgw_core.rows.lines import column_index, csv_cells

from .tenants import Row, Tenants, names_tenant, unclear

_LINE: Final = re.compile(rb"[^\n]+")
_BLANK: Final = rb"[ \t]*+"
_NAME: Final = rb'(?:[^"=,{} \t]++|"(?:[^"\\]|\\.)*+")'
_VALUE: Final = rb'"((?:[^"\\]|\\.)*+)"'
_LABEL: Final = re.compile(rb"%b(%b)%b(?:=%b%b%b)?(,|(?=\}))" % (_BLANK, _NAME, _BLANK, _BLANK, _VALUE, _BLANK))
_SERIES: Final = re.compile(rb"[^{ \t]*+%b\{" % _BLANK)
_END: Final = re.compile(rb"%b\}" % _BLANK)
_METADATA: Final = re.compile(rb"#[ \t]*+(?:HELP|TYPE|UNIT)", re.IGNORECASE)


def text_rows(block: bytes, tenants: Tenants) -> Iterator[Row]:
    """Read Prometheus text. Comments with metadata are for tenant 0:0."""
    for match in _LINE.finditer(block):
        line = match[0].removesuffix(b"\r").lstrip(b" \t")
        if line.startswith(b"#"):
            if _METADATA.match(line):
                tenants.check_default("metadata (# HELP, # TYPE)")
        elif b"{" in line:
            yield _text_labels(line)
        elif line:
            yield ()


def _text_labels(line: bytes) -> list[tuple[bytes, bytes | None]]:
    """Read the labels of a line. For older releases, quotes are a part of a quoted name."""
    labels: list[tuple[bytes, bytes | None]] = []
    start = _SERIES.match(line)
    at = start.end() if start else len(line)
    while not _END.match(line, at):
        label = _LABEL.match(line, at)
        if label is None:
            raise unclear("the labels of a line cannot be read in one way only")
        labels.append((label[1], label[2]))
        at = label.end()
    return labels


def influx_rows(block: bytes, _: Tenants) -> Iterator[Row]:
    """Read the tags of InfluxDB lines."""
    for match in _LINE.finditer(block):
        line = match[0]
        if line[:1] in b" \t":
            raise unclear("an InfluxDB line begins with a blank")
        if not line.startswith(b"#") and line != b"\r":
            yield _influx_tags(line)


_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)


def _influx_tags(line: bytes) -> list[tuple[bytes, bytes | None]]:
    if b"\\" not in line:
        tags = line.split(b" ", 1)[0].split(b",")[1:]
        return [(name, value) for name, _, value in (tag.partition(b"=") for tag in tags)]
    masked = _ESCAPE.sub(b"__", line).split(b" ", 1)[0]
    if rb"\\" in line[: len(masked)]:
        raise unclear("an InfluxDB line has two backslashes in its tags")
    labels: list[tuple[bytes, bytes | None]] = []
    at = masked.find(b",")
    while at >= 0:
        end = masked.find(b",", at + 1)
        begin, stop = at + 1, len(masked) if end < 0 else end
        split = begin + len(masked[begin:stop].partition(b"=")[0])
        labels.append((line[begin:split], line[split + 1 : stop]))
        at = end
    return labels


_MAX_PARSED: Final = 1 << 20  # bytes of the labels of a line
_WS: Final = rb"[ \t\r]*+"
_METRIC: Final = re.compile(rb'%b\{%b"metric"%b:%b(\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})' % (_WS, _WS, _WS, _WS))


def json_rows(block: bytes, _: Tenants) -> Iterator[Row]:
    """Read JSON lines, as ``/api/v1/export`` writes them: with ``metric`` first."""
    for match in _LINE.finditer(block):
        line = match[0]
        if not line.strip(b" \t\r"):
            continue
        found = _METRIC.match(line)
        if found and len(found[1]) > _MAX_PARSED:
            raise unclear(f"a JSON line has more than {_MAX_PARSED} bytes of labels")
        try:
            pairs = json.loads(found[1].decode("utf-8", "surrogateescape"), object_pairs_hook=list) if found else None
        except (ValueError, RecursionError):
            pairs = None
        if pairs is None:
            raise unclear('a JSON line must be valid and begin with "metric"')
        yield json_labels(pairs)


def json_labels(pairs: list[tuple[str, Any]]) -> list[tuple[bytes, bytes | None]]:
    """Return the labels in the pairs of an object; only texts are values."""
    return [
        (name.encode("utf-8", "replace"), value.encode("utf-8", "replace") if isinstance(value, str) else None)
        for name, value in pairs
    ]


def csv_rows_of(formats: list[str]) -> Callable[[bytes, Tenants], Iterator[Row]]:
    """Return a reader of CSV lines whose columns are as the argument ``format`` says."""
    if len(formats) != 1:
        raise unclear("the argument format= must be given once")
    columns = [parts for column in formats[0].split(",") if len(parts := column.split(":", 2)) == 3]
    labels = [
        (column_index(place), name.encode()) for place, kind, name in columns if kind == "label" and names_tenant(name)
    ]

    def read(block: bytes, _: Tenants) -> Iterator[Row]:
        for match in _LINE.finditer(block):
            line = match[0].removesuffix(b"\r")
            if not line:
                continue
            cells = csv_cells(line) if labels else []
            if cells is None:
                raise unclear("a CSV line has a broken quote")
            yield [(name, cells[place] if 0 <= place < len(cells) else None) for place, name in labels]

    return read


def native_row(name: bytes) -> Row:
    """Read the labels of a block: its metric, then keys and values, each with 0x01 after it."""
    _, *labels = name.split(b"\x01")
    if len(labels) % 2 != 1 or labels[-1]:
        raise unclear("the labels of a native block are broken")
    if any(b"\x00" in key for key in labels[:-1:2]):
        raise unclear("the labels of a native block have escapes in their names")
    return list(zip(labels[:-1:2], labels[1::2], strict=True))
