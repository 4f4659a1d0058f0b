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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from vmgw_core.base import TenantID
from vmgw_core.errors import UnsupportedBody, UnsupportedProtocol
from vmgw_core.http import Plain, RequestHead, content_encoding, decoded_key, decoder, split_pairs
from vmgw_core.http.content_coding import SnappyBlock, ZstdBlock
from vmgw_core.routing import Filters, Route

from .counter import Format, Reading, RowCounter, Whole
from .json import count_datadog, count_firehose, count_new_relic, count_opentsdb
from .json_names import json_lines_fault, zabbix_fault
from .labels.series import Series, SeriesReader
from .labels.series_documents import (
    DATADOG_JSON,
    DATADOG_V2,
    FIREHOSE,
    NEW_RELIC,
    OPENTELEMETRY,
    OPENTSDB,
    REMOTE_WRITE,
    SKETCHES,
)
from .labels.series_lines import INFLUX, JSON, TEXT, ZABBIX, csv_series_of
from .labels.tenant_documents import (
    datadog_rows,
    datadog_v2_json_rows,
    datadog_v2_rows,
    new_relic_rows,
    opentelemetry_rows,
    opentsdb_rows,
    remote_write_rows,
    sketch_rows,
)
from .labels.tenant_lines import csv_rows_of, influx_rows, json_rows, text_rows
from .labels.tenants import Row, Tenants, check_url, unclear
from .lines import MAX_LINE, Lines, count_filled, count_influx, count_json_lines, count_text, csv_rows
from .names import CheckBlock, check_head, influx_fault, text_fault
from .native import Native
from .protobuf import count_datadog_v2, count_opentelemetry, count_remote_write, count_sketches


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The head of the request and the arguments of :func:`row_counter`."""

    head: RequestHead
    max_decoded: int
    check: bool
    tenants: Tenants | None
    series: Series | None

    def counter(self, count: Count, rows: ReadRows, reader: SeriesReader) -> Count:
        """Return ``count``, after a check of the tenants of all ``rows`` if the request may be for several.

        It reads the series too, if a limit needs them.
        """
        tenants, series = self.tenants, self.series
        if tenants is None and series is None:
            return count

        def checked(data: bytes) -> int:
            if tenants is not None:
                tenants.check_rows(rows(data, tenants))
            number = count(data)
            if series is not None and number:
                series.read(reader, data)
            return number

        return checked


Count = Callable[[bytes], int]
ReadRows = Callable[[bytes, Tenants], Iterable[Row]]
MakeFormat = Callable[[Task], Format]


def _lines(count: Count, fault: CheckBlock, rows: ReadRows, reader: SeriesReader, *, long: bool = False) -> MakeFormat:
    """``long`` lines are JSON documents, which VictoriaMetrics accepts up to 100 MiB."""
    return lambda task: Lines(
        task.counter(count, rows, reader),
        max_line=task.max_decoded if long else MAX_LINE,
        check=fault if task.check else None,
    )


def _whole(count: Callable[..., int], rows: ReadRows, reader: SeriesReader) -> MakeFormat:
    """``count`` takes the whole body, and checks label names with ``check``; ``rows`` reads the labels of its rows."""
    return lambda task: Whole(
        task.counter(lambda data: count(data, check=task.check), rows, reader), max_decoded=task.max_decoded
    )


def _of_default_tenant(data: bytes, tenants: Tenants) -> Iterable[Row]:
    """Read Zabbix lines: VictoriaMetrics writes ``tag_`` before the names of all tags, so no row names a tenant."""
    tenants.check_default("a row of Zabbix")
    return ()


def _unreadable(data: bytes, tenants: Tenants) -> Iterable[Row]:
    raise unclear("a delivery of Amazon Data Firehose is not read for it")


def _csv(task: Task) -> Format:
    pairs = split_pairs(task.head.target.partition("?")[2], "URL")
    formats = [unquote_plus(pair.partition("=")[2]) for pair in pairs if decoded_key(pair) == "format"]
    count = csv_rows(formats)
    if task.tenants is None and task.series is None:
        return Lines(count)
    rows = _of_default_tenant if task.tenants is None else csv_rows_of(formats)
    return Lines(task.counter(count, rows, csv_series_of(formats)))


def _content_type(head: RequestHead) -> str:
    values = head.values(b"content-type")
    if len(values) > 1:
        raise UnsupportedBody("the request has more than one Content-Type")
    return values[0].decode("latin-1") if values else ""


def _datadog_v2(task: Task) -> Format:
    is_protobuf = _content_type(task.head) == "application/x-protobuf"
    if is_protobuf:
        return _whole(count_datadog_v2, datadog_v2_rows, DATADOG_V2)(task)
    return _whole(count_datadog, datadog_v2_json_rows, DATADOG_JSON)(task)


def _opentelemetry(task: Task) -> Format:
    if _content_type(task.head) != "application/json":
        return _whole(count_opentelemetry, opentelemetry_rows, OPENTELEMETRY)(task)
    if any(task.head.values(b"x-amz-firehose-protocol-version")):
        return _whole(count_firehose, _unreadable, FIREHOSE)(task)
    raise UnsupportedProtocol("VictoriaMetrics does not accept OpenTelemetry as JSON: send protobuf")


# A release that does not know an encoding may find lines or blocks of these formats in the encoded bytes.
_READ_BOTH_WAYS: Final = ("/api/v1/import", "/api/v1/import/native", "/write", "/api/v2/write")
_TEXT: Final = "/api/v1/import/prometheus"
_ZABBIX: Final = "/zabbixconnector/api/v1/history"

# By the path without the client's prefix and without a slash at its end.
_FORMATS: Final[dict[str, MakeFormat]] = {
    "/api/v1/import": _lines(count_json_lines, json_lines_fault, json_rows, JSON, long=True),
    "/api/v1/import/csv": _csv,
    "/api/v1/import/native": lambda task: Native(check=task.check, tenants=task.tenants, series=task.series),
    "/api/v1/import/prometheus": _lines(count_text, text_fault, text_rows, TEXT),
    "/api/v1/import/prometheus/metrics/job/<grouping...>": _lines(count_text, text_fault, text_rows, TEXT),
    "/api/v1/import/prometheus/metrics/job@base64/<grouping...>": _lines(count_text, text_fault, text_rows, TEXT),
    "/write": _lines(count_influx, influx_fault, influx_rows, INFLUX),
    "/api/v2/write": _lines(count_influx, influx_fault, influx_rows, INFLUX),
    "/datadog/api/v1/series": _whole(count_datadog, datadog_rows, DATADOG_JSON),
    "/datadog/api/v2/series": _datadog_v2,
    "/datadog/api/beta/sketches": _whole(count_sketches, sketch_rows, SKETCHES),
    "/opentelemetry/v1/metrics": _opentelemetry,
    "/opentelemetry/api/v1/push": _opentelemetry,
    "/newrelic/infra/v2/metrics/events/bulk": _whole(count_new_relic, new_relic_rows, NEW_RELIC),
    _ZABBIX: _lines(count_filled, zabbix_fault, _of_default_tenant, ZABBIX, long=True),
    "/api/put": _whole(count_opentsdb, opentsdb_rows, OPENTSDB),
    "/opentsdb/api/put": _whole(count_opentsdb, opentsdb_rows, OPENTSDB),
}
_REMOTE_WRITE: Final = ("/api/v1/write", "/api/v1/push", "")


def row_counter(
    route: Route,
    head: RequestHead,
    *,
    max_decoded: int,
    check: bool = False,
    tenants: frozenset[TenantID] | None = None,
    series: Series | None = None,
) -> RowCounter | None:
    """Return the counter for the body of a request, or None if the route writes no rows.

    ``max_decoded``: the most bytes of a body that must be read whole, before and after decoding. ``check``: whether to
    check label names. ``tenants``: those that the rows may name, if they choose their tenant themselves.
    ``series`` gets the series, if a limit needs them. Raises ``Refusal`` if the head announces a body that cannot be
    counted, or has a bad label name.
    """
    if route.filters is not Filters.BIND or not route.inserts:
        return None
    several = None if tenants is None else Tenants(tenants)
    task = Task(head=head, max_decoded=max_decoded, check=check, tenants=several, series=series)
    if check:
        check_head(head)
    if several is not None:
        check_url(head)
    path = route.path.removeprefix(route.prefix).removesuffix("/")
    encoding = content_encoding(head)
    if path in _REMOTE_WRITE:
        return _remote_write(encoding, task)
    make_format = _FORMATS[path]
    first = Reading(lambda sink: decoder(encoding, sink, max_decoded=max_decoded), make_format(task))
    if encoding in ("", "gzip"):
        return RowCounter(first)
    if several is not None:
        raise UnsupportedBody("the tenants of rows can only be checked in gzip or unencoded bodies: use one of them")
    if (check or series is not None) and (path in _READ_BOTH_WAYS or path.startswith(_TEXT)):
        # A release that does not know the encoding may read rows in the encoded bytes, with bad names.
        raise UnsupportedBody("labels here can only be read in gzip or unencoded bodies: use one of them")
    # Releases that only know gzip read other encodings as plain. Those with the Zabbix connector know all.
    plain = Task(head=head, max_decoded=max_decoded, check=check and path != _ZABBIX, tenants=None, series=None)
    return RowCounter(first, Reading(Plain, make_format(plain)))


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
    whole = _whole(count_remote_write, remote_write_rows, REMOTE_WRITE)
    snappy = Reading(lambda sink: SnappyBlock(sink, max_decoded=task.max_decoded), whole(task))
    zstd = Reading(lambda sink: ZstdBlock(sink, max_decoded=task.max_decoded), whole(task))
    return RowCounter(snappy, zstd, needs_first=False)
