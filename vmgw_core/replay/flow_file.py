"""A lazy reader of mitmproxy's flow files, which are typed netstrings.

The format is mitmproxy's (``mitmproxy.io.tnetstring``): ``LENGTH:DATA`` and a type: ``,`` bytes, ``;`` text, ``#``
integer, ``^`` float, ``!`` boolean, ``~`` null, ``]`` list, ``}`` mapping. mitmproxy reads some 200 values per flow;
this reader skips those that are not needed, by their length.
"""

from __future__ import annotations

from typing import Final

MAX_PREFIX: Final = 12
"""The most digits of a length, as in mitmproxy."""

_MAX_DEPTH: Final = 32
_COMMA, _TEXT, _INTEGER, _FLOAT, _BOOLEAN, _NULL, _LIST, _MAPPING = b",;#^!~]}"

Span = tuple[int, int, int]
"""The begin and end of a value's data, and its type."""


class NetstringError(ValueError):
    """A bad netstring. ``offset`` counts from the beginning of the data."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def frame(data: bytes | bytearray, start: int, end: int) -> Span | None:
    """Return the netstring at ``start``, or None if it continues after ``end``.

    Raises ``NetstringError`` if there is no netstring.
    """
    colon = data.find(b":", start, min(end, start + MAX_PREFIX + 1))
    if colon < 0:
        if end - start > MAX_PREFIX or not (data[start:end].isdigit() or start == end):
            raise NetstringError("a length is missing", start)
        return None
    digits = data[start:colon]
    if not digits.isdigit():
        raise NetstringError("a length is not a number", start)
    begin = colon + 1
    stop = begin + int(digits)
    return (begin, stop, data[stop]) if stop < end else None


def spans(data: bytes, span: Span) -> dict[bytes, Span]:
    """Return the unread members of a mapping, by key. Raises ``NetstringError`` if it is broken or not a mapping."""
    position, end, kind = span
    if kind != _MAPPING:
        raise NetstringError("expected a mapping", position)
    members: dict[bytes, Span] = {}
    while position < end:
        key = _inner(data, position, end)
        member = _inner(data, key[1] + 1, end)
        members[data[key[0] : key[1]]] = member
        position = member[1] + 1
    return members


def _inner(data: bytes, start: int, end: int) -> Span:
    """Return the netstring at ``start`` within another one, without a call of ``frame`` for speed."""
    colon = data.find(b":", start, start + MAX_PREFIX + 1)
    digits = data[start:colon]
    if colon < 0 or not digits.isdigit():
        raise NetstringError("a length is missing", start)
    stop = colon + 1 + int(digits)
    if stop >= end:
        raise NetstringError("a value is longer than its container", start)
    return colon + 1, stop, data[stop]


def value(data: bytes, span: Span, depth: int = 0) -> object:
    """Read the value at ``span``; keys of mappings become text.

    Raises ``NetstringError`` if it is broken, of an unknown type, or nested too deeply.
    """
    start, end, kind = span
    try:
        if kind == _COMMA:
            return data[start:end]
        if kind == _TEXT:
            return data[start:end].decode()
        if kind == _INTEGER:
            return int(data[start:end])
        if kind == _FLOAT:
            return float(data[start:end])
    except ValueError:
        raise NetstringError("a value is not of its type", start) from None
    if kind in (_LIST, _MAPPING):
        return _collection(data, span, depth)
    literal = (kind, data[start:end])
    if literal not in _LITERALS:
        raise NetstringError("a value of an unknown type", start)
    return _LITERALS[literal]


_LITERALS: Final = {(_NULL, b""): None, (_BOOLEAN, b"true"): True, (_BOOLEAN, b"false"): False}


def _collection(data: bytes, span: Span, depth: int) -> object:
    position, end, kind = span
    if depth == _MAX_DEPTH:
        raise NetstringError(f"nested deeper than {_MAX_DEPTH} levels", position)
    if kind == _MAPPING:
        members = spans(data, span).items()
        return {key.decode("ascii", "replace"): value(data, member, depth + 1) for key, member in members}
    items: list[object] = []
    while position < end:
        item = _inner(data, position, end)
        items.append(value(data, item, depth + 1))
        position = item[1] + 1
    return items
