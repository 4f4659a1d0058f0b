"""Writes for all tenants, whose rows name their tenants in every protocol, well and badly.

The core tests check them, and a wire test sends them to a real cluster and looks where the rows are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from tests.support.core.bodies import (
    PROTOBUF,
    SNAPPY,
    TIME,
    ZSTD,
    Headers,
    double,
    fixed64,
    item,
    label,
    number,
    sample,
    snappy,
    varint,
    zstd,
)  # fmt: skip

Pairs = Sequence[tuple[str, str]]
RUN: Final = "run"
"""The label that all rows of a test have, to find them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a row with labels is written. ``default``: whether the body is for 0:0, too, because of its metadata.

    ``served``: whether vminsert serves it at the port where it serves all others.
    """

    name: str
    target: str
    write: Callable[[Pairs], bytes]
    headers: Headers = ()
    default: bool = False
    served: bool = True


def text(pairs: Pairs) -> bytes:
    return b"m{%b} 1 %d000\n" % (",".join(f"{name}={json.dumps(value)}" for name, value in pairs).encode(), TIME)


def influx(pairs: Pairs) -> bytes:
    escaped = [(name.replace(" ", r"\ "), value.replace(" ", r"\ ")) for name, value in pairs]
    return f"m,{','.join(f'{name}={value}' for name, value in escaped)} v=1 {TIME}000000000\n".encode()


def an_object(pairs: Pairs) -> str:
    """A JSON object, with all its keys."""
    members = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    return f"{{{members}}}"


def json_line(pairs: Pairs) -> bytes:
    metric = an_object([("__name__", "m"), *pairs])
    return f'{{"metric":{metric},"values":[1],"timestamps":[{TIME}000]}}\n'.encode()


def native(pairs: Pairs) -> bytes:
    def sized(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    name = b"m\x01" + b"".join(f"{name}\x01{value}\x01".encode() for name, value in pairs)
    start = varint(2 * TIME * 1000)  # in zigzag
    # One row: first and last timestamp, first value, number, scale, two types (constant), precision, no further data.
    block = start + start + varint(2) + varint(1) + varint(0) + b"\x03\x03\x40" + b"\x00\x00"
    return struct.pack(">QQ", 0, 2 * TIME * 1000) + sized(name) + sized(block)


def csv_target(pairs: Pairs) -> str:
    columns = [f"{place}:label:{quote(name)}" for place, (name, _) in enumerate(pairs, 3)]
    return "format=" + ",".join(["1:metric:m", "2:time:unix_s", *columns])


def csv(pairs: Pairs) -> bytes:
    return ",".join(["1", str(TIME), *(value for _, value in pairs)]).encode() + b"\n"


def tags(pairs: Pairs) -> list[str]:
    return [f"{name}:{value}" for name, value in pairs]


def datadog_v1(pairs: Pairs) -> bytes:
    return json.dumps({"series": [{"metric": "m", "points": [[TIME, 1]], "tags": tags(pairs)}]}).encode()


def datadog_v2(pairs: Pairs) -> bytes:
    point = {"timestamp": TIME, "value": 1}
    return json.dumps({"series": [{"metric": "m", "points": [point], "tags": tags(pairs)}]}).encode()


def datadog_resources(pairs: Pairs) -> bytes:
    point = {"timestamp": TIME, "value": 1}
    resources = [{"type": name, "name": value} for name, value in pairs]
    return json.dumps({"series": [{"metric": "m", "points": [point], "resources": resources}]}).encode()


def datadog_protobuf(pairs: Pairs) -> bytes:
    encoded = (item(3, tag.encode()) for tag in tags(pairs))
    return item(1, item(2, b"m"), *encoded, item(4, double(1, 1), number(2, TIME)))


def datadog_protobuf_resources(pairs: Pairs) -> bytes:
    encoded = (item(1, item(1, name.encode()), item(2, value.encode())) for name, value in pairs)
    return item(1, item(2, b"m"), *encoded, item(4, double(1, 1), number(2, TIME)))


def sketch(pairs: Pairs) -> bytes:
    one = number(1, TIME), number(2, 3), double(3, 1), double(4, 3), double(6, 6), item(7, b"\x02"), item(8, b"\x03")
    return item(1, item(1, b"m"), item(2, b"web"), *(item(4, tag.encode()) for tag in tags(pairs)), item(7, *one))


def attribute(field: int, name: str, *value: bytes) -> bytes:
    return item(field, item(1, name.encode()), *(item(2, each) for each in value))


def telemetry(resource: bytes, scope: bytes, point: bytes) -> bytes:
    """A message with a gauge of one point; the arguments are attributes."""
    points = item(5, item(1, point, fixed64(3, TIME * 10**9), double(4, 1)))
    return item(1, item(1, resource), item(2, item(1, scope), item(2, item(1, b"m"), points)))


def texts(field: int, pairs: Pairs) -> bytes:
    return b"".join(attribute(field, name, item(1, value.encode())) for name, value in pairs)


def of_points(pairs: Pairs) -> bytes:
    return telemetry(b"", b"", texts(7, pairs))


def of_resources(pairs: Pairs) -> bytes:
    return telemetry(texts(1, pairs), b"", b"")


def opentsdb(pairs: Pairs) -> bytes:
    return f'{{"metric":"m","timestamp":{TIME},"value":1,"tags":{an_object(pairs)}}}'.encode()


def new_relic(pairs: Pairs) -> bytes:
    event = an_object([("eventType", "E"), *pairs])[:-1] + f',"timestamp":{TIME},"m":1}}'
    return f'[{{"Events":[{event}]}}]'.encode()


def zabbix(pairs: Pairs) -> bytes:
    found = ",".join(f'{{"tag":{json.dumps(name)},"value":{json.dumps(value)}}}' for name, value in pairs)
    host = '"host":{"host":"h","name":"H"},"groups":[],"name":"m","ns":0,"value":1,"type":0'
    return f'{{{host},"clock":{TIME},"item_tags":[{found}]}}\n'.encode()


def series(pairs: Pairs) -> bytes:
    return item(1, label("__name__", "m"), *(label(*pair) for pair in pairs), sample(1))


JSON: Final[Headers] = ((b"Content-Type", b"application/json"),)
PROTOCOLS: Final = (
    Protocol(name="text", target="prometheus/api/v1/import/prometheus", write=text),
    Protocol(name="pushgateway", target="prometheus/api/v1/import/prometheus/metrics/job/a/instance/b", write=text),
    Protocol(name="influx", target="influx/write?db=x", write=influx),
    Protocol(name="influx v2", target="influx/api/v2/write", write=influx),
    Protocol(name="JSON lines", target="prometheus/api/v1/import", write=json_line),
    Protocol(name="native", target="prometheus/api/v1/import/native", write=native),
    Protocol(name="CSV", target="prometheus/api/v1/import/csv", write=csv),
    Protocol(name="DataDog v1", target="datadog/api/v1/series", write=datadog_v1),
    Protocol(name="DataDog v2", target="datadog/api/v2/series", write=datadog_v2, headers=JSON),
    Protocol(name="DataDog resources", target="datadog/api/v2/series", write=datadog_resources, headers=JSON),
    Protocol(name="DataDog protobuf", target="datadog/api/v2/series", write=datadog_protobuf, headers=PROTOBUF),
    Protocol(
        name="DataDog protobuf resources",
        target="datadog/api/v2/series",
        write=datadog_protobuf_resources,
        headers=PROTOBUF,
    ),
    Protocol(name="DataDog sketches", target="datadog/api/beta/sketches", write=sketch),
    Protocol(name="OpenTelemetry points", target="opentelemetry/v1/metrics", write=of_points, default=True),
    Protocol(name="OpenTelemetry resources", target="opentelemetry/api/v1/push", write=of_resources, default=True),
    Protocol(name="OpenTSDB", target="opentsdb/api/put", write=opentsdb, served=False),
    Protocol(name="New Relic", target="newrelic/infra/v2/metrics/events/bulk", write=new_relic),
    Protocol(
        name="remote write",
        target="prometheus/api/v1/write",
        write=lambda pairs: snappy(series(pairs)),
        headers=SNAPPY,
    ),
    Protocol(
        name="remote write, zstd",
        target="prometheus/api/v1/push",
        write=lambda pairs: zstd(series(pairs)),
        headers=ZSTD,
    ),
)

ACCOUNT, PROJECT = "vm_account_id", "vm_project_id"
LABELS: Final[tuple[tuple[str, Pairs, str | None], ...]] = (
    ("none", [], "0:0"),
    ("both", [(ACCOUNT, "7"), (PROJECT, "9")], "7:9"),
    ("the other order, others between", [(PROJECT, "9"), ("a", "b"), (ACCOUNT, "7")], "7:9"),
    ("an account", [(ACCOUNT, "7")], "7:0"),
    ("a project", [(PROJECT, "9")], "0:9"),
    ("an empty one", [(ACCOUNT, ""), (PROJECT, "9")], "0:9"),
    ("the largest", [(ACCOUNT, "4294967295")], "4294967295:0"),
    ("too large", [(ACCOUNT, "4294967296")], None),
    ("an account twice", [(ACCOUNT, "7"), (ACCOUNT, "8")], None),
    ("the same twice", [(ACCOUNT, "7"), (ACCOUNT, "7")], None),
    ("empty and not", [(ACCOUNT, ""), (ACCOUNT, "7")], None),
    ("a zero in front", [(ACCOUNT, "07")], None),
    ("a sign", [(ACCOUNT, "+7")], None),
    ("a blank", [(ACCOUNT, "7 ")], None),
    ("a word", [(ACCOUNT, "seven")], None),
    ("upper case", [("VM_Account_ID", "7")], None),
    ("dots", [("vm.account.id", "7"), (ACCOUNT, "7")], None),
    ("a dash", [("vm-account-id", "7")], None),
    ("an accent", [("vméaccount_id", "7")], None),
    ("camel case", [("vmProjectId", "7")], None),
    ("the old spelling", [("VictoriaMetrics_AccountID", "7")], None),
    ("the other old spelling", [("VictoriaMetrics_ProjectID", "7")], None),
)
"""A name, labels, and the tenant of the row; None: it must be refused, whatever the token grants."""


def target_of(protocol: Protocol, pairs: Pairs) -> str:
    """The target of a request for all tenants; CSV has the names of labels in it."""
    target = f"/insert/multitenant/{protocol.target}"
    return f"{target}?{csv_target(pairs)}" if protocol.name == "CSV" else target
