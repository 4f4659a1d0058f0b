"""Rows in protobuf messages: remote write, OpenTelemetry, DataDog.

The messages are parsed by the protobuf library with descriptors that name only what is counted. Where a message
repeats a submessage, the descriptor here says that there is one: a parser must then merge all of them into one
(https://protobuf.dev/programming-guides/encoding/#last-one-wins), and the lists within become one list, whose
length is the answer. No series is looked at one by one.

A list costs some 30 bytes of memory an element, which may be two bytes of the message. So how many elements there
can be, at most, is told beforehand from the size of the message and how often the byte of their tag occurs.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from .errors import BadRequest, BodyTooLarge

_MAX_ELEMENTS: Final = 4_000_000
_MAX_HISTOGRAM_BYTES: Final = 8 << 20  # of buckets that are packed numbers: eight bytes of memory for one

# message: number name type, where * is "repeated" and a name in capitals is another message
_MESSAGES: Final = """
WriteRequest: 1 timeseries TimeSeries
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


def _classes() -> dict[str, type[Message]]:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="rows.proto", package="rows", syntax="proto2")
    for line in _MESSAGES.strip().splitlines():
        name, _, fields = line.partition(": ")
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            number, field_name, kind = text.split()
            label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind.islower():
                message.field.add(
                    name=field_name, number=int(number), label=label, type=field.Type.Value(f"TYPE_{kind.upper()}")
                )
            else:
                message.field.add(
                    name=field_name, number=int(number), label=label, type=field.TYPE_MESSAGE, type_name=f".rows.{kind}"
                )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"rows.{message.name}"))
            for message in file.message_type}  # fmt: skip


_CLASSES: Final = _classes()


def _parse(name: str, data: bytes, *numbers: int) -> Any:  # noqa: ANN401
    """Parse a message.

    Args:
        numbers: of the fields that are lists: there must not be too many elements.
    """
    if len(data) > 2 * _MAX_ELEMENTS:
        # The tag of a length-delimited field, and the same with a needless second byte, which sets the top bit.
        tags = [number << 3 | 2 for number in numbers]
        if sum(data.count(tag) + data.count(tag | 0x80) for tag in tags) > _MAX_ELEMENTS:
            raise BodyTooLarge(f"the message may hold more than {_MAX_ELEMENTS} samples: send it in parts")
    message = _CLASSES[name]()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise BadRequest(f"the body is not a valid {name} message") from None
    return message


# --- Prometheus remote write ---------------------------------------------------------------------------------------


def count_remote_write(data: bytes) -> int:
    """One row a sample. Of a native histogram, as many as VictoriaMetrics may make of it: at most one a bucket,
    one for the zero bucket, the count and the sum.
    """
    series = _parse("WriteRequest", data, 2, 4).timeseries
    rows = len(series.samples)
    if series.histograms:
        buckets = _histograms("NativeHistogram", series.histograms)
        deltas = len(buckets.negative_deltas) + len(buckets.positive_deltas)
        rows += 3 * len(series.histograms) + deltas + len(buckets.negative_counts) + len(buckets.positive_counts)
    return rows


def _histograms(name: str, points: Any) -> Any:  # noqa: ANN401
    joined = b"".join(points)
    if len(joined) > _MAX_HISTOGRAM_BYTES:
        raise BodyTooLarge(f"the message holds more than {_MAX_HISTOGRAM_BYTES} bytes of histograms: send it in parts")
    return _parse(name, joined)


# --- OpenTelemetry -------------------------------------------------------------------------------------------------


def count_opentelemetry(data: bytes) -> int:
    """One row a point of a gauge or sum; of a histogram its count, its sum and its buckets; of a summary its count,
    its sum and its quantiles.
    """
    metrics = _parse("ExportMetricsServiceRequest", data, 1).resource_metrics.scope_metrics.metrics
    rows = len(metrics.gauge.data_points) + len(metrics.sum.data_points)
    if points := metrics.histogram.data_points:
        merged = _parse("HistogramPoint", b"".join(points))
        rows += len(points) + len(merged.sum) + len(merged.bucket_counts)
    if points := metrics.exponential_histogram.data_points:
        merged = _histograms("ExponentialPoint", points)
        rows += 2 * len(points) + _nonzero(merged.zero_count)  # newer releases insert a sum that is not there, too
        rows += _nonzero(merged.positive.bucket_counts) + _nonzero(merged.negative.bucket_counts)
    if points := metrics.summary.data_points:
        rows += 2 * len(points) + len(_parse("SummaryPoint", b"".join(points), 6).quantile_values)
    return rows


def _nonzero(numbers: Any) -> int:  # noqa: ANN401
    return sum(map(bool, numbers))


# --- DataDog -------------------------------------------------------------------------------------------------------

_ROWS_OF_A_SKETCH: Final = 7  # five quantiles, the sum and the count


def count_sketches(data: bytes) -> int:
    """Seven rows a sketch."""
    return _ROWS_OF_A_SKETCH * len(_parse("SketchPayload", data, 7).sketches.dogsketches)


def count_datadog_v2(data: bytes) -> int:
    """One row a point."""
    return len(_parse("MetricPayload", data, 4).series.points)
