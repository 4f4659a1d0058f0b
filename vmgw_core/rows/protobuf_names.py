"""Label names in protobuf messages: remote write, OpenTelemetry, DataDog.

Protobuf's parser refuses invalid UTF-8 in a ``string``, and a label of remote write is encoded like an entry of a map.
So the parser itself reduces the labels of all series to their different names. Only the metric name is checked in each
series, where clients put it: first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from vmgw_core.errors import BadBody, BadLabels

from .messages import message_classes, parse
from .names import check_names, fault_of, nameless

_MESSAGES: Final = """
WriteRequest: 1 timeseries TimeSeries, 4 symbols bytes, 5 timeseries_v2 bytes
TimeSeries: 1 labels map, 2 samples *bytes, 4 histograms *bytes
SeriesList: 1 series *bytes
LabelList: 1 labels *Label
Label: 1 name string, 2 value bytes
ExportMetricsServiceRequest: 1 resource_metrics ResourceMetrics
ResourceMetrics: 1 resource Resource, 2 scope_metrics ScopeMetrics
Resource: 1 attributes Attribute
ScopeMetrics: 1 scope Scope, 2 metrics Metric
Scope: 3 attributes Attribute
Metric: 5 gauge NumberPoints, 7 sum NumberPoints, 9 histogram HistogramPoints, 10 exponential ExponentialPoints, 11 summary NumberPoints
NumberPoints: 1 data_points NumberPoint
NumberPoint: 7 attributes Attribute
HistogramPoints: 1 data_points HistogramPoint
HistogramPoint: 9 attributes Attribute
ExponentialPoints: 1 data_points ExponentialPoint
ExponentialPoint: 1 attributes Attribute
Attribute: 1 key *string, 2 value AnyValue
AnyValue: 6 kvlist_value KeyValueList
KeyValueList: 1 values Attribute
MetricsExport: 1 resource_metrics MetricsOfResource
MetricsOfResource: 2 scope_metrics MetricsOfScope
MetricsOfScope: 2 metrics *bytes
MetricName: 1 name *bytes
DataDogSketch: 1 metric bytes, 4 tags *bytes
DataDogSeries: 1 resources *DataDogResource, 2 metric bytes, 3 tags *bytes
DataDogResource: 1 type bytes
"""  # noqa: E501

_CLASSES: Final = message_classes(_MESSAGES, "names")
_RAW: Final = message_classes(_MESSAGES.replace("labels map", "labels *Label"), "raw", "bytes")
"""For error messages: names may be any bytes, and labels stay a list."""

_MAX_REMEMBERED: Final = 10_000


def _parse(name: str, data: bytes, *numbers: int) -> Any | None:  # noqa: ANN401
    """Parse a message; return None if it is broken or a name is not valid UTF-8."""
    try:
        return parse(_CLASSES, name, data, *numbers)
    except BadBody:
        return None


# A series begins with the label __name__, of up to 115 bytes: its tag, its length, then this, the length of the value.
_LABEL: Final = 0x0A
_NAME: Final = b"\n\x08__name__\x12"
_NAME_END: Final = 2 + len(_NAME)


def parse_remote_write(data: bytes) -> Any:  # noqa: ANN401
    """Parse a ``WriteRequest`` and check its label names; ``timeseries`` is all of its series in one.

    Raises ``BadLabels`` if a series has a bad label name, or no metric name, and ``BadBody`` if the message is broken.
    """
    request = _parse("WriteRequest", data, 1, 2, 4)
    if request is None or any(map(fault_of, request.timeseries.labels)):
        raise _bad_series(data)
    for number, series in enumerate(parse(_CLASSES, "SeriesList", data).series, 1):
        # If a label is longer than its name and value, a field occurs twice, and the last one counts.
        if (
            series[2:_NAME_END] == _NAME
            and series[0] == _LABEL
            and _NAME_END <= series[1] < 0x80
            and series[1] == series[_NAME_END] + _NAME_END - 1
        ):
            continue
        if not parse(_CLASSES, "TimeSeries", series).labels.get("__name__"):
            raise nameless(f"series {number}")
    return request


def _bad_series(data: bytes) -> BadLabels:
    """Find the series with a bad label name. Raises ``BadBody`` if the message is broken."""
    faults = (
        f"series {number}: {fault}"
        for number, series in enumerate(parse(_RAW, "SeriesList", data).series, 1)
        for label in parse(_RAW, "TimeSeries", series).labels
        if (fault := fault_of(label.name))
    )
    return BadLabels(next(faults, "a label name is not valid UTF-8"))


_SEPARATORS: Final = b"/_.-: "
"""With ``-opentelemetry.usePrometheusNaming`` a name of these alone becomes empty."""


_PLAIN_NAME: Final = re.compile(rb"\n[\x01-\x7f][0-9A-Za-z]")
"""The usual beginning of a metric: the tag and length of its name, and the first letter."""


def check_opentelemetry(data: bytes) -> None:
    """Check the keys of attributes, which become label names, and the names of metrics.

    Raises ``BadLabels`` if one of them is bad, and ``BadBody`` if the message is broken.
    """
    message = _parse("ExportMetricsServiceRequest", data, 1)
    if message is None:
        message = parse(_RAW, "ExportMetricsServiceRequest", data, 1)
    check_names(_unknown(_attribute_keys(message.resource_metrics)), "an attribute")
    metrics = parse(_CLASSES, "MetricsExport", data, 2).resource_metrics.scope_metrics.metrics
    for number, metric in enumerate(metrics, 1):
        if _PLAIN_NAME.match(metric):
            continue
        names = parse(_CLASSES, "MetricName", metric).name
        if not names or not all(name.strip(_SEPARATORS) for name in names):
            raise nameless(f"metric {number}")


def _attribute_keys(resource_metrics: Any) -> Iterator[str | bytes]:  # noqa: ANN401
    metrics = resource_metrics.scope_metrics.metrics
    attributes = [resource_metrics.resource.attributes, resource_metrics.scope_metrics.scope.attributes]
    kinds = (metrics.gauge, metrics.sum, metrics.histogram, metrics.exponential, metrics.summary)
    attributes += [kind.data_points.attributes for kind in kinds]
    for each in attributes:
        while each.key or each.HasField("value"):
            yield from each.key
            each = each.value.kvlist_value.values


def _unknown(names: Iterable[str | bytes]) -> Iterator[str | bytes]:
    """Yield names that were not seen recently."""
    known: set[str | bytes] = set()
    for name in names:
        if name not in known:
            if len(known) < _MAX_REMEMBERED:
                known.add(name)
            yield name


def tag_name(tag: bytes | str) -> bytes | str:
    """Return the label name in a tag: ``name:value`` or the name alone."""
    return tag.partition(b":")[0] if isinstance(tag, bytes) else tag.partition(":")[0]


def check_sketches(data: bytes) -> None:
    """Check the tags and metric names of a ``SketchPayload``. Raises as :func:`check_opentelemetry`."""
    for number, series in enumerate(parse(_CLASSES, "SeriesList", data, 1).series, 1):
        sketch = parse(_CLASSES, "DataDogSketch", series, 4)
        if not sketch.metric:
            raise nameless(f"series {number}")
        check_names(map(tag_name, sketch.tags), f"series {number}")


def check_datadog_v2(data: bytes) -> None:
    """Check the tags, resources and metric names of a ``MetricPayload``. Raises as :func:`check_opentelemetry`."""
    for number, encoded in enumerate(parse(_CLASSES, "SeriesList", data, 1).series, 1):
        series = parse(_CLASSES, "DataDogSeries", encoded, 1, 3)
        if not series.metric:
            raise nameless(f"series {number}")
        check_names(map(tag_name, series.tags), f"series {number}")
        check_names((resource.type for resource in series.resources), f"series {number}")
