"""Write bodies of every protocol, made by hand, with the rows that VictoriaMetrics makes of them.

The core tests count them, and a wire test sends the same ones to a real VictoriaMetrics and compares.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cramjam
import zstandard

Headers = tuple[tuple[bytes, bytes], ...]

TIME: Final = 1_700_000_000
"""Unix time in seconds of all samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``kind`` is the ``type`` in ``vm_rows_inserted_total``; ``old``: whether VictoriaMetrics 1.79.5 has it."""

    name: str
    target: str
    body: bytes
    rows: int
    kind: str
    headers: Headers = ()
    old: bool = True

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def encoded(self) -> bool:
        """Whether the body is encoded already, by the rules of its protocol."""
        return self.kind == "promremotewrite"


# --- encodings -----------------------------------------------------------------------------------------------------


def snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def members(data: bytes) -> bytes:
    """gzip in three members, of which one is empty."""
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:])


def frames(data: bytes) -> bytes:
    """zstd in two frames with a skippable one in between."""
    half = len(data) // 2
    return zstd(data[:half]) + b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zstd(data[half:])


ENCODINGS: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip members": ("gzip", members),
    "deflate": ("deflate", zlib.compress),
    "zstd": ("zstd", zstd),
    "zstd frames": ("zstd", frames),
    "snappy": ("snappy", snappy),
}


# --- protobuf, by hand ---------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def item(number: int, *contents: bytes) -> bytes:
    """A length-delimited field: a message, a string, packed numbers."""
    joined = b"".join(contents)
    return varint(number << 3 | 2) + varint(len(joined)) + joined


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def fixed64(field: int, value: int) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def label(name: str, value: str) -> bytes:
    return item(1, item(1, name.encode()), item(2, value.encode()))


def sample(value: float, offset: int = 0) -> bytes:
    return item(2, double(1, value), number(2, (TIME + offset) * 1000))


def series(name: str, *fields: bytes) -> bytes:
    return item(1, label("__name__", name), label("job", "rows"), *fields)


def remote_write() -> bytes:
    """Five samples in three series, one of which is empty, and metadata."""
    return b"".join(
        (
            series("rw_a", sample(1), sample(2, 15), sample(3, 30)),
            series("rw_b", sample(0), sample(1, 15)),
            series("rw_c"),
            item(3, number(1, 1), item(2, b"rw_a"), item(4, b"help")),
        )
    )


def native_histogram(*, positive: bytes) -> bytes:
    return item(4, number(1, 6), double(3, 3.5), number(4, 0), number(6, 1), positive, number(15, TIME * 1000))


def attributes(key: int) -> bytes:
    return item(key, item(1, b"host"), item(2, item(1, b"web")))


def opentelemetry() -> bytes:
    """A gauge with 2 points, a sum with 1, a histogram of 3 buckets with 1, a summary of 2 quantiles with 1, and an
    exponential histogram with 1, of 3 buckets that are not empty: 2 + 1 + 5 + 4 + 5 rows.
    """
    now = fixed64(3, TIME * 10**9)
    gauge = item(5, item(1, attributes(7), now, double(4, 1.5)), item(1, attributes(7), now, double(4, 2.5)))
    total = item(7, item(1, attributes(7), now, fixed64(6, 15)), number(2, 2), number(3, 1))
    buckets = item(6, struct.pack("<3Q", 1, 0, 2)), item(7, struct.pack("<2d", 1, 2))
    histogram = item(9, item(1, attributes(9), now, fixed64(4, 3), double(5, 4.5), *buckets), number(2, 2))
    quantiles = b"".join(item(6, double(1, q), double(2, q * 10)) for q in (0.5, 0.9))
    summary = item(11, item(1, attributes(7), now, fixed64(4, 3), double(5, 4.5), quantiles))
    spans = item(8, number(1, 0), item(2, b"\x01\x00\x02")), item(9, item(2, b"\x00"))
    point = item(1, attributes(1), now, fixed64(4, 3), double(5, 4.5), number(6, 0), fixed64(7, 1), *spans)
    exponential = item(10, point, number(2, 2))
    metrics = [
        item(2, item(1, f"otel_{index}".encode()), data)
        for index, data in enumerate((gauge, total, histogram, summary, exponential))
    ]
    scopes = item(2, *metrics[:2]), item(2, *metrics[2:])
    return item(1, item(1, attributes(1)), scopes[0]) + item(1, scopes[1])


def sketches() -> bytes:
    """Two sketches in one metric, one in another."""
    sketch = item(
        7, number(1, TIME), number(2, 3), double(3, 1), double(4, 3), double(6, 6), item(7, b"\x02"), item(8, b"\x03")
    )
    return item(1, item(1, b"sk_a"), item(2, b"web"), sketch, sketch) + item(1, item(1, b"sk_b"), sketch)


def datadog_v2() -> bytes:
    points = [item(4, double(1, value), number(2, TIME)) for value in (1.5, 2.5)]
    return item(1, item(2, b"dd.a"), *points) + item(1, item(2, b"dd.b"), points[0])


# --- text ----------------------------------------------------------------------------------------------------------

TEXT: Final = b"""# HELP m_total of all
# TYPE m_total counter
m_total{a="b"} 1
  m_total{a="c d # e"} 2 1700000000000

