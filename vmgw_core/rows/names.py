r"""Checks of label names in writes.

The index of VictoriaMetrics has entries of its own beside label names: 0xFE begins the key of a composite filter, 0xFF
that of a reversed name. A label name that begins with them changes the results of others; such a name, or a series
without a name, can crash the storage. So a label name must be valid UTF-8 without control characters (UTF-8 has neither
byte), and a series must have a metric name.

Rules of this file:
- a check may refuse what VictoriaMetrics skips, but accepts nothing that any release would store under a bad name;
- a few searches in C accept nearly all blocks of lines. An expression then walks over the good names of the rest, in
  linear time, and stops at the first bad one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from vmgw_core.base import quoted
from vmgw_core.errors import BadLabels
from vmgw_core.http import RequestHead, decoded_key, split_pairs
from vmgw_core.routing import decode_path

Fault = tuple[int, str]
"""The bad line of a block, counted from 0, and its fault."""
CheckBlock = Callable[[bytes], Fault | None]
"""Checks whole lines, each after a line feed."""

_BAD: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters; surrogates stand for invalid UTF-8
_SHOWN: Final = 80  # characters of a name in a message

# RFC 3629, section 4, without the control characters U+0080 to U+009F.
_BEYOND_ASCII: Final = (
    rb"\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


def _name(without: bytes) -> bytes:
    """Return the expression of a piece of a good name without the characters ``without``."""
    ascii_characters = b"".join(b"\\x%02x" % code for code in range(0x20, 0x7F) if code not in without)
    return b"(?:[%b]++|%b)" % (ascii_characters, _BEYOND_ASCII)


def shown(name: str | bytes) -> str:
    """Return a name as messages show it: quoted, in printable ASCII."""
    return quoted(name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name, _SHOWN)


def fault_of(name: str | bytes) -> str:
    """Return the fault of a label name, or ""."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if not text:
        return "a label has an empty name"
    if _BAD.search(text):
        return f"the label name {shown(text)} is not valid UTF-8 or has a control character"
    return ""


def check_names(names: Iterable[str | bytes], where: str) -> None:
    """Refuse bad names among ``names``. Raises ``BadLabels`` if ``where`` has one."""
    for name in names:
        if fault := fault_of(name):
            raise BadLabels(f"{where}: {fault}")


def nameless(where: str) -> BadLabels:
    return BadLabels(f"{where} has no metric name")


_BASE64: Final = "@base64"


def grouping_names(path: str) -> list[str]:
    """Return the label names in a Pushgateway path, ``…/metrics/job/<job>{/<name>/<value>}``; values may be in base64.

    https://github.com/prometheus/pushgateway#url

    ``path``: decoded, as a whole or from ``/metrics/job`` on.
    """
    _, found, rest = path.partition("/metrics/job")
    return [name.removesuffix(_BASE64) for name in f"job{rest}".split("/")[::2]] if found else []


def check_head(head: RequestHead) -> None:
    """Check the label names that the URL adds to each series: ``extra_label``, ``format``, Pushgateway's path.

    Raises ``BadLabels`` if one of them is bad, and ``Refusal`` if the URL cannot be read.
    """
    raw, _, query = head.target.partition("?")
    if "/metrics/job" in raw:
        check_names(grouping_names(decode_path(raw)), "the path")
    if not query:
        return
    for pair in split_pairs(query, "URL"):
        key = decoded_key(pair)
        if key not in ("extra_label", "format"):
            continue
        value = unquote_to_bytes(pair.partition("=")[2].replace("+", " "))
        if key == "extra_label":
            check_names([value.partition(b"=")[0]], "extra_label")
        else:
            columns = (column.split(b":", 2) for column in value.split(b","))
            check_names([parts[2] for parts in columns if len(parts) == 3 and parts[1] == b"label"], "format")


_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x0A, 0x0D})
_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")


def is_plain(block: bytes) -> bool:
    """Return whether a block is valid UTF-8 without control characters and backslashes, so that all names are good."""
    if b"\\" in block or len(block.translate(None, _CONTROLS)) != len(block):
        return False
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n") + block.endswith(b"\r"):
        return False
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return not _C1.search(block)


def _fault_at(block: bytes, match: re.Match[bytes], end: re.Pattern[bytes]) -> Fault:
    """Return the fault of the name after ``match``, up to ``end``."""
    start = match.end()
    found = end.search(block, start)
    name = block[start : found.start() if found else len(block)].strip(b' \t"')
    return block.count(b"\n", 0, start) - 1, fault_of(name) or f"the labels at {shown(name)} cannot be read"


_BLANK: Final = rb"[ \t]*+"
_TEXT_VALUE: Final = rb'"(?:[^"\\\n]|\\[^\n])*+"'
_TEXT_LABEL: Final = rb'(?:%b++%b=%b%b|"(?:%b|\\["\\])++"(?:%b=%b%b|(?![ ,]*+\t)))' % (
    _name(b'"=,{}'), _BLANK, _BLANK, _TEXT_VALUE, _name(b'"=\\'), _BLANK, _BLANK, _TEXT_VALUE,
)  # fmt: skip
_BAD_TEXT: Final = re.compile(
    rb"\n(?!%b#)[^{\n]*+\{%b(?:%b%b(?:,%b|(?=\})))*+(?!\})" % (_BLANK, _BLANK, _TEXT_LABEL, _BLANK, _BLANK)
)
_TEXT_NAME_END: Final = re.compile(rb"[=\n]")


def text_fault(block: bytes) -> Fault | None:
    """Find a fault in Prometheus text. VictoriaMetrics skips lines without a metric name."""
    if is_plain(block):
        return None
    match = _BAD_TEXT.search(block)
    return match and _fault_at(block, match, _TEXT_NAME_END)


_INFLUX_KEY: Final = rb"(?:%b|\\[^\n\x00-\x1f\x7f-\xff]|\\(?=[\x80-\xff]))++" % _name(b",= \\")
_INFLUX_VALUE: Final = rb"(?:[^, \n\\]|\\[^\n]?)*+"
_BAD_INFLUX: Final = re.compile(
    rb"\n(?!#)%b(?:,(?:%b)?+(?:=%b)?+(?=[, \n]|\Z))*+," % (_INFLUX_VALUE, _INFLUX_KEY, _INFLUX_VALUE)
)
_INFLUX_NAME_END: Final = re.compile(rb"[=\n]")


def influx_fault(block: bytes) -> Fault | None:
    """Find a fault in the tags of InfluxDB lines. Fields name the series; empty ones become no label."""
    if is_plain(block):
        return None
    match = _BAD_INFLUX.search(block)
    return match and _fault_at(block, match, _INFLUX_NAME_END)
