"""Bodies that hide series: the number of series is what VictoriaMetrics v1.150 makes of each.

The core tests count them, and a wire test sends them to a real VictoriaMetrics.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Final, NamedTuple

from tests.support.core.bodies import PROTOBUF, SNAPPY, TIME, Headers, double, fixed64, item, label, number, snappy
from tests.support.core.tenant_bodies import attribute, telemetry, zabbix


class Hidden(NamedTuple):
    name: str
    target: str
    body: bytes
    series: int
    headers: Headers = ()
    skipped: int = 0
    """Series that are counted though VictoriaMetrics leaves them out."""


TEXT: Final = "/api/v1/import/prometheus"
LINES: Final = "/api/v1/import"
INFLUX: Final = "/write"
OTLP: Final = "/opentelemetry/v1/metrics"
FIELDS: Final = b",".join(b"f%d=1" % field for field in range(20))


def _histogram(threshold: float) -> bytes:
    parts = number(1, 1), double(3, 1), double(5, threshold), number(6, 1), number(15, TIME * 1000)
    return item(1, label("__name__", "m"), item(4, *parts))


def _exponential(threshold: float) -> bytes:
    point = item(1, fixed64(3, TIME * 10**9), fixed64(4, 1), double(5, 1), fixed64(7, 1), double(14, threshold))
    return item(1, item(2, item(2, item(1, b"m"), item(10, point, number(2, 2)))))


def _sketch(tag: bytes) -> bytes:
    one = number(1, TIME), number(2, 3), double(3, 1), double(4, 3), double(6, 6), item(7, b"\x02"), item(8, b"\x03")
    return item(1, item(1, b"m"), item(2, b"h"), item(4, tag), item(7, *one))


def _json(*labels: str) -> bytes:
    members = ",".join(['"__name__":"m"', *labels])
    return f'{{"metric":{{{members}}},"values":[1],"timestamps":[{TIME}000]}}\n'.encode()


_LIST: Final = attribute(7, "a", item(6, attribute(1, "b", item(1, b"1"))))
_PLAIN: Final = attribute(7, "a.b", item(1, b"2"))

HIDDEN: Final = (
    Hidden(
        "orders of labels",
        TEXT,
        b"".join(b'm{%b="1",%b="1",%b="1",%b="1"} 1\n' % order for order in permutations((b"a", b"b", b"c", b"d"))),
        24,
    ),
    Hidden("names like labels", TEXT, b'a="1"{b="2",c="3"} 1\nb="2"{a="1",c="3"} 1\nc="3"{a="1",b="2"} 1\n', 3),
    Hidden(
        "labels behind the brace",
        TEXT,
        b"".join(b'%b 1 c%d="x"} 1\n' % (labels, n) for labels in (b"m{}", b'm{a="1",}', b'{"m"}') for n in range(5)),
        10,
        skipped=5,  # those of the name in quotes are those of the name before the brace
    ),
    Hidden("fields before a quote", INFLUX, b"m %b,z=1\"" % FIELDS, 21),
    Hidden("fields before a backslash", INFLUX, b"m %b,z=1\\" % FIELDS, 21),
    Hidden("a field with a quoted name", INFLUX, b'm %b,"z"=1' % FIELDS, 21),
    Hidden("no measurement", INFLUX, b",a=1 x_y=1\n_x,a=1 y=1", 2),
    Hidden(
        "values that are no texts",
        LINES,
        b"".join(_json(*(f'"{"abcde"[at]}":{value}' for at, value in enumerate(values)))
                 for values in product(("1", '"1"'), repeat=5)),
        32,
    ),
    Hidden(
        "halves of characters",
        LINES,
        b"".join(_json(f'"a":"\\u{half}"') for half in ("d8ab", "D8ab", "d8AB", "D8AB")),
        4,
    ),
    Hidden(
        "halves of characters, Zabbix",
        "/zabbixconnector/api/v1/history",
        b"".join(zabbix([]).replace(b'"name":"m"', b'"name":"\\u%b"' % half) for half in (b"d8ab", b"D8ab", b"d8AB")),
        3,
    ),
    Hidden(
        "quotes in quotes",
        "/api/v1/import/csv?format=1:label:a,2:label:b,3:metric:m",
        b"""'x""y','x""y',1\n"x""y",'x""y',1\n'x""y',"x""y",1\n"x""y","x""y",1\n""",
        4,
    ),
    Hidden(
        "widths of zero buckets",
        "/api/v1/write",
        snappy(b"".join(_histogram(width / 100) for width in range(20))),
        22,
        SNAPPY,
    ),
    Hidden(
        "widths of zero buckets, OpenTelemetry", OTLP, b"".join(_exponential(w / 100) for w in range(20)), 22, PROTOBUF
    ),
    Hidden(
        "attributes in a list and beside it",
        OTLP,
        telemetry(b"", b"", _LIST + _PLAIN) + telemetry(b"", b"", _PLAIN + _LIST),
        2,
        PROTOBUF,
    ),
    Hidden(
        "an attribute without a name",
        OTLP,
        telemetry(b"", b"", item(7, item(2, item(1, b"1")))) + telemetry(b"", b"", attribute(7, "[]", item(1, b"1"))),
        2,
        PROTOBUF,
    ),
    Hidden("a histogram, and a label like a part of one", "/api/v1/write", snappy(
        item(1, label("__name__", "m"), item(4, number(1, 1), number(15, TIME * 1000)))
        + item(1, label("__name__", "m"), label("part", "count"), item(2, double(1, 1), number(2, TIME * 1000)))
    ), 3, SNAPPY, skipped=1),
    Hidden(
        "hosts of sketches",
        "/datadog/api/beta/sketches",
        _sketch(b"host:x") + _sketch(b"exported_host:x"),
        18,
    ),
)  # fmt: skip
