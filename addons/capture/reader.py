"""Reads captured requests from files: mitmproxy's flows of any version, and HAR.

mitmproxy's reader makes some 200 objects of each flow. This one skips what a decision does not need, and reads the file
in pieces, so that memory does not depend on its size. Flows of older formats use mitmproxy's migration.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mitmproxy.version import FLOW_FORMAT_VERSION

from vmgw_addons._mitmproxy import compat, tnetstring
from vmgw_core.base import FieldError, as_list, as_object, as_text
from vmgw_core.errors import ConfigurationError
from vmgw_core.http import RequestHead
from vmgw_core.replay import METADATA_KEY, Captured, NetstringError, frame, from_metadata, har, spans, value

_PIECE: Final = 1 << 20  # bytes read at once
_MAX_FLOW: Final = 1 << 30  # bytes of one flow, and of a HAR file, which is one JSON text
_RECORD: Final = METADATA_KEY.encode()
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One flow of a file, numbered from 1. ``captured`` is None if it is not an HTTP request."""

    number: int
    captured: Captured | None


class _Broken(ValueError):
    """A flow that cannot be read."""


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open the file at ``path``, or standard input for ``-``. Raises ``ConfigurationError``."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    with file:
        yield file


def read(file: BinaryIO, name: str) -> Iterator[Entry]:
    """Read all flows of a file, in order.

    Raises:
        ConfigurationError: a flow cannot be read; names its number and its place in the file.
    """
    number, place = 0, "at byte 0"
    try:
        first = file.read(_PIECE).removeprefix(_BOM)
        if first.startswith(b"{"):
            for entry in _har_entries(first, file):
                number += 1
                place = f"log.entries[{number - 1}]"
                yield Entry(number=number, captured=har.captured(entry))
            return
        for offset, size, data in _frames(first, file):
            number += 1
            place = f"at byte {offset}"
            if data is None:
                raise _Broken(f"the file ends within it, after {size} bytes")
            yield Entry(number=number, captured=_captured(data))
    except OSError as error:
        raise ConfigurationError(f"cannot read {name}: {error.strerror}") from None
    except (_Broken, FieldError, NetstringError) as error:
        raise ConfigurationError(f"{name}: flow {number} ({place}) cannot be read: {error}") from None


def _har_entries(first: bytes, file: BinaryIO) -> Sequence[object]:
    document = first + file.read(_MAX_FLOW)
    if len(document) > _MAX_FLOW:
        raise _Broken("a HAR file of more than 1 GiB")
    return har.entries(document)


def _frames(first: bytes, file: BinaryIO) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield each flow's offset, size and netstring, which is None if the file ends within it."""
    buffer, position, base = bytearray(first), 0, 0  # base: the buffer's offset in the file
    while True:
        try:
            span = frame(buffer, position, len(buffer))
        except NetstringError:
            yield base + position, 0, bytes(buffer[position : position + 100])  # parsing it raises the same error
            return
        if span is not None:
            yield base + position, span[1] + 1 - position, bytes(buffer[position : span[1] + 1])
            position = span[1] + 1
            continue
        rest = len(buffer) - position
        piece = file.read(_PIECE) if rest <= _MAX_FLOW else b""
        if not piece:
            if rest:
                yield base + position, rest, None
            return
        del buffer[:position]
        buffer += piece
        base, position = base + position, 0


# --- one flow ------------------------------------------------------------------------------------------------------


def _captured(data: bytes) -> Captured | None:
    """Return the request of one flow: from the gateway's record, as the client sent it, or from the flow."""
    span = frame(data, 0, len(data))
    if span is None:
        raise _Broken("it is incomplete")
    members = spans(data, span)
    if b"metadata" in members:
        record = spans(data, members[b"metadata"]).get(_RECORD)
        if record is not None:
            return from_metadata(value(data, record))
    if value(data, members[b"version"]) == FLOW_FORMAT_VERSION if b"version" in members else False:
        if value(data, members.get(b"type", (0, 0, 0x7E))) != "http" or b"request" not in members:
            return None
        wanted = {key.decode(): value(data, members[key]) for key in (b"request", b"client_conn") if key in members}
        return _from_flow(wanted)
    return _migrated(data)


def _migrated(data: bytes) -> Captured | None:
    try:
        flow = compat.migrate_flow(tnetstring.loads(data))  # type: ignore[arg-type]
    except Exception as error:  # migrating something else raises anything
        raise _Broken(f"not a flow in a format that mitmproxy reads: {error}") from None
    return _from_flow({str(key): item for key, item in flow.items()}) if flow.get("type") == "http" else None


def _from_flow(flow: dict[str, object]) -> Captured:
    """Read the flow's request: there is no record of the gateway."""
    request = as_object(flow.get("request"), "request")
    headers = []
    for item in as_list(request.get("headers"), "request.headers"):
        pair = as_list(item, "request.headers")
        if len(pair) != 2 or not all(isinstance(text, bytes) for text in pair):
            raise FieldError("request.headers", "expected pairs of bytes")
        headers.append((_bytes(pair[0]), _bytes(pair[1])))
    peer = as_object(flow.get("client_conn", {}), "client_conn").get("peername")
    at = request.get("timestamp_start")
    if not isinstance(at, int | float):
        raise FieldError("request.timestamp_start", "expected a number")
    content = request.get("content")
    head = RequestHead(
        method=_bytes(request.get("method")).decode("ascii", "replace"),
        target=_bytes(request.get("path")).decode("utf-8", "surrogateescape"),
        headers=tuple(headers),
        client=as_text(peer[0], "client_conn.peername") if isinstance(peer, list | tuple) and peer else "unknown",
    )
    return Captured(head=head, at=at, form=None if content is None else _bytes(content))


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise FieldError("request", "expected bytes")
    return item
