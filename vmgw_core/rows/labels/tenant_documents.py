"""Labels of rows in protobuf messages and JSON documents, for the check of their tenants.

Fields that protobuf does not repeat are lists here: VictoriaMetrics takes the first or the last of several, so several
are refused. So are objects with the same key twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from vmgw_core.base import TenantID
from vmgw_core.errors import BadBody, BodyTooLarge
from vmgw_core.rows.messages import message_classes, parse

from .tenant_lines import json_labels
from .tenants import Row, Tenants, names_tenant, unclear

_MESSAGES: Final = """
WriteRequest: 1 series *bytes, 3 metadata *Metadata
TimeSeries: 1 labels *Label
Label: 1 name bytes, 2 value bytes
Metadata: 11 account_id uint32, 12 project_id uint32
SketchPayload: 1 series *bytes
Sketch: 4 tags *bytes
MetricPayload: 1 series *bytes
MetricSeries: 1 resources *Resource, 3 tags *bytes
Resource: 1 type bytes, 2 name bytes
ExportMetricsServiceRequest: 1 resource_metrics *bytes
ResourceMetrics: 1 resource *Attributes, 2 scope_metrics *bytes
Attributes: 1 attributes *Attribute
ScopeMetrics: 1 scope *Scope, 2 metrics *bytes
Scope: 3 attributes *Attribute
Metric: 5 gauge *Points, 7 sum *Points, 9 histogram *Points, 10 exponential *Points, 11 summary *Points
Points: 1 data_points *bytes
NumberPoint: 7 attributes *Attribute
HistogramPoint: 9 attributes *Attribute
ExponentialPoint: 1 attributes *Attribute
Attribute: 1 key *bytes, 2 value *AnyValue
AnyValue: 1 text *bytes, 2 truth *bool, 3 integer *int64, 4 double *double, 5 list *bytes, 6 map *Map, 7 bytes *bytes
Map: 1 values *Attribute
"""

_CLASSES: Final = message_classes(_MESSAGES, "tenants", "bytes")
_MAX_PARSED: Final = 4 << 20  # bytes of a JSON document or an OpenTelemetry message: some take 25 times as much memory

Labels = list[tuple[bytes, bytes | None]]


def remote_write_rows(data: bytes, tenants: Tenants) -> Iterator[Row]:
    """Read the series of remote write, and check the tenants of its metadata."""
    request = parse(_CLASSES, "WriteRequest", data, 1, 3)
    for metadata in request.metadata:
        tenants.check(TenantID(metadata.account_id, metadata.project_id), "metadata of a metric")
    for series in request.series:
        yield [(label.name, label.value) for label in parse(_CLASSES, "TimeSeries", series, 1).labels]


def _tags(tags: Sequence[bytes]) -> Labels:
    parts = (tag.partition(b":") for tag in tags)
    return [(name, value if colon else None) for name, colon, value in parts]


def sketch_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read DataDog sketches."""
    for sketch in parse(_CLASSES, "SketchPayload", data, 1).series:
        yield _tags(parse(_CLASSES, "Sketch", sketch, 4).tags)


