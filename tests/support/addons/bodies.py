"""Bodies for tests, written with a few lines of protobuf of their own: nothing here is the product's code."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    """A varint field; a negative value as int64 has it."""
    return varint(number << 3) + varint(value & (1 << 64) - 1)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def fixed64(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<q", value)


def series(labels: Mapping[str, str], samples: Iterable[tuple[float, int]]) -> bytes:
    """A TimeSeries of a WriteRequest. Times are in milliseconds."""
    content = b"".join(field(1, field(1, name.encode()) + field(2, value.encode())) for name, value in labels.items())
    content += b"".join(field(2, double(1, value) + integer(2, time)) for value, time in samples)
    return field(1, content)


def attribute(number: int, name: str, value: bytes) -> bytes:
    """A KeyValue, with its AnyValue already encoded."""
    return field(number, field(1, name.encode()) + field(2, value))


def export(resource: bytes, *metrics: bytes) -> bytes:
    """An ExportMetricsServiceRequest with one resource and one scope."""
    return field(1, field(1, resource) + field(2, b"".join(field(2, metric) for metric in metrics)))


WRITE_REQUEST = series({"__name__": "up", "job": "shop"}, [(1, 1_700_000_000_000), (0.5, 1_700_000_015_000)])
_POINT = attribute(7, "path", field(1, b"/cart")) + fixed64(3, 1_700_000_000 * 10**9) + double(4, 0.25)
OTLP_REQUEST = export(
    attribute(1, "service.name", field(1, b"shop")),
    field(1, b"latency") + field(3, b"s") + field(5, field(1, _POINT)),
)
