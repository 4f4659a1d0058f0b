"""Reading mitmproxy's flow files: typed netstrings, of which only what is asked for is made into values.

The format is mitmproxy's (``mitmproxy.io.tnetstring``): ``LENGTH:DATA`` and a type: ``,`` bytes, ``;`` text, ``#``
integer, ``^`` float, ``!`` boolean, ``~`` null, ``]`` list, ``}`` mapping. mitmproxy reads a flow into some 200 values,
one slice each; here what is not needed is stepped over by its length.
"""

from __future__ import annotations

from typing import Final

MAX_PREFIX: Final = 12
"""Digits of a length, as mitmproxy has it."""

_MAX_DEPTH: Final = 32
_COMMA, _TEXT, _INTEGER, _FLOAT, _BOOLEAN, _NULL, _LIST, _MAPPING = b",;#^!~]}"

Span = tuple[int, int, int]
"""Where a value's data begins and ends, and its type."""


class NetstringError(ValueError):
    """Bytes that are no typed netstring. ``offset`` counts from the beginning of the data that was read."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def frame(data: bytes | bytearray, start: int, end: int) -> Span | None:
    """The netstring that begins at ``start``, or None where it goes on behind ``end``.

    Raises:
        NetstringError: there is none.
    """
    colon = data.find(b":", start, min(end, start + MAX_PREFIX + 1))
    if colon < 0:
        if end - start > MAX_PREFIX or not (data[start:end].isdigit() or start == end):
            raise NetstringError("a length is missing", start)
        return None
    digits = data[start:colon]
    if not digits.isdigit():
        raise NetstringError("a length is no number", start)
    begin = colon + 1
    stop = begin + int(digits)
    return (begin, stop, data[stop]) if stop < end else None


def spans(data: bytes, span: Span) -> dict[bytes, Span]:
    """The members of a mapping, by their keys, not read yet.

    Raises:
        NetstringError: it is no mapping, or broken.
    """
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
    """The netstring at ``start``, within another one. The way of nearly every value, hence no call of ``frame``."""
    colon = data.find(b":", start, start + MAX_PREFIX + 1)
    digits = data[start:colon]
    if colon < 0 or not digits.isdigit():
        raise NetstringError("a length is missing", start)
    stop = colon + 1 + int(digits)
    if stop >= end:
        raise NetstringError("a value is longer than what holds it", start)
    return colon + 1, stop, data[stop]


def value(data: bytes, span: Span, depth: int = 0) -> object:
    """The value at ``span``; keys of mappings become text.

    Raises:
        NetstringError: it is broken, of an unknown type, or nested too deep.
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
