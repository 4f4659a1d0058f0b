"""Bodies as text for people: series with their samples.

Bodies are untrusted: ``MAX_DECODED`` bounds what is decompressed, ``MAX_LINES`` what is printed, and text is escaped.
A body that cannot be read raises ``ValueError``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from vmgw_core.base import printable
from vmgw_core.errors import Refusal
from vmgw_core.explain import moment
from vmgw_core.http import decoder
from vmgw_core.rows.messages import message_classes, parse

MAX_DECODED: Final = 16 << 20
"""Bytes of one decompressed body."""
MAX_LINES: Final = 2000

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_BROTLI: Final = 1024
"""Bytes: brotli inflates kilobytes to gigabytes, and the Python binding has no limit."""
_SAMPLES: Final = 20
"""Samples printed of one series."""


# --- decompressing -------------------------------------------------------------------------------------------------


def decompress(data: bytes, encoding: str) -> bytes:
    """Undo the content encoding of ``data``, unless it is unknown or was undone before.

    Raises:
        ValueError: the data is broken, or decodes to more than ``MAX_DECODED`` bytes.
    """
    if data.startswith(_ZSTD_MAGIC):
        return _decoded(data, "zstd")
    if data.startswith(_GZIP_MAGIC):
        return _decoded(data, "gzip")
    return _decoded(data, "snappy") if encoding.strip().lower() == "snappy" else data


def inflates_too_far(data: bytes, encoding: str) -> bool:
    """Whether a body decodes to more than ``MAX_DECODED`` bytes: mitmproxy would decode it without any limit."""
    encoding = encoding.strip().lower()
    if encoding == "br":
        return len(data) > _MAX_BROTLI
    if encoding not in ("zstd", "gzip", "deflate", "deflateraw"):
        return False
    try:
        _decoded(data, encoding.removesuffix("raw"))
    except ValueError:
        return not encoding.startswith("deflate") or not _fits_without_header(data)
    return False


def _decoded(data: bytes, encoding: str) -> bytes:
    decoded = bytearray()

    def take(piece: bytes) -> None:
        if len(decoded) + len(piece) > MAX_DECODED:
            raise ValueError(f"the body decodes to more than {MAX_DECODED} bytes")
        decoded.extend(piece)

    undo = decoder(encoding, take, max_decoded=MAX_DECODED)
    try:
        undo.feed(data)
        undo.finish()
    except Refusal as refusal:
        raise ValueError(refusal.message) from None
    return bytes(decoded)


def _fits_without_header(data: bytes) -> bool:
    """Whether this is raw deflate, without the zlib header, within the limit. mitmproxy accepts that."""
    try:
        return len(zlib.decompressobj(-15).decompress(data, MAX_DECODED + 1)) <= MAX_DECODED
    except zlib.error:
        return False


def at_most(lines: Iterable[str]) -> Iterator[str]:
    """Yield the first ``MAX_LINES`` lines, and a note if there are more."""
    iterator = iter(lines)
    yield from islice(iterator, MAX_LINES)
    if next(iterator, None) is not None:
        yield f"… more than {MAX_LINES} lines"


# --- protobuf ------------------------------------------------------------------------------------------------------

# https://prometheus.io/docs/specs/prw/remote_write_spec/ and
# https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
# An AnyValue is a oneof: as repeated fields, its zeros are seen too. Its arrays and maps are bytes, so nothing nests.
_CLASSES: Final = message_classes(
    """
