r"""Label names that may be written, in every protocol.

VictoriaMetrics puts its own entries beside those of label names in its index: 0xFE begins the key of a composite
filter, 0xFF that of a reversed name. A client's label name that begins so changes what others' queries find, and it,
or a series without a name, can end the storage process. So a label name is valid UTF-8 without control characters
(both bytes never occur in UTF-8), and a series has a metric name.

Rules of this file:
- a check may refuse what VictoriaMetrics would skip, but it accepts nothing that VictoriaMetrics would store under
  a bad name, in the dialect of any release;
- nearly all blocks of lines are cleared by a few searches in C. Only the rest is read with an expression that walks
  over good names, in linear time, and stops where none follows.
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
"""The line within a block that is at fault, counted from 0, and what is wrong with it."""
CheckBlock = Callable[[bytes], Fault | None]
"""Checks whole lines. A line feed stands before each, and none after the last."""

_BAD: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters; surrogates stand for invalid UTF-8
_SHOWN: Final = 80  # characters of a name in a message

# RFC 3629, section 4, without the control characters U+0080 to U+009F.
_BEYOND_ASCII: Final = (
    rb"\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


def _name(without: bytes) -> bytes:
    """The expression of a piece of a good name, in which the characters ``without`` do not occur."""
    ascii_characters = b"".join(b"\\x%02x" % code for code in range(0x20, 0x7F) if code not in without)
    return b"(?:[%b]++|%b)" % (ascii_characters, _BEYOND_ASCII)


def shown(name: str | bytes) -> str:
    """Return a name as messages show it: quoted, in printable ASCII."""
    return quoted(name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name, _SHOWN)


def fault_of(name: str | bytes) -> str:
    """What is wrong with a label name, or ""."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if not text:
        return "a label has an empty name"
    if _BAD.search(text):
        return f"the label name {shown(text)} is not valid UTF-8 or has a control character"
    return ""


def check_names(names: Iterable[str | bytes], where: str) -> None:
    """Refuse bad names among ``names``.

    Raises:
        BadLabels: ``where`` has one.
    """
    for name in names:
        if fault := fault_of(name):
            raise BadLabels(f"{where}: {fault}")


def nameless(where: str) -> BadLabels:
    """The refusal for a series without a metric name."""
    return BadLabels(f"{where} has no metric name")


# --- names in the URL ----------------------------------------------------------------------------------------------

_BASE64: Final = "@base64"


def grouping_names(path: str) -> list[str]:
    """Label names in a Pushgateway path, ``…/metrics/job/<job>{/<name>/<value>}``; their values may be in base64.

    https://github.com/prometheus/pushgateway#url

    Args:
        path: decoded, as a whole or from ``/metrics/job`` on.
    """
    _, found, rest = path.partition("/metrics/job")
    return [name.removesuffix(_BASE64) for name in f"job{rest}".split("/")[::2]] if found else []


def check_head(head: RequestHead) -> None:
    """Check the label names that the URL adds to each series: ``extra_label``, ``format``, Pushgateway's path.

    Raises:
        BadLabels: one of them is bad.
        Refusal: the URL cannot be read.
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


# --- lines ---------------------------------------------------------------------------------------------------------

_CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x0A, 0x0D})
_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")


def is_plain(block: bytes) -> bool:
    """Whether a block is valid UTF-8 without control characters and backslashes: names in it can only be good."""
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
    """The fault where ``match`` ends: a name up to ``end``."""
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
    """Of Prometheus text. VictoriaMetrics itself skips a line without a metric name."""
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
    """Of InfluxDB line protocol: the names of tags. A field always gives the series a name, and empty ones no label."""
    if is_plain(block):
        return None
    match = _BAD_INFLUX.search(block)
    return match and _fault_at(block, match, _INFLUX_NAME_END)
