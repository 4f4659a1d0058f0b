"""Label names in lines of JSON: ``/api/v1/import`` and Zabbix.

VictoriaMetrics' parser (fastjson) accepts control characters and invalid UTF-8 in strings, and escapes may be control
characters. Only lines with any of these are parsed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from .names import Fault, fault_of, is_plain

_MAX_PARSED: Final = 4 << 20  # bytes of a line, or of a set of labels, that is parsed
_MAX_STRING: Final = 60_000
"""Bytes of all tags of a Zabbix item. VictoriaMetrics v1.150 panics on more than 65,535."""

Pairs = list[tuple[str, Any]]

_LINE: Final = re.compile(rb"[^\n]+")
_FILLED: Final = re.compile(rb"\n\r*+[^\r\n]")
_WS: Final = rb"[ \t\r]*+"
_METRIC: Final = rb'%b\{%b"metric"%b:%b' % (_WS, _WS, _WS, _WS)
_NAMED: Final = re.compile(rb'\n%b\{%b"__name__"%b:%b"[^"\\]' % (_METRIC, _WS, _WS, _WS))
_EMPTY_KEY: Final = re.compile(rb'[{,]%b""' % _WS)
_LABELS: Final = re.compile(rb'%b(\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})' % _METRIC)


def json_lines_fault(block: bytes) -> Fault | None:
    """Find a fault in JSON lines. VictoriaMetrics skips lines without an object ``metric``."""
    if (
        is_plain(block)
        and len(_NAMED.findall(block)) == len(_FILLED.findall(block))
        and (b'""' not in block or not _EMPTY_KEY.search(block))
    ):
        return None
    return _first(block, _import_fault)


def _first(block: bytes, fault: Callable[[bytes], str]) -> Fault | None:
    for match in _LINE.finditer(block):
        if found := fault(match[0]):
            return block.count(b"\n", 0, match.start()) - 1, found
    return None


def _parse(data: bytes, hook: Callable[[Pairs], object]) -> str:
    """Parse with ``hook`` for each object; return the fault of the document, or ""."""
    if len(data) > _MAX_PARSED:
        return f'its labels cannot be read in {len(data)} bytes of JSON: put "metric" first, or send shorter lines'
    try:
        json.loads(data.decode("utf-8", "surrogateescape"), object_pairs_hook=hook, **_LENIENT)
    except (ValueError, RecursionError):
        return "it is not valid JSON"
    return ""


_LENIENT: Final[dict[str, Any]] = {"strict": False}  # control characters may stand in strings


def _import_fault(line: bytes) -> str:
    if not line.strip(b" \t\r"):
        return ""
    faults: list[str] = []
    if (labels := _LABELS.match(line)) is not None:
        return _parse(labels[1], lambda pairs: faults.append(_labels_fault(pairs))) or max(faults)

    def hook(pairs: Pairs) -> Pairs:
        faults.extend(_labels_fault(value) for key, value in pairs if key == "metric" and _is_object(value))
        return _Object(pairs)

    return _parse(line, hook) or max(faults, default="")


class _Object(Pairs):
    """A JSON object as a list of pairs, unlike a JSON list."""


def _is_object(value: object) -> bool:
    return isinstance(value, _Object)


def _labels_fault(pairs: Pairs) -> str:
    if not any(key == "__name__" and isinstance(value, str) and value for key, value in pairs):
        return "the series has no metric name"
    return next(filter(None, (fault_of(key) for key, _ in pairs)), "")


def zabbix_fault(block: bytes) -> Fault | None:
    """Find a fault in Zabbix lines: in tags and, with ``-zabbixconnector.addGroupsValue``, in groups."""
    if is_plain(block) and (len(block) <= _MAX_STRING or max(map(len, block.split(b"\n"))) <= _MAX_STRING):
        return None
    return _first(block, _zabbix_fault)


def _zabbix_fault(line: bytes) -> str:
    if is_plain(line) and len(line) <= _MAX_STRING:
        return ""
    names: list[str] = []
    size = 0

    def hook(pairs: Pairs) -> None:
        nonlocal size
        is_tag = any(key == "tag" for key, _ in pairs)
        for key, value in pairs:
            found = value if key == "groups" and isinstance(value, list) else [value]
            texts = [text for text in found if isinstance(text, str)]
            if key in ("tag", "groups"):
                names.extend(filter(None, texts))
            if key in ("tag", "groups", "host", "name") or (key == "value" and is_tag):
                size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    if fault := _parse(line, hook):
        return fault
    if size > _MAX_STRING:
        return f"its tags are longer than {_MAX_STRING} bytes"
    return next(filter(None, map(fault_of, names)), "")
