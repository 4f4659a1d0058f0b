"""The choice of the row counter for a write: it counts rows (samples) as ``vm_rows_inserted_total`` does.

    body -> decoder (content encoding) -> counter of a format -> rows

The format depends on the route, and for some routes on headers, as in VictoriaMetrics. Formats in ``lines`` and
``native`` stream; those in ``json`` and ``protobuf`` are held whole, up to ``max_decoded`` bytes.

An ambiguous body must not evade a limit. If releases of VictoriaMetrics read a body differently (older ones ignore
unknown encodings; remote write may be snappy or zstd whatever the header says), it is read in each of these ways, and
the most rows count.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote_plus

from vmgw_core.errors import BadBody, BadLabels, BodyTooLarge, UnsupportedBody, UnsupportedProtocol
from vmgw_core.http import (
    Decoder,
    Plain,
    RequestHead,
    Sink,
    SnappyBlock,
    ZstdBlock,
    content_encoding,
    decoded_key,
    decoder,
    split_pairs,
)
from vmgw_core.routing import Filters, Route

from .json import count_datadog, count_firehose, count_new_relic, count_opentsdb
from .json_names import json_lines_fault, zabbix_fault
from .lines import Lines, count_filled, count_influx, count_json_lines, count_text, csv_rows
from .names import CheckBlock, check_head, influx_fault, text_fault
from .native import Native
from .protobuf import count_datadog_v2, count_opentelemetry, count_remote_write, count_sketches


class RowCounter(Protocol):
    """Counts the rows of one body. Any bytes give a number or a Refusal.

    ``rows`` are counted so far. ``settled`` bytes of the body may be forwarded: they hold no more than ``rows``.
    """

    @property
    def rows(self) -> int: ...

    @property
    def settled(self) -> int: ...

    def feed(self, data: bytes) -> None:
        """Count the next bytes of the body, as sent."""

    def finish(self) -> None:
        """End the body: ``rows`` is final."""


class Format(Protocol):
    """Counts rows of a decoded body; ``settled`` is in decoded bytes."""

    rows: int
    settled: int

    def feed(self, data: bytes) -> None: ...

    def finish(self) -> None: ...


class Whole:
    """A format that is read whole. Without its end a backend inserts nothing, so all before it is settled."""

    def __init__(self, count: Callable[[bytes], int], *, max_decoded: int) -> None:
        self.rows = 0
        self.settled = 0
        self._count = count
        self._max = max_decoded
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.settled += len(data)
        if self.settled > self._max:
            raise BodyTooLarge(f"the body is larger than {self._max} bytes decoded (-ratelimit.maxDecodedSize)")
        self._pieces.append(data)

    def finish(self) -> None:
        body = b"".join(self._pieces)  # no copy if there is one piece
        self._pieces.clear()
        self.rows = self._count(body)


_FREE: Final = 16 << 20  # bytes that any body may decode to
_EXPANSION: Final = 250  # decoded bytes per further byte: text of metrics has at most some 100


class Reading:
    """A way to read a body: a decoder and a format."""

    def __init__(self, make_decoder: Callable[[Sink], Decoder], form: Format) -> None:
        self._form = form
        self._decoder = make_decoder(self._decoded)
        self._is_plain = isinstance(self._decoder, Plain)
        self._fed = 0
        self._size = 0
        self._marks: deque[tuple[int, int]] = deque()
        self._settled = 0

    @property
    def rows(self) -> int:
        return self._form.rows

    @property
    def settled(self) -> int:
        if self._is_plain:
            return self._form.settled
        while self._marks and self._marks[0][1] <= self._form.settled:
            self._settled = self._marks.popleft()[0]
        return self._settled

    def feed(self, data: bytes) -> None:
        self._fed += len(data)
        self._decoder.feed(data)
        if not self._is_plain:
            self._marks.append((self._fed, self._size))

    def finish(self) -> None:
        self._decoder.finish()
        self._form.finish()

    def _decoded(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > _FREE + _EXPANSION * self._fed:
            raise BodyTooLarge(f"the body decodes to more than {_EXPANSION} times its size")
        self._form.feed(piece)


class Readings:
    """Several ways to read one body; the most rows count."""

    def __init__(self, first: Reading, *others: Reading, needs_first: bool) -> None:
        """``needs_first``: refuse a body that the first way cannot read, not only one that no way can read."""
        self._first = first if needs_first else None
        self._readings = [first, *others]
        self._failed_rows = 0

    @property
    def rows(self) -> int:
        return max(self._failed_rows, *(reading.rows for reading in self._readings))

    @property
    def settled(self) -> int:
        return min(reading.settled for reading in self._readings)

    def feed(self, data: bytes) -> None:
        self._each(lambda reading: reading.feed(data))

    def finish(self) -> None:
        self._each(Reading.finish)

    def _each(self, step: Callable[[Reading], None]) -> None:
        for reading in list(self._readings):
            try:
                step(reading)
            except BadLabels:
                raise
            except BadBody:
                if reading is self._first or len(self._readings) == 1:
                    raise
                # A backend that reads it this way also stops here and keeps its rows.
                self._readings.remove(reading)
                self._failed_rows = max(self._failed_rows, reading.rows)


# --- which route has which counter ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The head of the request and the arguments of :func:`row_counter`."""

    head: RequestHead
    max_decoded: int
    check: bool


class Count(Protocol):
    """Counts the rows of a whole body, and checks label names if ``check``."""

    def __call__(self, data: bytes, *, check: bool) -> int: ...


MakeFormat = Callable[[Task], Format]


def _lines(count: Callable[[bytes], int], fault: CheckBlock) -> MakeFormat:
    return lambda task: Lines(count, check=fault if task.check else None)