WriteRequest: 1 timeseries *TimeSeries, 3 metadata *Metadata
TimeSeries: 1 labels *Label, 2 samples *Sample, 4 histograms *bytes
Label: 1 name bytes, 2 value bytes
Sample: 1 value double, 2 timestamp int64
Metadata: 2 name bytes, 4 help bytes
ExportRequest: 1 resource_metrics *ResourceMetrics
ResourceMetrics: 1 resource Resource, 2 scope_metrics *ScopeMetrics
Resource: 1 attributes *KeyValue
ScopeMetrics: 2 metrics *Metric
Metric: 1 name bytes, 3 unit bytes, 5 gauge Numbers, 7 sum Numbers, 9 histogram Histograms, 10 exponential_histogram ExponentialHistograms, 11 summary Summaries
Numbers: 1 data_points *Number
Number: 3 time fixed64, 4 double double, 6 int sfixed64, 7 attributes *KeyValue
Histograms: 1 data_points *Histogram
Histogram: 3 time fixed64, 4 count fixed64, 5 sum double, 9 attributes *KeyValue
ExponentialHistograms: 1 data_points *ExponentialHistogram
ExponentialHistogram: 1 attributes *KeyValue, 3 time fixed64, 4 count fixed64, 5 sum double
Summaries: 1 data_points *Summary
Summary: 3 time fixed64, 4 count fixed64, 5 sum double, 7 attributes *KeyValue
KeyValue: 1 key bytes, 2 value AnyValue
AnyValue: 1 string *bytes, 2 bool *bool, 3 int *int64, 4 double *double, 5 array *bytes, 6 kvlist *bytes, 7 bytes *bytes
""",  # noqa: E501
    "bodies",
)
_KINDS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


def _parse(name: str, body: bytes, *numbers: int) -> Any:  # noqa: ANN401
    try:
        return parse(_CLASSES, name, body, *numbers)
    except Refusal as refusal:
        raise ValueError(refusal.message) from None


def remote_write(body: bytes) -> Iterator[str]:
    """Show a Prometheus WriteRequest, a line for each sample."""
    request = _parse("WriteRequest", body, 1, 2, 3, 4)
    for series in request.timeseries:
        name = _series((_text(label.name), _text(label.value)) for label in series.labels)
        for sample in series.samples[:_SAMPLES]:
            yield f"{name} {sample.value:g} @ {moment(sample.timestamp / 1000)}"
        if series.histograms:
            yield f"{name} {len(series.histograms)} native histograms"
        elif not series.samples:
            yield f"{name} no samples"
        if len(series.samples) > _SAMPLES:
            yield f"{name} … {len(series.samples) - _SAMPLES} more samples"
    for metadata in request.metadata:
        yield f"# HELP {printable(_text(metadata.name))} {printable(_text(metadata.help))}"


def opentelemetry(body: bytes) -> Iterator[str]:
    """Show an ExportMetricsServiceRequest, a line for each data point; attributes of the resource come first."""
    for part in _parse("ExportRequest", body, 1, 2, 7, 9).resource_metrics:
        yield f"# resource {_series(_attributes(part.resource.attributes))}"
        for scope in part.scope_metrics:
            for metric in scope.metrics:
                yield from _metric(metric)


def _metric(metric: Any) -> Iterator[str]:  # noqa: ANN401
    name, unit = _text(metric.name), printable(_text(metric.unit))
    for kind in filter(metric.HasField, _KINDS):
        yield f"# {kind.replace('_', ' ')} {printable(name)}{f' in {unit}' if unit else ''}"
        for point in getattr(metric, kind).data_points:
            series = _series([("__name__", name), *_attributes(point.attributes)])
            if kind in ("gauge", "sum"):
                shown = str(point.int) if point.int else f"{point.double:g}"
            else:
                shown = f"count {point.count}, sum {point.sum:g}"
            yield f"{series} {shown} @ {moment(point.time / 1e9)}"


def _attributes(pairs: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        yield _text(pair.key), next((_any(field.name, values[-1]) for field, values in pair.value.ListFields()), "")


def _any(kind: str, value: Any) -> str:  # noqa: ANN401
    if kind == "string":
        return _text(value)
    if kind == "bool":
        return str(value).lower()
    return f"{value:g}" if kind == "double" else str(value) if kind == "int" else f"<{len(value)} bytes>"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _series(labels: Iterable[tuple[str, str]]) -> str:
    name, rest = "", []
    for key, value in labels:
        if key in ("__name__", ""):
            name = printable(value)
        else:
            rest.append(f"{printable(key)}={json.dumps(printable(value), ensure_ascii=False)}")
    return f"{name}{{{','.join(rest)}}}" if rest or not name else name


# --- JSON lines ----------------------------------------------------------------------------------------------------


def json_lines(body: bytes) -> Iterator[str]:
    """Show lines of JSON; those of VictoriaMetrics' export format as series with their samples."""
    for line in body.decode("utf-8", "replace").splitlines():
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            yield printable(line, 1000)
            continue
        if value is None:
            continue
        metric = value.get("metric") if isinstance(value, dict) else None
        values, times = (value.get("values"), value.get("timestamps")) if isinstance(metric, dict) else (None, None)
        if not isinstance(metric, dict) or not isinstance(values, list) or not isinstance(times, list):
            yield printable(line, 1000)
            continue
        name = _series((str(key), str(item)) for key, item in metric.items())
        for number, time in islice(zip(values, times, strict=False), _SAMPLES):
            at = moment(time / 1000) if isinstance(time, int | float) and abs(time) < 1e16 else printable(str(time))
            yield f"{name} {printable(str(number))} @ {at}"
        if len(values) > _SAMPLES:
            yield f"{name} … {len(values) - _SAMPLES} more samples"
