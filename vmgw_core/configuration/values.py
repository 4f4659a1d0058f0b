"""Parsers of flag values: Go's spellings, with VictoriaMetrics' additions.

Rules of this file:

- A parser takes the whole text and returns a value or raises a ``ValueError``.
- The error reads ``expected <what>, got <text>``. For secrets the caller shows only the first half.
- Digits are ASCII, and no space is trimmed.

Sources: Go's ``strconv`` and ``time.ParseDuration``, VictoriaMetrics' ``lib/flagutil``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final, TypeAlias

from vmgw_core.base import quoted, string_literal

Value: TypeAlias = bool | int | float | str | tuple[str, ...]
"""The value of a flag: durations are float seconds, sizes are int bytes, arrays are tuples."""

A_BOOL: Final = "true or false"
AN_INT: Final = "an integer such as 10"
A_FLOAT: Final = "a number such as 0.5"
A_DURATION: Final = "a duration such as 5s or 1m30s"
A_SIZE: Final = "a size such as 65536 or 16MiB"

_MAX_INT64: Final = 2**63 - 1
_MAX_SECONDS: Final = Decimal(_MAX_INT64).scaleb(-9)
"""Go counts durations in int64 nanoseconds: about 292 years. Every clock and timer of Python takes this much."""


def refused(expected: str, text: str) -> ValueError:
    """Return the error of a parser, on one line."""
    return ValueError(f"expected {expected}, got {quoted(text)}")


_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_bool(text: str) -> bool:
    """Parse a bool as ``strconv.ParseBool`` does."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise refused(A_BOOL, text)


_INT: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0|[1-9][0-9]*)")


def parse_int(text: str) -> int:
    """Parse a signed 64-bit integer, decimal or with ``0x``, ``0o`` or ``0b``.

    Unlike Go, a bare leading zero is refused: Go reads ``010`` as 8, most people read 10.
    """
    # int64 has up to 19 decimal or 64 binary digits; int() never parses anything longer.
    if len(text) > 80 or not _INT.fullmatch(text):
        raise refused(AN_INT, text)
    value = int(text, 0)
    if not -_MAX_INT64 - 1 <= value <= _MAX_INT64:
        raise refused("an integer of 64 bits", text)
    return value


_DECIMAL: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_FLOAT: Final = re.compile(rf"[+-]?{_DECIMAL}(?:[eE][+-]?[0-9]+)?")


def parse_float(text: str) -> float:
    """Parse a finite decimal number. Unlike Go, ``inf`` and ``nan`` are refused."""
    if not _FLOAT.fullmatch(text) or not math.isfinite(value := float(text)):
        raise refused(A_FLOAT, text)
    return value


_SUBSECONDS: Final = {"ns": -9, "us": -6, "\u00b5s": -6, "\u03bcs": -6, "ms": -3}  # micro sign and Greek letter too
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_UNIT_SECONDS: Final = {unit: Decimal(seconds) for unit, seconds in _SECONDS.items()} | {
    unit: Decimal(1).scaleb(exponent) for unit, exponent in _SUBSECONDS.items()
}
_DURATION_PART: Final = re.compile(rf"({_DECIMAL})({'|'.join(filter(None, (*_SUBSECONDS, *_SECONDS)))})")
_DURATION: Final = re.compile(rf"{_DECIMAL}|(?:{_DURATION_PART.pattern})+")


def parse_duration(text: str) -> float:
    """Parse seconds from ``1h2m3.5s`` or ``300ms`` (Go), ``1d``, ``2w``, ``1y`` or plain seconds (VictoriaMetrics).

    Zero is allowed, a sign is not.
    """
    if not _DURATION.fullmatch(text):
        raise refused(A_DURATION, text)
    parts = _DURATION_PART.findall(text) or [(text, "")]
    # Decimal, so that 300ms is the float nearest to 0.3.
    seconds = sum((Decimal(number) * _UNIT_SECONDS[unit] for number, unit in parts), Decimal(0))
    if seconds > _MAX_SECONDS:
        raise refused("a duration of at most 292 years", text)
    return float(seconds)