\t# a comment behind a tab
m_total\t3 # {trace="x"} 4
m_total{a="\\"x\\\\"} NaN\r
\r
m_total 5 1700000000
m_total +Inf"""

JSON_LINES: Final = b"""
{"metric":{"__name__":"jl","values":"x"},"values":[1,2.5,-3e2],"timestamps":[1700000000000,1700000001000,1700000002000]}
{"metric":{"__name__":"jl","a":"\\"b"}, "timestamps" : [1700000000000], "values" : [ 3 ] }\r

{"metric":{"__name__":"jl"},"values":[7,8],"timestamps":[1700000000000,1700000001000]}"""

INFLUX: Final = b"""# a comment
cpu,host=a user=1,system=2i,idle=97.5 1700000000000000000
cpu,host=b\\ c\\,d user=1
cpu,host=c text="a b, c=\\"d\\"",user=t 1700000000000000000\r

mem free=1u,used="5"
disk,path="x\\=y free\\ space=2,used=3 1700000000000000000"""

CSV: Final = b'''web,1700000000,1.5,2.5
"a, ""b""",1700000001,3,4\r

db,1700000002,5,6'''


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


DATADOG_V1: Final = line(
    series=[
        {"metric": "dd.a", "points": [[TIME, 0.5], [TIME + 1, 1]], "host": "web", "tags": ["env:x", "points:[1,2]"]},
        {"metric": "dd.b", "points": [[TIME, 2]]},
    ]
)
DATADOG_V2: Final = line(
    series=[
        {"metric": "dd.a", "type": 0, "points": [{"timestamp": TIME, "value": 0.5}, {"timestamp": TIME, "value": 1}]},
        {"metric": "dd.b", "points": [{"timestamp": TIME, "value": 1}], "resources": [{"name": "web", "type": "host"}]},
    ]
)
OPENTSDB: Final = {"metric": "ot.a", "timestamp": TIME, "value": 45.5, "tags": {"metric": "x", "host": "web"}}
NEW_RELIC: Final = json.dumps(
    [
        {
            "EntityID": 28257883748326179,
            "IsAgent": True,
            "Events": [
                {"eventType": "SystemSample", "timestamp": TIME, "entityKey": "web", "dc": "1", "cpu": 1.5, "up": 7},
                {"eventType": "SystemSample", "timestamp": TIME, "entityKey": "web", "cpu": 2, "ok": True, "x": None},
            ],
            "ReportingAgentID": 28257883748326179,
        }
    ]
).encode()
NEW_RELIC_NUMBERS: Final = json.dumps(
    [{"Events": [{"eventType": 1, "entityKey": 2, "timestamp": TIME, "a": "x"}]}]
).encode()
EMPTY_CELLS: Final = b'web,1700000000,,2.5\n"a",1700000001,3,""\r\n,1700000002,,\ndb,1700000003,5,6'
ZABBIX: Final = b"\n".join(
    line(
        host={"host": "h", "name": "H"}, groups=["g"], item_tags=[{"tag": "t", "value": "v"}], itemid=1, name=f"z{n}",
        clock=TIME, ns=0, value=n, type=0,
    )
    for n in range(3)
)  # fmt: skip

SNAPPY: Final[Headers] = ((b"Content-Encoding", b"snappy"), (b"Content-Type", b"application/x-protobuf"))
ZSTD: Final[Headers] = ((b"Content-Encoding", b"zstd"), (b"Content-Type", b"application/x-protobuf"))
PROTOBUF: Final[Headers] = ((b"Content-Type", b"application/x-protobuf"),)
FORMAT: Final = "format=1:label:host,2:time:unix_s,3:metric:csv_a,4:metric:csv_b"

CASES: Final = (
    Case(name="text", target="/api/v1/import/prometheus", body=TEXT, rows=6, kind="prometheus"),
    Case(
        name="pushgateway",
        target="/api/v1/import/prometheus/metrics/job/a/instance/b",
        body=TEXT,
        rows=6,
        kind="prometheus",
        old=False,
    ),
    Case(name="JSON lines", target="/api/v1/import", body=JSON_LINES, rows=6, kind="vmimport"),
    Case(name="CSV", target=f"/api/v1/import/csv?{FORMAT}", body=CSV, rows=6, kind="csvimport"),
    Case(
        name="CSV with empty cells",
        target=f"/api/v1/import/csv?{FORMAT}",
        body=EMPTY_CELLS,
        rows=4,
        kind="csvimport",
        old=False,
    ),
    Case(name="influx", target="/write?db=x", body=INFLUX, rows=10, kind="influx"),
    Case(name="influx v2", target="/influx/api/v2/write", body=INFLUX, rows=10, kind="influx"),
    Case(name="DataDog v1", target="/datadog/api/v1/series", body=DATADOG_V1, rows=3, kind="datadog"),
    Case(name="DataDog v2", target="/datadog/api/v2/series", body=DATADOG_V2, rows=3, kind="datadogv2", old=False),
    Case(
        name="DataDog v2 protobuf",
        target="/datadog/api/v2/series",
        body=datadog_v2(),
        headers=PROTOBUF,
        rows=3,
        kind="datadogv2",
        old=False,
    ),
    Case(
        name="DataDog sketches",
        target="/datadog/api/beta/sketches",
        body=sketches(),
        rows=27,
        kind="datadogsketches",
        old=False,
    ),
    Case(
        name="OpenTelemetry",
        target="/opentelemetry/v1/metrics",
        body=opentelemetry(),
        rows=17,
        kind="opentelemetry",
        old=False,
    ),
    Case(
        name="New Relic",
        target="/newrelic/infra/v2/metrics/events/bulk",
        body=NEW_RELIC,
        rows=3,
        kind="newrelic",
        old=False,
    ),
    Case(
        name="New Relic, keys as numbers",
        target="/newrelic/infra/v2/metrics/events/bulk",
        body=NEW_RELIC_NUMBERS,
        rows=2,
        kind="newrelic",
        old=False,
    ),
    Case(
        name="Zabbix",
        target="/zabbixconnector/api/v1/history",
        body=ZABBIX,
        rows=3,
        kind="zabbixconnector",
        old=False,
    ),
    Case(name="OpenTSDB object", target="/api/put", body=line(**OPENTSDB), rows=1, kind="opentsdbhttp"),
    Case(
        name="OpenTSDB list", target="/api/put", body=json.dumps([OPENTSDB] * 3).encode(), rows=3, kind="opentsdbhttp"
    ),
    Case(
        name="remote write",
        target="/api/v1/write",
        body=snappy(remote_write()),
        headers=SNAPPY,
        rows=5,
        kind="promremotewrite",
    ),
    Case(
        name="remote write, zstd",
        target="/api/v1/write",
        body=zstd(remote_write()),
        headers=ZSTD,
        rows=5,
        kind="promremotewrite",
        old=False,
    ),
    Case(
        name="remote write, snappy named zstd",
        target="/api/v1/write",
        body=snappy(remote_write()),
        headers=ZSTD,
        rows=5,
        kind="promremotewrite",
    ),
    Case(
        name="remote write, zstd after an empty frame",
        target="/api/v1/write",
        body=zstd(b"") + zstd(remote_write()),
        headers=ZSTD,
        rows=5,
        kind="promremotewrite",
        old=False,
    ),
    Case(
        name="remote write, zstd after a frame to skip",
        target="/api/v1/write",
        body=b"\x50\x2a\x4d\x18\x00\x00\x00\x00" + zstd(remote_write()) + b"\x5f\x2a\x4d\x18\x01\x00\x00\x00x",
        headers=SNAPPY,
        rows=5,
        kind="promremotewrite",
        old=False,
    ),
)
