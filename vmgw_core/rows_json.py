"""Rows in JSON documents: DataDog, New Relic, OpenTSDB, OpenTelemetry.

VictoriaMetrics reads these whole, so they are held whole here. Python's own parser reads them, and calls back with
the keys and values of each object as it is complete; what is counted is counted there and dropped, so that a
document does not become a tree in memory. All pairs are seen, a key that stands twice too.

Rules of this file:
- what this parser refuses is refused, though the one behind may be more lenient;
- Go matches keys whatever their case where it fills a struct (DataDog, OpenTelemetry), and so do these counters;
- a document too large for that (``MAX_PARSED``) is not parsed: it counts as many rows as it could hold at most.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from .errors import BadRequest, BodyTooLarge, Refusal
from .rows_native import varint
from .rows_protobuf import count_opentelemetry

MAX_PARSED: Final = 4 << 20
"""Bytes of a document that is parsed. A hostile one takes some 20 times its size in memory, and 0.3 seconds."""

Pairs = list[tuple[str, Any]]


def _parse(data: bytes, hook: Callable[[Pairs], object]) -> Any:  # noqa: ANN401
    """The document, with ``hook(pairs)`` in the place of each object."""
    try:
        return json.loads(data.decode("utf-8", "replace"), object_pairs_hook=hook)
    except Refusal:
        raise
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON") from None


def _too_large(data: bytes) -> bool:
    if len(data) <= MAX_PARSED:
        return False
    if data.lstrip()[:1] not in (b"{", b"["):
        raise BadRequest("the body is no JSON object or array")
    return True


_WITH_POINTS: Final = object()


def count_datadog(data: bytes) -> int:
    """One row a point, in ``/api/v1/series`` and ``/api/v2/series``.

    Each series must have a list of points: where one has none, releases before v1.85 insert those of an earlier
    request again (https://github.com/VictoriaMetrics/VictoriaMetrics/issues/3432).
    """
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(f"the DataDog payload is larger than {MAX_PARSED} bytes decoded: send it in parts")
    rows = 0

    def hook(pairs: Pairs) -> object:
        nonlocal rows
        found = None
        for key, value in pairs:
            folded = key.casefold()
            if folded == "points":
                found = _WITH_POINTS if isinstance(value, list) else None
                rows += len(value) if isinstance(value, list) else 0
            elif folded == "series" and isinstance(value, list) and value.count(_WITH_POINTS) != len(value):
                raise BadRequest("a series has no list of points")
        return found

    _parse(data, hook)
    return rows


def count_opentsdb(data: bytes) -> int:
    """One row an object, of one or of an array of them."""
    if _too_large(data):
        return data.count(b"{")
    document = _parse(data, lambda _: _OBJECT)
    return document.count(_OBJECT) if isinstance(document, list) else int(document is _OBJECT)


_OBJECT: Final = object()

# Of an event: what it is, not what was measured.
_EVENT_KEYS: Final = frozenset(("timestamp", "entityKey", "eventType"))


@dataclass(slots=True)
class _Event:
    numbers: int


def count_new_relic(data: bytes) -> int:
    """As many rows an event as it has numbers."""
    if _too_large(data):
        return data.count(b":")
    rows = 0

    def hook(pairs: Pairs) -> _Event:
        nonlocal rows
        numbers = 0
        for key, value in pairs:
            if type(value) in (int, float):
                numbers += key not in _EVENT_KEYS
            elif key == "Events" and isinstance(value, list):
                rows += sum(event.numbers for event in value if isinstance(event, _Event))
        return _Event(numbers)

    _parse(data, hook)
    return rows


# --- OpenTelemetry as JSON -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Point:
    """What an object comes to if it is a data point, or the buckets or the points of one.

    ``bare`` are points without a sum: a summary and an exponential histogram get one all the same.
    """

    rows: int = 1
    bare: int = 1


def count_opentelemetry_json(data: bytes) -> int:
    """As :func:`count_opentelemetry`, of a message in JSON."""
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(f"an OpenTelemetry message in JSON is larger than {MAX_PARSED} bytes: send protobuf")
    rows = 0

    def hook(pairs: Pairs) -> _Point:
        nonlocal rows
        point = _Point()
        for key, value in pairs:
            match key.casefold():
                case "datapoints" if isinstance(value, list):
                    points = [item if isinstance(item, _Point) else _Point() for item in value]
                    rows += sum(item.rows for item in points)
                    point.bare = sum(item.bare for item in points)
                case "summary" | "exponentialhistogram" if isinstance(value, _Point):
                    rows += value.bare
                case "sum" if not isinstance(value, _Point) and value is not None:
                    point.rows += point.bare
                    point.bare = 0
                case "quantilevalues" if isinstance(value, list):
                    point.rows += len(value)
                case "bucketcounts" if isinstance(value, list):
                    point.rows += len(value)
                case "zerocount" if value not in (0, "0"):
                    point.rows += 1
                case "positive" | "negative" if isinstance(value, _Point):
                    point.rows += value.rows - 1
        return point

    _parse(data, hook)
    return rows


# --- OpenTelemetry within Amazon Data Firehose ---------------------------------------------------------------------


def count_firehose(data: bytes) -> int:
    """The rows of the OpenTelemetry messages that the records of a delivery hold."""
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(f"a Firehose delivery is larger than {MAX_PARSED} bytes")
    records: list[bytes] = []

    def hook(pairs: Pairs) -> None:
        records.extend(_record(value) for key, value in pairs if key.casefold() == "data" and value is not None)

    _parse(data, hook)
    return _count_any((b"".join(records),), (message for record in records for message in _delimited(record)))


def _record(value: object) -> bytes:
    """Bytes as Go reads them from JSON: in base64, or as an array of numbers."""
    try:
        if isinstance(value, str):
            return base64.b64decode(value)
        if isinstance(value, list):
            return bytes(value)
    except (ValueError, TypeError):
        pass
    raise BadRequest("the data of a Firehose record is not base64")


def _delimited(record: bytes) -> Iterable[bytes]:
    """The messages of a record, each behind its length as a varint."""
    start = 0
    while start < len(record):
        length, start = varint(record, start, len(record))
        if length > len(record) - start:
            raise BadRequest("a Firehose record breaks off")
        yield record[start : start + length]
        start += length


def _count_any(*readings: Iterable[bytes]) -> int:
    """The most rows that one of the readings gives; releases of VictoriaMetrics differ in how they read."""
    counts: list[int] = []
    for messages in readings:
        try:
            counts.append(sum(map(count_opentelemetry, messages)))
        except BadRequest:
            continue
    if not counts:
        raise BadRequest("the records of the Firehose delivery hold no OpenTelemetry messages")
    return max(counts)