_PREFIXES: Final = ("", "k", "m", "g", "t")
_SIZE: Final = re.compile(rf"({_DECIMAL})((?:[KMGT]i?B)?)", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Parse bytes from ``65536``, ``64KiB`` or ``1.5GB``; as in VictoriaMetrics, the suffix has any case."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise refused(A_SIZE, text)
    suffix = match[2].lower()
    size = Decimal(match[1]) * (1024 if "i" in suffix else 1000) ** _PREFIXES.index(suffix[:1])
    if size > _MAX_INT64:
        raise refused("a size of at most 8EiB", text)
    return int(size)


_BRACKETS: Final = {"{": "}", "[": "]", "(": ")"}
_COMPLETE_QUOTE: Final = r""""[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+'|`[^`]*+`"""
_GROUP_TOKEN: Final = re.compile(rf"""{_COMPLETE_QUOTE}|[\[\]{{}}()"'`]""", re.DOTALL)
_ITEM_TOKEN: Final = re.compile(r"""[,"'`{\[(]""")


def parse_array(text: str) -> tuple[str, ...]:
    r"""Parse the items of an array flag, by VictoriaMetrics' rules.

    - Commas separate items; a comma inside quotes (double, single, back) or brackets (``{}``, ``[]``, ``()``) does not.
    - An unclosed quote or bracket is an ordinary character.
    - Quotes that wrap a whole item are removed: double quotes with Go's escapes, single ones with ``\'`` and ``\\``,
      backquotes as they are.
    - Nothing is trimmed, so PEM text keeps its newlines; ``""`` is one empty item, an empty text is no item.
    """
    return tuple(_unwrapped(item) for item in _items(text)) if text else ()


def format_array(items: Iterable[str]) -> str:
    """Return the text that `parse_array` reads as these items."""
    listed = tuple(items)
    plain = ",".join(listed)
    if parse_array(plain) == listed:
        return plain
    return ",".join(string_literal(item) if not item or _ITEM_TOKEN.search(item) else item for item in listed)


def _items(text: str) -> Iterator[str]:
    begin = position = 0
    while token := _ITEM_TOKEN.search(text, position):
        if token[0] == ",":
            yield text[begin : token.start()]
            begin = position = token.end()
        else:
            position = _group_end(text, token.start()) or token.end()
    yield text[begin:]


def _group_end(text: str, start: int) -> int | None:
    """Return the position after the end of the quote or bracket at ``start``; None if it is not closed."""
    awaited: list[str] = []
    for token in _GROUP_TOKEN.finditer(text, start):
        symbol = token[0]
        if symbol in _BRACKETS:
            awaited.append(_BRACKETS[symbol])
        elif len(symbol) == 1 and (not awaited or symbol != awaited.pop()):
            return None  # a lone quote, or a bracket that closes another one
        if not awaited:
            return token.end()
    return None


def _unwrapped(item: str) -> str:
    if not item.startswith(('"', "'", "`")) or _group_end(item, 0) != len(item):
        return item
    quote, inner = item[0], item[1:-1]
    if quote == "`":
        return inner
    if quote == '"':
        try:
            return _go_unquoted(inner)
        except (ValueError, OverflowError):  # of chr()
            pass  # Go refuses it; VictoriaMetrics then undoes the two escapes that quoting needs.
    return re.sub(rf"\\([{quote}\\])", r"\1", inner)


_ESCAPE: Final = re.compile(
    rb'\\(?:([abfnrtv\\"])|([0-3][0-7]{2})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))?'
)
_ESCAPED: Final = dict(zip(b'abfnrtv\\"', b'\a\b\f\n\r\t\v\\"', strict=True))


def _go_unquoted(inner: str) -> str:
    """Unquote ``inner`` as ``strconv.Unquote`` does in double quotes; ValueError if Go refuses it."""
    if "\n" in inner:
        raise ValueError("a newline inside double quotes")
    # On bytes, since \x and octal escapes are bytes of UTF-8.
    return _ESCAPE.sub(_escaped_bytes, inner.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _escaped_bytes(escape: re.Match[bytes]) -> bytes:
    single, octal, byte, short, long = escape.groups()
    if single:
        return bytes([_ESCAPED[single[0]]])
    if octal:
        return bytes([int(octal, 8)])
    if byte:
        return bytes([int(byte, 16)])
    if code_point := short or long:
        return chr(int(code_point, 16)).encode()
    raise ValueError("an unknown escape inside double quotes")
