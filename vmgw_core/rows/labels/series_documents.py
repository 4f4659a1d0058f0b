"""The labels of series in protobuf messages and JSON documents.

Labels are named as VictoriaMetrics names them, but for characters that settings of it replace.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from vmgw_core.errors import BadBody, BodyTooLarge
from vmgw_core.rows.json import firehose_readings
from vmgw_core.rows.messages import message_classes, parse

from .series import NAME, Pair, Parts, SeriesReader
from .series_lines import has_half_characters, text

_MESSAGES: Final = """
WriteRequest: 1 series *bytes
TimeSeries: 1 labels *bytes, 2 samples *bytes, 4 histograms *NativeHistogram
Label: 1 name bytes, 2 value bytes
NativeHistogram: 4 schema sint32, 5 zero_threshold double, 8 negative_spans *Span, 9 negative_deltas *sint64, 10 negative_counts *double, 11 positive_spans *Span, 12 positive_deltas *sint64, 13 positive_counts *double
Span: 1 offset sint32, 2 length uint32
SketchPayload: 1 series *bytes
Sketch: 1 metric bytes, 2 host bytes, 4 tags *bytes
MetricPayload: 1 series *bytes
MetricSeries: 1 resources *Resource, 2 metric bytes, 3 tags *bytes, 7 source_type_name bytes
Resource: 1 type bytes, 2 name bytes
ExportMetricsServiceRequest: 1 resource_metrics *bytes
ResourceMetrics: 1 resource *Attributes, 2 scope_metrics *bytes
Attributes: 1 attributes *Attribute
Attribute: 1 key *bytes, 2 value *bytes
ScopeMetrics: 1 scope *bytes, 2 metrics *bytes
Scope: 1 name *bytes, 2 version *bytes, 3 attributes *Attribute
Metric: 1 name *bytes, 3 unit *bytes, 5 gauge *Points, 7 sum *Points, 9 histogram *Points, 10 exponential *Points, 11 summary *Points
Points: 1 data_points *bytes
NumberPoint: 7 attributes *Attribute
SummaryPoint: 7 attributes *Attribute, 6 quantiles *Quantile
Quantile: 1 quantile double
HistogramPoint: 9 attributes *Attribute, 7 bounds *double
ExponentialPoint: 1 attributes *Attribute, 6 scale sint32, 14 zero_threshold double, 8 positive *Buckets, 9 negative *Buckets
Buckets: 1 offset sint32, 2 counts *uint64
"""  # noqa: E501

_CLASSES: Final = message_classes(_MESSAGES, "series", "bytes")
_LABEL: Final = 0x0A  # tags of a series
_SAMPLE: Final = 0x12
_MAX_PARSED: Final = 4 << 20  # bytes of a JSON document or an OpenTelemetry message: some take 25 times as much memory


# --- remote write ----------------------------------------------------------------------------------------------------


def _remote_write(data: bytes) -> Iterator[Sequence[bytes] | Parts]:
    """Read the series that have samples. A native histogram is a series for each of its buckets."""
    for encoded in parse(_CLASSES, "WriteRequest", data, 1).series:
        labels = _plain_labels(encoded)
        if labels is not None:
            yield labels
            continue
        series = parse(_CLASSES, "TimeSeries", encoded, 1, 2, 4)
        if series.samples:
            yield series.labels
        for histogram in series.histograms:
            yield Parts(series.labels, _native_buckets(histogram))


def _plain_labels(series: bytes) -> list[bytes] | None:
    """Return the labels of a series that is only labels and then samples, as nearly all are; None of others.

    It reads a tag and a length of one byte each, which takes half the time of the parser.
    """
    labels, at, size = [], 0, len(series)
    while at + 1 < size and series[at] == _LABEL and series[at + 1] < 0x80:
        end = at + 2 + series[at + 1]
        labels.append(series[at + 2 : end])
        at = end
    first = at
    while at + 1 < size and series[at] == _SAMPLE and series[at + 1] < 0x80:
        at += 2 + series[at + 1]
    return labels if first < at == size else None


def _wire_label(written: bytes) -> Pair:
    label = parse(_CLASSES, "Label", written)
    return label.name, label.value


REMOTE_WRITE: Final = SeriesReader(_remote_write, _wire_label)


def _native_buckets(histogram: Any) -> Iterator[object]:  # noqa: ANN401
    yield from ("count", "sum", _zero_bucket(histogram))
    for sign in ("positive", "negative"):
        left = len(getattr(histogram, f"{sign}_deltas")) + len(getattr(histogram, f"{sign}_counts"))
        index = 0
        for span in getattr(histogram, f"{sign}_spans"):
            index += span.offset
            for _ in range(min(span.length, left)):
                yield f"{sign} {histogram.schema} {index}"
                index += 1
                left -= 1


def _zero_bucket(histogram: Any) -> str:  # noqa: ANN401
    return f"zero {histogram.zero_threshold:.3e}"  # as VictoriaMetrics writes it into a label


# --- DataDog ---------------------------------------------------------------------------------------------------------

_OF_A_SKETCH: Final = range(9)


def _tags(tags: Sequence[bytes], host: bytes = b"exported_host") -> list[Pair]:
    """``host``: the name of a tag ``host``."""
    parts = (tag.partition(b":") for tag in tags)
    return [(host if name == b"host" else name, value if colon else b"no_label_value") for name, colon, value in parts]


def _sketches(data: bytes) -> Iterator[Parts]:
    """Read DataDog sketches, of nine series each."""
    for encoded in parse(_CLASSES, "SketchPayload", data, 1).series:
        sketch = parse(_CLASSES, "Sketch", encoded, 4)
        labels = [(b"host", sketch.host), (NAME, sketch.metric), *_tags(sketch.tags, b"host")]
        yield Parts(labels, _OF_A_SKETCH)


def _datadog_v2(data: bytes) -> Iterator[list[Pair]]:
    """Read DataDog series of ``/api/v2/series`` in protobuf."""
    for encoded in parse(_CLASSES, "MetricPayload", data, 1).series:
        series = parse(_CLASSES, "MetricSeries", encoded, 1, 3)
        resources = [(resource.type, resource.name) for resource in series.resources]
        source = (b"source_type_name", series.source_type_name)
        yield [(NAME, series.metric), *resources, *_tags(series.tags), source]


def _datadog_json(data: bytes) -> Iterator[list[Pair]]:
    """Read DataDog series in JSON, of either version."""
    for key, found in _pairs(_parse(data)):
        for series in found if key.casefold() == "series" and isinstance(found, list) else ():
            yield [
                pair for name in _OF_DATADOG for value in _values(series, name) for pair in _datadog_labels(name, value)
            ]


_OF_DATADOG: Final = ("metric", "host", "device", "resources", "tags", "source_type_name")


def _values(found: object, name: str) -> list[Any]:
    """Return the values of a key in any case."""
    return [value for key, value in _pairs(found) if key.casefold() == name]


def _datadog_labels(name: str, value: Any) -> Iterator[Pair]:  # noqa: ANN401
    if name == "tags" and isinstance(value, list):
        yield from _tags([text(tag) for tag in value])
    elif name == "resources" and isinstance(value, list):
        for resource in value:
            fields = {key.casefold(): found for key, found in _pairs(resource)}
            yield text(fields.get("type")), text(fields.get("name"))
    elif name == "metric":
        yield NAME, text(value)
    elif name not in ("tags", "resources"):
        yield name.encode(), text(value)


# --- OpenTelemetry ---------------------------------------------------------------------------------------------------


def _opentelemetry(data: bytes) -> Iterator[Parts]:
    """Read the points of an OpenTelemetry message; those of histograms and summaries are several series."""
    _check_size(data)
    for encoded in parse(_CLASSES, "ExportMetricsServiceRequest", data).resource_metrics:
        resource = parse(_CLASSES, "ResourceMetrics", encoded)
        outer = [pair for each in resource.resource for pair in _attributes(each)]
        for encoded_scope in resource.scope_metrics:
            scope = parse(_CLASSES, "ScopeMetrics", encoded_scope)
            labels = outer + [pair for each in scope.scope for pair in _scope(parse(_CLASSES, "Scope", each))]
            for encoded_metric in scope.metrics:
                yield from _metric(parse(_CLASSES, "Metric", encoded_metric), labels)


def _attributes(message: Any) -> list[Pair]:  # noqa: ANN401
    """Return attributes with their values as they are encoded."""
    return [(_joined(each.key), _joined(each.value)) for each in message.attributes]


def _joined(values: Sequence[bytes]) -> bytes:
    """Return the value of a field; if it is repeated, all of them, since releases differ in which one they take."""
    return values[0] if len(values) == 1 else b"\x00" + repr(list(values)).encode()


def _scope(scope: Any) -> Iterator[Pair]:  # noqa: ANN401
    yield b"scope.name", _joined(scope.name)
    yield b"scope.version", _joined(scope.version)
    for name, value in _attributes(scope):
        yield b"scope.attributes." + name, value


def _metric(metric: Any, outer: list[Pair]) -> Iterator[Parts]:  # noqa: ANN401
    labels = [*outer, (b"unit", _joined(metric.unit))]
    for kind, message in _KINDS.items():
        name = (NAME, _joined(metric.name) + b" " + kind.encode())
        for points in getattr(metric, kind):
            for encoded in points.data_points:
                point = parse(_CLASSES, message, encoded)
                yield Parts([*labels, name, *_attributes(point)], _parts(kind, point))


_KINDS: Final = {
    "gauge": "NumberPoint", "sum": "NumberPoint", "histogram": "HistogramPoint", "exponential": "ExponentialPoint",
    "summary": "SummaryPoint",
}  # fmt: skip


def _parts(kind: str, point: Any) -> Iterator[object]:  # noqa: ANN401
    """Yield what tells the series of a point apart."""
    if kind in ("gauge", "sum"):
        yield "value"
        return
    yield from ("count", "sum")
    if kind == "summary":
        yield from (quantile.quantile for quantile in point.quantiles)
    elif kind == "histogram":
        yield from point.bounds
        yield "+Inf"
    else:
        yield _zero_bucket(point)
        for sign, buckets in (("positive", point.positive), ("negative", point.negative)):
            for each in buckets:
                yield from (f"{sign} {point.scale} {each.offset + at}" for at, n in enumerate(each.counts) if n)


def _firehose(data: bytes) -> Iterator[Parts]:
    """Read the messages in a delivery of Amazon Data Firehose, in every way in which they can be read."""
    for reading in firehose_readings(data):
        try:
            found = [series for message in reading() for series in _opentelemetry(message)]
        except BadBody:
            continue
        yield from found


# --- JSON documents --------------------------------------------------------------------------------------------------


class _Object(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, unlike a JSON list."""


