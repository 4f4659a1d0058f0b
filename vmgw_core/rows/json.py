"""Rows in JSON documents: DataDog, New Relic, OpenTSDB, Amazon Data Firehose.

VictoriaMetrics reads these whole, and so do the counters. Python's parser calls a hook with the pairs of each complete
object, duplicate keys included; the hook counts and drops them, so no tree is built in memory.

Rules of this file:
- what Python's parser refuses is refused, though the backend's may be more lenient;
- Go ignores the case of keys when it fills a struct (DataDog, Firehose), and so do these counters;
- a document above ``MAX_PARSED`` is not parsed: it counts as the most rows that it could hold.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from vmgw_core.errors import BadBody, BadLabels, BodyTooLarge, Refusal

from .names import check_names, is_plain, nameless
from .native import varint
from .protobuf import count_opentelemetry
from .protobuf_names import tag_name

MAX_PARSED: Final = 4 << 20
"""Bytes of the largest parsed document. A hostile one takes 20 times its size in memory, and 0.3 seconds."""

Pairs = list[tuple[str, Any]]


def _parse(data: bytes, hook: Callable[[Pairs], object]) -> Any:  # noqa: ANN401
    """Parse the document, with ``hook(pairs)`` for each object."""
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"), object_pairs_hook=hook)
    except Refusal:
        raise
    except (ValueError, RecursionError):
        raise BadBody("the body is not valid JSON") from None


def _too_large(data: bytes) -> bool:
    if len(data) <= MAX_PARSED:
        return False
    if data.lstrip()[:1] not in (b"{", b"["):
        raise BadBody("the body is not a JSON object or array")
    return True


_WITH_POINTS: Final = object()


def count_datadog(data: bytes, *, check: bool = False) -> int:
    """Count one row per point, in ``/api/v1/series`` and ``/api/v2/series``.

    Each series must have a list of points: for one without, releases before v1.85 insert those of an earlier request
    again (https://github.com/VictoriaMetrics/VictoriaMetrics/issues/3432).
    """
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(f"the DataDog payload is larger than {MAX_PARSED} bytes decoded: send it in parts")
    rows = number = 0

    def hook(pairs: Pairs) -> object:
        nonlocal rows, number
        found = None
        folded = [(key.casefold(), value) for key, value in pairs]
        for key, value in folded:
            if key == "points":
                found = _WITH_POINTS if isinstance(value, list) else None
                rows += len(value) if isinstance(value, list) else 0
            elif key == "series" and isinstance(value, list) and value.count(_WITH_POINTS) != len(value):
                raise BadBody("a series has no list of points")
        if check:
            number += found is not None
            _check_datadog(folded, f"series {max(number, 1)}", is_series=found is not None)
        return found

    _parse(data, hook)
    return rows


def _check_datadog(pairs: Pairs, where: str, *, is_series: bool) -> None:
    """Check an object of a payload: a series with its tags, or a resource, whose type becomes a label name."""
    names = [value for key, value in pairs if key == "metric"]
    if is_series and not (names and all(isinstance(name, str) and name for name in names)):
        raise nameless(where)
    for key, value in pairs:
        if key == "tags" and isinstance(value, list):
            check_names((str(tag_name(tag)) for tag in value if isinstance(tag, str)), where)
        elif key == "type" and isinstance(value, str) and not is_series:
            check_names([value], where)


def count_opentsdb(data: bytes, *, check: bool = False) -> int:
    """Count one row per object, of one object or an array of them."""
    if check:
        _check_keys(data)
    if _too_large(data):
        return data.count(b"{")
    document = _parse(data, lambda _: _OBJECT)
    return document.count(_OBJECT) if isinstance(document, list) else int(document is _OBJECT)


_OBJECT: Final = object()


def _check_keys(data: bytes) -> None:
    """Check all keys: those of tags and events become label names. VictoriaMetrics drops empty ones."""
    if is_plain(data):
        return
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(
            f"the document is larger than {MAX_PARSED} bytes: split it, so that its label names can be checked"
        )
    _parse(data, lambda pairs: check_names((key for key, _ in pairs if key), "the document"))


@dataclass(slots=True)
class _Event:
    numbers: int


def count_new_relic(data: bytes, *, check: bool = False) -> int:
    """Count one row per number of an event, except its timestamp; older releases skip some more."""
    if check:
        _check_keys(data)
    if _too_large(data):
        return data.count(b":")
    rows = 0

    def hook(pairs: Pairs) -> _Event:
        nonlocal rows
        numbers = 0
        for key, value in pairs:
            if type(value) in (int, float):
                numbers += key != "timestamp"
            elif key == "Events" and isinstance(value, list):
                rows += sum(event.numbers for event in value if isinstance(event, _Event))
        return _Event(numbers)

    _parse(data, hook)
    return rows


def count_firehose(data: bytes, *, check: bool = False) -> int:
    """Count the rows of the OpenTelemetry messages in the records of a delivery."""
    return _count_any(*firehose_readings(data), check=check)


def firehose_readings(data: bytes) -> tuple[Callable[[], Iterable[bytes]], ...]:
    """Return the ways in which releases find messages in the records of a delivery."""
    if len(data) > MAX_PARSED:
        raise BodyTooLarge(f"the Firehose delivery is larger than {MAX_PARSED} bytes: send it in parts")
    records: list[bytes] = []

    def hook(pairs: Pairs) -> None:
        records.extend(_record(value) for key, value in pairs if key.casefold() == "data" and value is not None)

    _parse(data, hook)
    # Releases read the records as one message, as several messages, or as those joined.
    whole = b"".join(records)
    return lambda: [whole], lambda: _delimited(records), lambda: [b"".join(_delimited(records))]


def _record(value: object) -> bytes:
    """Read bytes as Go does from JSON: in base64, or as an array of numbers."""
    try:
        if isinstance(value, str):
            return base64.b64decode(value)
        if isinstance(value, list):
            return bytes(value)
    except (ValueError, TypeError):
        pass
    raise BadBody("the data of a Firehose record is not base64")


def _delimited(records: list[bytes]) -> Iterator[bytes]:
    """Yield the messages of records, each after its length as a varint."""
    for record in records:
        start = 0
        while start < len(record):
            length, start = varint(record, start, len(record))
            if length > len(record) - start:
                raise BadBody("a Firehose record is truncated")
            yield record[start : start + length]
            start += length


def _count_any(*readings: Callable[[], Iterable[bytes]], check: bool) -> int:
    """Return the most rows of the readings: releases of VictoriaMetrics differ."""
    counts: list[int] = []
    for messages in readings:
        try:
            counts.append(sum(count_opentelemetry(message, check=check) for message in messages()))
        except BadLabels:
            raise
        except BadBody:
            continue
    if not counts:
        raise BadBody("the records of the Firehose delivery hold no OpenTelemetry messages")
    return max(counts)
