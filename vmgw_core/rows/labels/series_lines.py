"""The labels of series in line formats and in the native format.

A row that releases may read in several ways counts as a series of its own, by all of its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from vmgw_core.rows.lines import column_index, csv_cells

from .series import NAME, Pair, SeriesReader, unread

# --- Prometheus text -------------------------------------------------------------------------------------------------

_LINE: Final = re.compile(rb"[^\n]+")
_SIMPLE: Final = re.compile(
    rb'[ \t]*+([^{"# \t\r][^{" \t]*+)'
    rb'(?:\{((?:[a-zA-Z_][^"=,{} \t]*+="[^"\\]*+"(?:,|(?=\})))*+)(?:(?<=")\}|\}[^"]*+\Z)|[ \t][^{]*+\Z)'
)
_LABEL: Final = re.compile(rb'[^"=,{} \t]++="[^"\\]*+"')
_BLANK: Final = rb"[ \t]*+"
_QUOTED: Final = rb'"((?:[^"\\]|\\.)*+)"'
_ANY_LABEL: Final = re.compile(
    rb"%b(?:%b|([^\"=,{} \t]++))%b(?:=%b%b%b)?(?:,|(?=\}))" % (_BLANK, _QUOTED, _BLANK, _BLANK, _QUOTED, _BLANK)
)
_BLANKS: Final = re.compile(_BLANK)
_ESCAPE: Final = re.compile(rb'\\([\\"n])')


def _text(block: bytes) -> Iterator[Sequence[bytes | Pair]]:
    for match in _LINE.finditer(block):
        line = match[0]
        if simple := _SIMPLE.match(line):
            yield [simple[1], *_LABEL.findall(simple[2])] if simple[2] else [simple[1]]
        elif (row := line.removesuffix(b"\r").lstrip(b" \t")) and not row.startswith(b"#"):
            yield _text_labels(row)


def _text_label(written: bytes | Pair) -> Pair:
    if isinstance(written, tuple):
        return written
    name, found, value = written.partition(b'="')
    return (name, value[:-1]) if found else (NAME, name)


TEXT: Final = SeriesReader(_text, _text_label)


def _text_labels(row: bytes) -> list[Pair]:
    """Read a row with escapes, blanks or quoted names."""
    before, found, _ = row.partition(b"{")
    name = before.rstrip(b" \t")
    names = [name] if name else []
    labels: list[Pair] = []
    ends = False
    at = _end_of_blanks(row, len(before) + 1)
    while found and row[at : at + 1] != b"}":
        label = _ANY_LABEL.match(row, at)
        if label is None:
            return unread(row)
        quoted, plain, value = label.groups()
        if value is not None:
            labels.append((_unescaped(quoted) if plain is None else plain, _unescaped(value)))
        elif quoted is not None:
            names.append(_unescaped(quoted))
        else:
            return unread(row)
        ends = value is not None and not label[0].endswith(b",")
        at = _end_of_blanks(row, label.end())
    if not ends and b'"' in row[at:]:
        return unread(row)  # VictoriaMetrics looks for one more label, behind the brace
    return [(NAME, names[0]), *labels] if found and len(names) == 1 else unread(row)


def _end_of_blanks(row: bytes, at: int) -> int:
    match = _BLANKS.match(row, at)
    return match.end() if match else at


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: b"\n" if match[1] == b"n" else match[1], text)


# --- InfluxDB --------------------------------------------------------------------------------------------------------

_INFLUX: Final = re.compile(rb'((?:[^ \\]|\\.)*+) ++((?:[^ "\\]|\\.|"(?:[^"\\]|\\.)*+")++)(?: [^"]*+)?\Z', re.DOTALL)
_INFLUX_PART: Final = re.compile(rb"((?:[^,\\]|\\.)*+)(?:,|\Z)", re.DOTALL)
_INFLUX_FIELD: Final = re.compile(rb'((?:[^=,"\\]|\\.)++)=((?:[^,"\\]|\\.|"(?:[^"\\]|\\.)*+")*+)(?:,|\Z)', re.DOTALL)
_INFLUX_ESCAPE: Final = re.compile(rb"\\([ ,=\\])")


def _influx(block: bytes) -> Iterator[Sequence[bytes | Pair]]:
    plain = b'"' not in block and b"\\" not in block
    for match in _LINE.finditer(block):
        row = match[0].removesuffix(b"\r")
        if row and not row.startswith(b"#"):
            yield from _plain_influx(row) if plain else _escaped_influx(row)


def _plain_influx(row: bytes) -> Iterator[Sequence[bytes | Pair]]:
    head, _, rest = row.partition(b" ")
    measurement, *tags = head.split(b",")
    for field in rest.lstrip(b" ").partition(b" ")[0].split(b","):
        yield [*tags, _influx_name(measurement, field.partition(b"=")[0])]


def _influx_name(measurement: bytes, field: bytes) -> Pair:
    return NAME, measurement + b"_" + field if measurement else field


def _influx_label(written: bytes | Pair) -> Pair:
    if isinstance(written, tuple):
        return written
    name, _, value = written.partition(b"=")
    return name, value


INFLUX: Final = SeriesReader(_influx, _influx_label)
"""Each field is a series, ``measurement_field``."""


def _escaped_influx(row: bytes) -> Iterator[list[Pair]]:
    match = _INFLUX.match(row)
    if match is None:
        yield from _unread_influx(row)
        return
    fields, at = [], 0
    while at < len(match[2]):
        field = _INFLUX_FIELD.match(match[2], at)
        if field is None:
            yield from _unread_influx(row)
            return
        fields.append(_influx_text(field[1]))
        at = field.end()
    measurement, *parts = _INFLUX_PART.findall(match[1])[:-1] or [b""]
    tags = []
    for part in parts:
        size = len(_INFLUX_ESCAPED.sub(b"__", part).partition(b"=")[0])
        tags.append((_influx_text(part[:size]), _influx_text(part[size + 1 :])))
    for name in fields:
        yield [*tags, _influx_name(_influx_text(measurement), name)]


def _unread_influx(row: bytes) -> Iterator[list[Pair]]:
    """Yield a series for each comma: one of them may be before each field, wherever the fields begin."""
    for number in range(row.count(b",") + 1):
        yield [*unread(row), (NAME, b"%d" % number)]


_INFLUX_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)


def _influx_text(text: bytes) -> bytes:
    return _INFLUX_ESCAPE.sub(rb"\1", text) if b"\\" in text else text


# --- JSON lines, Zabbix ----------------------------------------------------------------------------------------------

_WS: Final = rb"[ \t\r]*+"
_METRIC: Final = re.compile(rb'%b\{%b"metric"%b:%b(\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})' % (_WS, _WS, _WS, _WS))
_MAX_PARSED: Final = 4 << 20
_DECODER: Final = json.JSONDecoder(object_pairs_hook=list, strict=False)  # control characters may stand in strings


_SIMPLE_METRIC: Final = re.compile(rb'\{"metric":\{((?:"[^"\\]*+":"[^"\\]*+"(?:,|(?=\})))*+)\}')
_JSON_LABEL: Final = re.compile(rb'"[^"\\]*+":"[^"\\]*+"')


def _json(block: bytes) -> Iterator[Sequence[bytes | Pair]]:
    for match in _LINE.finditer(block):
        line = match[0]
        if simple := _SIMPLE_METRIC.match(line):
            yield _JSON_LABEL.findall(simple[1])
        elif line.strip(b" \t\r"):
            found = _METRIC.match(line)
            pairs = _parsed(found[1]) if found else None
            yield unread(line) if pairs is None else [(text(name), text(value)) for name, value in pairs]


def _json_label(written: bytes | Pair) -> Pair:
    if isinstance(written, tuple):
        return written
    name, _, value = written[1:-1].partition(b'":"')
    return name, value


def _parsed(data: bytes) -> list[tuple[str, Any]] | None:
    """Parse an object, to a list of pairs for each object in it; None if it has no single reading."""
    if len(data) > _MAX_PARSED or has_half_characters(data):
        return None
    try:
        found = _DECODER.decode(data.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def text(value: object) -> bytes:
    """Return a value of JSON as a label. What is no text becomes bytes that no text has."""
    return value.encode() if isinstance(value, str) else b"\xff" + repr(value).encode()


_JSON_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F])|.)", re.DOTALL
)


def has_half_characters(data: bytes) -> bool:
    """Return whether JSON has an escape for a half of a character. VictoriaMetrics takes it as it is written."""
    return b"\\u" in data and any(match[1] for match in _JSON_ESCAPE.finditer(data))


def _zabbix(block: bytes) -> Iterator[list[Pair]]:
    for match in _LINE.finditer(block):
        line = match[0]
        if not line.strip(b" \t\r"):
            continue
        pairs = _parsed(line) if line.lstrip(b" \t\r").startswith(b"{") else None
        if pairs is None:
            yield unread(line)
        else:
            yield [pair for key, value in sorted(pairs, key=_key) for pair in _zabbix_labels(key, value)]


def _key(pair: tuple[str, Any]) -> str:
    return pair[0]


def _zabbix_labels(key: str, value: Any) -> Iterator[Pair]:  # noqa: ANN401
    if key == "item_tags" and isinstance(value, list):
        yield from ((b"tag " + text(tag[:1]), text(tag)) for tag in value if isinstance(tag, list))
    elif key in ("host", "name", "groups"):
        yield key.encode(), text(value)


# --- CSV, native -----------------------------------------------------------------------------------------------------


JSON: Final = SeriesReader(_json, _json_label)
"""Lines as ``/api/v1/export`` writes them: with ``metric`` first."""
ZABBIX: Final = SeriesReader(_zabbix)


def csv_series_of(formats: list[str]) -> SeriesReader:
    """Return a reader of CSV lines: each column of type metric is a series."""
    columns = [parts for column in formats[0].split(",") if len(parts := column.split(":", 2)) == 3]
    labels = [(column_index(place), name.encode()) for place, kind, name in columns if kind == "label"]
    metrics = [(column_index(place), name.encode()) for place, kind, name in columns if kind == "metric"]

    def read(block: bytes) -> Iterator[list[Pair]]:
        for match in _LINE.finditer(block):
            line = match[0].removesuffix(b"\r")
            cells = csv_cells(line) if line else []
            if cells is None:
                yield unread(line)
                continue
            of_row = [(name, cells[place]) for place, name in labels if 0 <= place < len(cells)]
            yield from ([(NAME, name), *of_row] for place, name in metrics if 0 <= place < len(cells) and cells[place])

    return SeriesReader(read)


_NATIVE_BYTES: Final = {b"\x000": b"\x00", b"\x001": b"\x01", b"\x002": b"\x02"}
_NATIVE_ESCAPE: Final = re.compile(rb"\x00[012]")


def _native(name: bytes) -> Iterator[list[Pair]]:
    """Read the name of a block: its metric, then keys and values, each with 0x01 after it."""
    group, *labels = (_NATIVE_ESCAPE.sub(lambda match: _NATIVE_BYTES[match[0]], part) for part in name.split(b"\x01"))
    if len(labels) % 2 != 1 or labels[-1]:
        yield unread(name)
    else:
        yield [(NAME, group), *zip(labels[:-1:2], labels[1::2], strict=True)]


NATIVE: Final = SeriesReader(_native)
"""Reads the name of a block."""