def _check_size(data: bytes) -> None:
    if len(data) > _MAX_PARSED:
        raise BodyTooLarge(
            f"the document is larger than {_MAX_PARSED} bytes: split it, so that its series can be counted"
        )


def _parse(data: bytes) -> Any:  # noqa: ANN401
    _check_size(data)
    try:
        found = json.loads(data.decode(), object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise BadBody("the body is not valid JSON in UTF-8") from None
    if has_half_characters(data):
        raise BadBody("the body has an escape for a half of a character")
    return found


def _pairs(found: object) -> _Object:
    return found if isinstance(found, _Object) else _Object()


def _each(found: object) -> list[object]:
    return found if isinstance(found, list) and not isinstance(found, _Object) else [found]


def _opentsdb(data: bytes) -> Iterator[list[Pair]]:
    """Read OpenTSDB rows: an object, or a list of them."""
    for row in _each(_parse(data)):
        names = [(NAME, text(value)) for key, value in _pairs(row) if key == "metric"]
        tags = [_pairs(value) for key, value in _pairs(row) if key == "tags"]
        yield [*names, *((text(name), text(tag)) for pairs in tags for name, tag in pairs)]


def _new_relic(data: bytes) -> Iterator[list[Pair]]:
    """Read New Relic events: each number is a series, with the texts as labels."""
    for post in _each(_parse(data)):
        for key, events in _pairs(post):
            for event in _each(events) if key == "Events" else ():
                texts = [(text(name), text(value)) for name, value in _pairs(event) if isinstance(value, str)]
                numbers = (name for name, value in _pairs(event) if type(value) in (int, float))
                yield from ([(NAME, text(name)), *texts] for name in numbers if name != "timestamp")


SKETCHES: Final = SeriesReader(_sketches)
DATADOG_V2: Final = SeriesReader(_datadog_v2)
DATADOG_JSON: Final = SeriesReader(_datadog_json)
OPENTELEMETRY: Final = SeriesReader(_opentelemetry)
FIREHOSE: Final = SeriesReader(_firehose)
OPENTSDB: Final = SeriesReader(_opentsdb)
NEW_RELIC: Final = SeriesReader(_new_relic)