def _long_lines(count: Callable[[bytes], int], fault: CheckBlock) -> MakeFormat:
    """Lines of JSON documents, which VictoriaMetrics accepts up to 100 MiB."""
    return lambda task: Lines(count, max_line=task.max_decoded, check=fault if task.check else None)


def _whole(count: Count) -> MakeFormat:
    return lambda task: Whole(lambda data: count(data, check=task.check), max_decoded=task.max_decoded)


def _csv(task: Task) -> Format:
    pairs = split_pairs(task.head.target.partition("?")[2], "URL")
    formats = [unquote_plus(pair.partition("=")[2]) for pair in pairs if decoded_key(pair) == "format"]
    return Lines(csv_rows(formats))


def _native(task: Task) -> Format:
    return Native(check=task.check)


def _content_type(head: RequestHead) -> str:
    values = head.values(b"content-type")
    if len(values) > 1:
        raise UnsupportedBody("the request has more than one Content-Type")
    return values[0].decode("latin-1") if values else ""


def _datadog_v2(task: Task) -> Format:
    is_protobuf = _content_type(task.head) == "application/x-protobuf"
    return _whole(count_datadog_v2 if is_protobuf else count_datadog)(task)


def _opentelemetry(task: Task) -> Format:
    if _content_type(task.head) != "application/json":
        return _whole(count_opentelemetry)(task)
    if any(task.head.values(b"x-amz-firehose-protocol-version")):
        return _whole(count_firehose)(task)
    raise UnsupportedProtocol("VictoriaMetrics does not accept OpenTelemetry as JSON: send protobuf")


# A release that does not know an encoding may find lines or blocks of these formats in the encoded bytes.
_READ_BOTH_WAYS: Final = ("/api/v1/import", "/api/v1/import/native", "/write", "/api/v2/write")
_TEXT: Final = "/api/v1/import/prometheus"
_ZABBIX: Final = "/zabbixconnector/api/v1/history"

# By the path without the client's prefix and without a slash at its end.
_FORMATS: Final[dict[str, MakeFormat]] = {
    "/api/v1/import": _long_lines(count_json_lines, json_lines_fault),
    "/api/v1/import/csv": _csv,
    "/api/v1/import/native": _native,
    "/api/v1/import/prometheus": _lines(count_text, text_fault),
    "/api/v1/import/prometheus/metrics/job/<grouping...>": _lines(count_text, text_fault),
    "/api/v1/import/prometheus/metrics/job@base64/<grouping...>": _lines(count_text, text_fault),
    "/write": _lines(count_influx, influx_fault),
    "/api/v2/write": _lines(count_influx, influx_fault),
    "/datadog/api/v1/series": _whole(count_datadog),
    "/datadog/api/v2/series": _datadog_v2,
    "/datadog/api/beta/sketches": _whole(count_sketches),
    "/opentelemetry/v1/metrics": _opentelemetry,
    "/opentelemetry/api/v1/push": _opentelemetry,
    "/newrelic/infra/v2/metrics/events/bulk": _whole(count_new_relic),
    _ZABBIX: _long_lines(count_filled, zabbix_fault),
    "/api/put": _whole(count_opentsdb),
    "/opentsdb/api/put": _whole(count_opentsdb),
}
_REMOTE_WRITE: Final = ("/api/v1/write", "/api/v1/push", "")


def row_counter(route: Route, head: RequestHead, *, max_decoded: int, check: bool = False) -> RowCounter | None:
    """Return the counter for the body of a request, or None if the route writes no rows.

    ``max_decoded``: the most bytes of a body that must be read whole, before and after decoding. ``check``: whether to
    check label names. Raises ``Refusal`` if the head announces a body that cannot be counted, or has a bad label name.
    """
    if route.filters is not Filters.BIND or not route.inserts:
        return None
    task = Task(head=head, max_decoded=max_decoded, check=check)
    if check:
        check_head(head)
    path = route.path.removeprefix(route.prefix).removesuffix("/")
    encoding = content_encoding(head)
    if path in _REMOTE_WRITE:
        return _remote_write(encoding, task)
    make_format = _FORMATS[path]
    first = Reading(lambda sink: decoder(encoding, sink, max_decoded=max_decoded), make_format(task))
    if encoding in ("", "gzip"):
        return first
    if check and (path in _READ_BOTH_WAYS or path.startswith(_TEXT)):
        # A release that does not know the encoding may read rows in the encoded bytes, with bad names.
        raise UnsupportedBody("label names here can only be checked in gzip or unencoded bodies: use one of them")
    # Releases that only know gzip read other encodings as plain. Those with the Zabbix connector know all.
    plain = Task(head=head, max_decoded=max_decoded, check=check and path != _ZABBIX)
    return Readings(first, Reading(Plain, make_format(plain)), needs_first=True)


_VERSION_2: Final = re.compile(r";\s*proto\s*=\s*(?!\"?prometheus\.WriteRequest\b)", re.IGNORECASE)


def _remote_write(encoding: str, task: Task) -> RowCounter:
    """Return the counter of remote write.

    VictoriaMetrics tries snappy and zstd, in the order that the header suggests; older releases only know snappy, and
    none checks that the header names one of them.
    """
    if any(_VERSION_2.search(value.decode("latin-1")) for value in task.head.values(b"content-type")):
        raise UnsupportedProtocol("Prometheus remote write 2.0 is not supported: send 1.0")
    if encoding in ("gzip", "deflate"):
        raise UnsupportedBody("remote write must be encoded in snappy or zstd")
    whole = _whole(count_remote_write)
    snappy = Reading(lambda sink: SnappyBlock(sink, max_decoded=task.max_decoded), whole(task))
    zstd = Reading(lambda sink: ZstdBlock(sink, max_decoded=task.max_decoded), whole(task))
    return Readings(snappy, zstd, needs_first=False)
