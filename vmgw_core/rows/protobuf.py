"""Rows in protobuf messages: remote write, OpenTelemetry, DataDog.

The parser merges samples and points into one list, whose length is the count: see ``messages``.
"""

from __future__ import annotations

from typing import Any, Final

from vmgw_core.errors import BodyTooLarge, UnsupportedProtocol

from .messages import message_classes, parse
from .protobuf_names import check_datadog_v2, check_opentelemetry, check_sketches, parse_remote_write

_MAX_HISTOGRAM_BYTES: Final = 8 << 20  # of buckets that are packed numbers: eight bytes of memory for one

_MESSAGES: Final = """
WriteRequest: 1 timeseries TimeSeries, 4 symbols bytes, 5 timeseries_v2 bytes
TimeSeries: 2 samples *bytes, 4 histograms *bytes
NativeHistogram: 9 negative_deltas *sint64, 10 negative_counts *double, 12 positive_deltas *sint64, 13 positive_counts *double
ExportMetricsServiceRequest: 1 resource_metrics ResourceMetrics
ResourceMetrics: 2 scope_metrics ScopeMetrics
ScopeMetrics: 2 metrics Metric
Metric: 5 gauge Points, 7 sum Points, 9 histogram Points, 10 exponential_histogram Points, 11 summary Points
Points: 1 data_points *bytes
HistogramPoint: 5 sum *double, 6 bucket_counts *fixed64
ExponentialPoint: 7 zero_count *fixed64, 8 positive Buckets, 9 negative Buckets
Buckets: 2 bucket_counts *uint64
SummaryPoint: 6 quantile_values *bytes
SketchPayload: 1 sketches Sketch
Sketch: 7 dogsketches *bytes
MetricPayload: 1 series MetricSeries
MetricSeries: 4 points *bytes
"""  # noqa: E501

_CLASSES: Final = message_classes(_MESSAGES, "rows")


def count_remote_write(data: bytes, *, check: bool = False) -> int:
    """Count one row per sample, and the most rows that VictoriaMetrics makes of a native histogram: its buckets, the
    zero bucket, the count and the sum.

    ``check``: whether to check label names. Raises ``UnsupportedProtocol`` if the message is of version 2.0, in which
    VictoriaMetrics finds no series.
    """
    request = parse_remote_write(data) if check else parse(_CLASSES, "WriteRequest", data, 2, 4)
    if request.symbols or request.timeseries_v2:
        raise UnsupportedProtocol("Prometheus remote write 2.0 is not supported: send 1.0")
    series = request.timeseries
    rows = len(series.samples)
    if series.histograms:
        buckets = _histograms("NativeHistogram", series.histograms)
        deltas = len(buckets.negative_deltas) + len(buckets.positive_deltas)
        rows += 3 * len(series.histograms) + deltas + len(buckets.negative_counts) + len(buckets.positive_counts)
    return rows


def _histograms(name: str, points: Any) -> Any:  # noqa: ANN401
    joined = b"".join(points)
    if len(joined) > _MAX_HISTOGRAM_BYTES:
        raise BodyTooLarge(f"the message has more than {_MAX_HISTOGRAM_BYTES} bytes of histograms: send it in parts")
    return parse(_CLASSES, name, joined)


def count_opentelemetry(data: bytes, *, check: bool = False) -> int:
    """Count one row per point of a gauge or sum, and the count, sum and buckets or quantiles of other points."""
    metrics = parse(_CLASSES, "ExportMetricsServiceRequest", data, 1).resource_metrics.scope_metrics.metrics
    rows = len(metrics.gauge.data_points) + len(metrics.sum.data_points)
    if points := metrics.histogram.data_points:
        merged = parse(_CLASSES, "HistogramPoint", b"".join(points))
        rows += len(points) + len(merged.sum) + len(merged.bucket_counts)
    if points := metrics.exponential_histogram.data_points:
        merged = _histograms("ExponentialPoint", points)
        rows += 2 * len(points) + _nonzero(merged.zero_count)  # newer releases also insert a missing sum
        rows += _nonzero(merged.positive.bucket_counts) + _nonzero(merged.negative.bucket_counts)
    if points := metrics.summary.data_points:
        rows += 2 * len(points) + len(parse(_CLASSES, "SummaryPoint", b"".join(points), 6).quantile_values)
    if check:
        check_opentelemetry(data)
    return rows


def _nonzero(numbers: Any) -> int:  # noqa: ANN401
    return sum(map(bool, numbers))


_ROWS_OF_A_SKETCH: Final = 9  # five quantiles, sum, count and, since v1.109, minimum and maximum


def count_sketches(data: bytes, *, check: bool = False) -> int:
    """Count nine rows per sketch."""
    if check:
        check_sketches(data)
    return _ROWS_OF_A_SKETCH * len(parse(_CLASSES, "SketchPayload", data, 7).sketches.dogsketches)


def count_datadog_v2(data: bytes, *, check: bool = False) -> int:
    """Count one row per point."""
    if check:
        check_datadog_v2(data)
    return len(parse(_CLASSES, "MetricPayload", data, 4).series.points)