def datadog_v2_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read DataDog series of ``/api/v2/series`` in protobuf."""
    for encoded in parse(_CLASSES, "MetricPayload", data, 1).series:
        series = parse(_CLASSES, "MetricSeries", encoded, 1, 3)
        yield [*((resource.type, resource.name) for resource in series.resources), *_tags(series.tags)]


# --- OpenTelemetry ---------------------------------------------------------------------------------------------------


def opentelemetry_rows(data: bytes, tenants: Tenants) -> Iterator[Row]:
    """Read the points of an OpenTelemetry message, whose metadata is always for 0:0.

    A setting of vminsert leaves out attributes of resources. The row is then for 0:0, which the token must grant
    anyhow, unless only one of the two labels is left out. So both must be at the same place. v1.150 writes
    ``scope.attributes.`` before the names of a scope's attributes, so they may not name a tenant.
    """
    _check_size(data)
    for encoded in parse(_CLASSES, "ExportMetricsServiceRequest", data).resource_metrics:
        resource = parse(_CLASSES, "ResourceMetrics", encoded)
        for scope_metrics in resource.scope_metrics:
            scope = parse(_CLASSES, "ScopeMetrics", scope_metrics)
            if _attributes(_only(scope.scope)):
                raise unclear("an attribute of a scope names a tenant")
            outer = _attributes(_only(resource.resource))
            for metric in scope.metrics:
                tenants.check_default("metadata of OpenTelemetry")
                for point in _points(metric):
                    inner = _attributes(point)
                    if outer and inner:
                        raise unclear("vm_account_id and vm_project_id must both be in the resource or in the point")
                    yield outer or inner


_KINDS: Final = {
    "gauge": "NumberPoint", "sum": "NumberPoint", "histogram": "HistogramPoint", "exponential": "ExponentialPoint",
    "summary": "NumberPoint",
}  # fmt: skip


def _points(encoded: bytes) -> Iterator[Any]:
    metric = parse(_CLASSES, "Metric", encoded)
    for kind, name in _KINDS.items():
        for points in getattr(metric, kind):
            for point in points.data_points:
                yield parse(_CLASSES, name, point)


def _only(messages: Sequence[Any]) -> Any | None:  # noqa: ANN401
    if len(messages) > 1:
        raise unclear("an OpenTelemetry message has several resources or scopes at one place")
    return messages[0] if messages else None


def _attributes(message: Any | None) -> Labels:  # noqa: ANN401
    """Return the attributes that name a tenant, with those of nested ones."""
    found: Labels = []
    stack = [(b"", attribute) for attribute in message.attributes] if message is not None else []
    while stack:
        prefix, attribute = stack.pop()
        if len(attribute.key) > 1 or len(attribute.value) > 1:
            raise unclear("an OpenTelemetry attribute has several keys or values")
        name = prefix + b"".join(attribute.key)
        for value in attribute.value:
            stack += [(name + b".", nested) for each in value.map for nested in each.values]
            if names_tenant(name):
                found.append((name, _text(value)))
    return found


def _text(value: Any) -> bytes | None:  # noqa: ANN401
    texts = [*value.text, *(str(number).encode() for number in value.integer)]
    others = (value.truth, value.double, value.list, value.map, value.bytes)
    return texts[0] if len(texts) == 1 and not any(others) else None


# --- JSON documents --------------------------------------------------------------------------------------------------


def _check_size(data: bytes) -> None:
    if len(data) > _MAX_PARSED:
        raise BodyTooLarge(
            f"the document is larger than {_MAX_PARSED} bytes: split it, so that its tenants can be checked"
        )


def _parse(data: bytes) -> Any:  # noqa: ANN401
    """Parse a document, with a list of pairs for each object."""
    _check_size(data)
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"), object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        raise BadBody("the body is not valid JSON") from None


class _Object(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, unlike a JSON list."""

    def get(self, name: str) -> Any:  # noqa: ANN401
        """Return the value of a key in any case, as Go reads it; None if there is none."""
        found = [value for key, value in self if key.casefold() == name]
        if len(found) > 1:
            raise unclear(f"an object has the key {name} twice")
        return found[0] if found else None

    def items_of(self, name: str) -> list[Any]:
        """Return the elements of a list; none if it is missing."""
        found = self.get(name)
        if found is not None and (not isinstance(found, list) or isinstance(found, _Object)):
            raise unclear(f"{name} is no list")
        return found or []


def _objects(found: object) -> list[_Object]:
    elements: list[object] = found if isinstance(found, list) and not isinstance(found, _Object) else [found]
    objects = [element for element in elements if isinstance(element, _Object)]
    if len(objects) != len(elements):
        raise unclear("there is something else where objects are expected")
    return objects


def datadog_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read DataDog series of ``/api/v1/series``, which have no resources."""
    return map(_json_tags, _series(data))


def datadog_v2_json_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read DataDog series of ``/api/v2/series`` in JSON."""
    for series in _series(data):
        resources = _objects(series.items_of("resources"))
        pairs = [(resource.get("type"), resource.get("name")) for resource in resources]
        labels = json_labels([(name, value) for name, value in pairs if isinstance(name, str)])
        yield [*labels, *_json_tags(series)]


def _series(data: bytes) -> list[_Object]:
    document = _parse(data)
    if not isinstance(document, _Object):
        raise BadBody("the body is not a JSON object")
    return _objects(document.items_of("series"))


def _json_tags(series: _Object) -> Labels:
    tags = series.items_of("tags")
    return _tags([tag.encode("utf-8", "replace") for tag in tags if isinstance(tag, str)])


def opentsdb_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read OpenTSDB rows: an object, or a list of them."""
    for row in _objects(_parse(data)):
        tags = [value for key, value in row if key == "tags"]
        if len(tags) > 1:
            raise unclear("an object has the key tags twice")
        yield json_labels(tags[0]) if tags and isinstance(tags[0], _Object) else ()


def new_relic_rows(data: bytes, _: Tenants) -> Iterator[Row]:
    """Read New Relic events, whose texts are labels."""
    for post in _objects(_parse(data)):
        for key, events in post:
            for event in _objects(events) if key == "Events" else ():
                yield json_labels(event)
