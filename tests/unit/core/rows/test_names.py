"""Label names that may be written, and those that may not, in every protocol."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import (
    CASES,
    PROTOBUF,
    TIME,
    Case,
    Headers,
    attributes,
    double,
    fixed64,
    item,
    number,
    sample,
    snappy,
    zstd,
)
from tests.support.core.counting import MIB, count, counter_of, encoded_with
from tests.support.each import each
from vmgw_core.errors import BadBody, BadLabels, BodyTooLarge, Refusal, UnsupportedBody
from vmgw_core.http.head import RequestHead
from vmgw_core.rows.json_names import json_lines_fault, zabbix_fault
from vmgw_core.rows.meter import RowMeter
from vmgw_core.rows.names import check_head, fault_of, grouping_names, influx_fault, is_plain, shown, text_fault

TEXT = "/api/v1/import/prometheus"
LINES = "/api/v1/import"
NATIVE = "/api/v1/import/native"
OTLP = "/opentelemetry/v1/metrics"
ZABBIX = "/zabbixconnector/api/v1/history"
NEW_RELIC = "/newrelic/infra/v2/metrics/events/bulk"

BAD = [
    b"\xfe",
    b"\xfe\x07revenueteam",
    b"\xff",
    b"a\xffb",
    b"\x00",
    b"a\x01",
    b"\x1f",
    b"a\x7fb",
    b"\xc2\x80",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"a\x0bb",
    b"\xe2\x82",
]
GOOD = [
    b"a",
    b"job",
    b"a b",
    b"a.b/c",
    b"\xc3\xa9",
    b"\xe2\x82\xac",
    b"\xf0\x9f\x99\x82",
    b"0",
    b"-",
    b"'",
    b"__name",
    b"\xc2\xa0",
]


# --- one name ------------------------------------------------------------------------------------------------------


@each("name", GOOD)
def test_a_good_name(name: bytes) -> None:
    assert fault_of(name) == fault_of(name.decode()) == ""


@each("name", BAD)
def test_a_bad_name(name: bytes) -> None:
    assert "control character" in fault_of(name)


def test_a_name_is_shown_in_printable_ascii() -> None:
    assert shown(b"\xfe\x07a\n\xc3\xa9") == r'"\udcfe\u0007a\n\u00e9"'
    assert shown("x" * 81) == '"' + "x" * 80 + '..."'
    assert fault_of("") == "a label has an empty name"


# --- in every protocol ---------------------------------------------------------------------------------------------


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def native(name: bytes) -> bytes:
    return bytes(16) + sized(name) + sized(b"\x02\x0a\x01\x00\x02\x02\x02ab\x01c")


def series(*labels: tuple[bytes, bytes]) -> bytes:
    return item(1, *(item(1, item(1, name), item(2, value)) for name, value in labels), sample(1))


def otlp(
    metric: bytes = b"m", *, point: bytes = b"a", resource: bytes = b"a", scope: bytes = b"a", kind: int = 5
) -> bytes:
    def attribute(field: int, key: bytes) -> bytes:
        return item(field, item(1, key), item(2, item(1, b"v")))

    field = {5: 7, 7: 7, 9: 9, 10: 1, 11: 7}[kind]
    points = item(kind, item(1, attribute(field, point), fixed64(3, TIME * 10**9)))
    scopes = item(2, item(1, attribute(3, scope)), item(2, item(1, metric), points))
    return item(1, item(1, attribute(1, resource)), scopes)


def sketch(metric: bytes, tag: bytes) -> bytes:
    return item(1, item(1, metric), item(4, tag + b":v"), item(7, number(1, TIME)))


def datadog_v2(metric: bytes, tag: bytes = b"a", kind: bytes = b"host") -> bytes:
    resource = item(1, item(1, kind), item(2, b"x"))
    return item(1, resource, item(2, metric), item(3, tag + b":v"), item(4, double(1, 1)))


def escaped(name: bytes) -> bytes:
    """A name as JSON text. Bytes that are no UTF-8 stay as they are."""
    return (
        json.dumps(name.decode("latin-1"))[1:-1].encode("latin-1").replace(b"\\u00c2\\u0080", b"\\u0080")
        if (name.isascii() or name == b"\xc2\x80")
        else name
    )


def json_line(name: bytes) -> bytes:
    return b'{"metric":{"__name__":"m","' + name + b'":"v"},"values":[1],"timestamps":[1]}'


def zabbix(tag: bytes = b"a", value: bytes = b"v", group: bytes = b"g") -> bytes:
    return (
        b'{"host":{"host":"h","name":"H"},"groups":["%b"],"item_tags":[{"tag":"%b","value":"%b"}],"name":"n","clock":1,"ns":0,'
        b'"value":1,"type":0}' % (group, tag, value)
    )


FIREHOSE: Headers = ((b"Content-Type", b"application/json"), (b"X-Amz-Firehose-Protocol-Version", b"1.0"))


def firehose(message: bytes) -> bytes:
    record = base64.b64encode(bytes([len(message) & 0x7F | 0x80, len(message) >> 7]) + message).decode()
    return json.dumps({"records": [{"data": record}]}).encode()


def writes(name: bytes) -> Iterable[tuple[str, bytes, Headers]]:
    """A write with this label name in each protocol and at each place that can express it."""
    yield "/api/v1/write", snappy(series((b"__name__", b"m"), (name, b"v"))), ()
    yield (
        "/api/v1/write",
        zstd(series((b"__name__", b"m"), (b"job", b"j")) + series((b"__name__", b"m"), (name, b"v"))),
        (),
    )
    yield TEXT, b'm{a="b",%b="v"} 1' % name, ()
    yield TEXT, b'm{%b="v"} 1' % name, ()
    yield TEXT, b'm{"%b"="v"} 1' % name, ()
    yield f"{TEXT}/metrics/job/a", b'm{ %b = "v" , c="d" } 1\n' % name, ()
    yield LINES, json_line(name), ()
    yield LINES, json_line(escaped(name)), ()
    yield LINES, b'{"values":[1],"timestamps":[1],"metric":{"' + name + b'":"v","__name__":"m"}}', ()
    in_storage = name.replace(b"\x00", b"\x000").replace(b"\x01", b"\x001")
    yield NATIVE, native(b"m\x01%b\x01v\x01" % in_storage), ()
    yield "/write", b"m,%b=v f=1" % name.replace(b" ", b"\\ "), ()
    yield "/influx/api/v2/write", b"m,a=b,%b=v,c=d f=1,g=2 17\n" % name.replace(b" ", b"\\ "), ()
    for kind in (5, 7, 9, 10, 11):
        yield OTLP, otlp(point=name, kind=kind), ()
    yield OTLP, otlp(resource=name), ()
    yield OTLP, otlp(scope=name), ()
    yield OTLP, firehose(otlp(point=name)), FIREHOSE
    yield "/datadog/api/v2/series", datadog_v2(b"m", tag=name), PROTOBUF
    yield "/datadog/api/v2/series", datadog_v2(b"m", kind=name), PROTOBUF
    yield "/datadog/api/beta/sketches", sketch(b"m", name), ()
    yield NEW_RELIC, b'[{"Events":[{"a":1,"' + name + b'":"v"}]}]', ()
    yield "/api/put", b'[{"metric":"m","value":1,"tags":{"' + name + b'":"v"}}]', ()
    yield ZABBIX, zabbix(tag=escaped(name)), ()
    yield ZABBIX, zabbix(group=name), ()
    for version in ("1", "2"):
        yield (
            f"/datadog/api/v{version}/series",
            b'{"series":[{"metric":"m","points":[[1,2]],"tags":["%b:v"]}]}' % escaped(name),
            (),
        )
    quoted = "".join(f"%{byte:02X}" for byte in name)
    yield f"{TEXT}?extra_label={quoted}=v", b"m 1", ()
    yield f"/api/v1/import/csv?format=1:metric:m,2:label:{quoted}", b"1,v", ()


def caught_by_json(target: str, name: bytes) -> bool:
    """Whether Go's JSON parser makes another name of this one: it puts U+FFFD in the place of invalid UTF-8."""
    return "/datadog/api/v" in target and not name.isascii()


@each("name", BAD)
def test_a_bad_name_is_refused_in_every_protocol(name: bytes) -> None:
    for target, body, headers in writes(name):
        if target.startswith("/datadog/api/v") and caught_by_json(target, name) and not headers:
            continue
        with pytest.raises(BadBody):
            count(target, body, headers, check=True)


@each("name", GOOD)
def test_a_good_name_is_accepted_in_every_protocol(name: bytes) -> None:
    for target, body, headers in writes(name):
        assert count(target, body, headers, check=True) >= 1, target


@each("case", CASES, ids=lambda case: case.name)
@each("size", [1, 7, 10**9])
def test_the_count_is_the_same_with_a_check(case: Case, size: int) -> None:
    pieces = [case.body[start : start + size] for start in range(0, len(case.body), size)]
    assert count(case.target, pieces, case.headers, check=True) == case.rows
    if case.kind != "promremotewrite":
        assert (
            count(case.target, gzip.compress(case.body), (*case.headers, *encoded_with("gzip")), check=True)
            == case.rows
        )


@each("encoding", ["deflate", "zstd", "snappy"])
@each("target", [TEXT, f"{TEXT}/metrics/job/a", LINES, NATIVE, "/write", "/influx/api/v2/write"])
def test_names_are_not_checked_where_encoded_bytes_could_be_rows(target: str, encoding: str) -> None:
    with pytest.raises(UnsupportedBody, match="gzip"):
        counter_of(target, encoded_with(encoding), check=True)


# --- what the message says -----------------------------------------------------------------------------------------


@each(
    ("target", "body", "message"),
    [
        (
            "/api/v1/write",
            snappy(series((b"__name__", b"m")) * 2 + series((b"__name__", b"m"), (b"\xfea", b"secret"))),
            r'series 3: the label name "\\udcfea" is',
        ),
        (
            "/api/v1/write",
            snappy(series((b"__name__", b"m")) + series((b"a", b"secret"))),
            "^series 2 has no metric name$",
        ),
        (TEXT, b'a 1\n\nm{a="b"} 1\nm{a="secret",\xfeb="secret"} 1', r'line 4: the label name "\\udcfeb" is'),
        (LINES, json_line(b"a") + b"\n" + json_line(b"\\u0001"), r'line 2: the label name "\\u0001" is'),
        (
            LINES,
            json_line(b"a") + b'\n{"metric":{"a":"secret"},"values":[1]}',
            "^line 2: the series has no metric name$",
        ),
        ("/write", b"m f=1\n# x\nm,a\tb=secret f=1", r'line 3: the label name "a\\tb" is'),
        (ZABBIX, zabbix() + b"\n" + zabbix(tag=b"\\u0007"), r'line 2: the label name "\\u0007" is'),
        (NATIVE, native(b"\x01a\x01secret\x01"), "^block 1 has no metric name$"),
        (OTLP, otlp() + otlp(b""), "^metric 2 has no metric name$"),
        (OTLP, otlp(point=b"\x07"), r'an attribute: the label name "\\u0007" is'),
        ("/datadog/api/beta/sketches", sketch(b"m", b"a") + sketch(b"", b"a"), "^series 2 has no metric name$"),
    ],
)
def test_it_names_the_place_and_the_name_but_no_value(target: str, body: bytes, message: str) -> None:
    with pytest.raises(BadLabels, match=message) as caught:
        count(target, body, check=True)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_lines_are_numbered_over_pieces() -> None:
    counter = counter_of(TEXT, check=True)
    for _ in range(3):
        counter.feed(b"m 1\nm 1\n")
    with pytest.raises(BadLabels, match="line 7:"):
        counter.feed(b'm{\xff="a"} 1\n')


# --- series without a name -----------------------------------------------------------------------------------------


@each(
    ("target", "body", "headers"),
    [
        ("/api/v1/write", snappy(series((b"a", b"b"))), ()),
        ("/api/v1/write", snappy(series()), ()),
        ("/api/v1/write", snappy(series((b"__name__", b""), (b"a", b"b"))), ()),
        ("/api/v1/write", snappy(series((b"__name__", b""))), ()),
        ("/api/v1/write", snappy(item(1, item(2, b"\n\x08__name__\x12\x01a"), sample(1))), ()),
        # A label whose name stands twice: the last one counts.
        ("/api/v1/write", snappy(item(1, item(1, item(1, b"__name__"), item(2, b"a"), item(1, b"b")), sample(1))), ()),
        ("/api/v1/write", snappy(item(1, item(1, item(1, b"__name__"), item(2, b"a"), item(2, b"")), sample(1))), ()),
        (LINES, b'{"metric":{"a":"b"},"values":[1],"timestamps":[1]}', ()),
        (LINES, b'{"metric":{"__name__":""},"values":[1],"timestamps":[1]}', ()),
        (LINES, b'{"metric":{"__name__":null,"a":"b"},"values":[1],"timestamps":[1]}', ()),
        (LINES, b'{"x":{"metric":{"__name__":"a"}},"metric":{},"values":[1],"timestamps":[1]}', ()),
        (LINES, b'{"\\u006detric":{"a":"b"},"values":[1],"timestamps":[1]}', ()),
        (NATIVE, native(b"\x01"), ()),
        (OTLP, otlp(b""), ()),
        (OTLP, otlp(b"_"), ()),
        (OTLP, otlp(b" ./:-_"), ()),
        (OTLP, item(1, item(2, item(2, item(5, item(1, attributes(7)))))), ()),
        (OTLP, item(1, item(2, item(2, item(1, b""), item(1, b"a"), item(5, item(1, attributes(7)))))), ()),
        ("/datadog/api/v1/series", b'{"series":[{"host":"a","points":[[1,2]]}]}', ()),
        ("/datadog/api/v1/series", b'{"series":[{"metric":"","points":[[1,2]]}]}', ()),
        ("/datadog/api/v1/series", b'{"series":[{"metric":"a","METRIC":"","points":[[1,2]]}]}', ()),
        ("/datadog/api/v2/series", b'{"series":[{"metric":null,"points":[]}]}', ()),
        ("/datadog/api/v2/series", datadog_v2(b""), PROTOBUF),
        ("/datadog/api/beta/sketches", sketch(b"", b"a"), ()),
    ],
)
def test_a_series_without_a_name_is_refused(target: str, body: bytes, headers: Headers) -> None:
    with pytest.raises(BadLabels, match="no metric name"):
        count(target, body, headers, check=True)
    assert count(target, body, headers) >= 0


@each(
    ("target", "body"),
    [
        ("/api/v1/write", snappy(series((b"__name__", b"a" * 115)))),
        ("/api/v1/write", snappy(series((b"__name__", b"a" * 116)))),
        ("/api/v1/write", snappy(series((b"__name__", b"a" * 5000)))),
        ("/api/v1/write", snappy(series((b"A", b"a"), (b"__name__", b"m")))),
        (LINES, b'{"metric":{"a":"{\\"","__name__":"m"},"values":[1],"timestamps":[1]}'),
        (LINES, b'{"metric":{"__name__":"a","__name__":""},"values":[1],"timestamps":[1]}'),
        (LINES, b'{"values":[1],"timestamps":[1],"metric":{"__name__":"a"}}'),
        (LINES, b' { "metric" :\t{ "__name__" : "a" } , "values":[1],"timestamps":[1]}\r\n\r\n \n'),
        (TEXT, b'{"m",a="b"} 1'),
        (OTLP, otlp(b"_a") + otlp(b"\xc3\xa9")),
        ("/datadog/api/v2/series", b'{"series":[{"metric":"m","points":[{}],"tags":["a:b",1],"type":3}]}'),
        (TEXT, b'# HELP m \xff\xfe {\nm{a="\xff\\"\\n"} 1 # {\x01}\n\tm\t{\ta\t=\t"b"\t,\t}\t1\t2\r\nm{} 1\nm 1\r'),
        ("/write", b'm\x01,a=b\\ \\,\xff f=1,g="\x01"\n#\x01,\x02=\x03\n,a=b f=1\nm\\,\\ x,a\\ b=c,=d,e= f=1'),
    ],
)
def test_a_series_with_a_name_is_not(target: str, body: bytes) -> None:
    assert count(target, body, check=True) >= 1


@each(
    ("target", "body", "headers"),
    [
        ("/api/v1/write", snappy(series((b"__name__", b"m"), (b"", b"v"))), ()),
        (LINES, json_line(b""), ()),
        (LINES, b'{"metric":{"__name__":"m", "" : "v"},"values":[1],"timestamps":[1]}', ()),
        (NATIVE, native(b"m\x01\x01v\x01"), ()),
        (OTLP, otlp(point=b""), ()),
        ("/datadog/api/v1/series", b'{"series":[{"metric":"m","points":[[1,2]],"tags":[":v"]}]}', ()),
        ("/datadog/api/v1/series", b'{"series":[{"metric":"m","points":[[1,2]],"tags":[""]}]}', ()),
        ("/datadog/api/v2/series", b'{"series":[{"metric":"m","points":[],"resources":[{"type":"","name":"x"}]}]}', ()),
        ("/datadog/api/v2/series", datadog_v2(b"m", tag=b""), PROTOBUF),
        ("/datadog/api/v2/series", datadog_v2(b"m", kind=b""), PROTOBUF),
        ("/datadog/api/beta/sketches", sketch(b"m", b""), ()),
        (f"{TEXT}?extra_label==v", b"m 1", ()),
    ],
)
def test_an_empty_label_name_is_refused_where_it_is_a_second_metric_name(
    target: str, body: bytes, headers: Headers
) -> None:
    with pytest.raises(BadLabels, match="empty name"):
        count(target, body, headers, check=True)


def test_a_name_within_a_list_of_names_is_found_behind_another_of_the_same_key() -> None:
    def nested(key: bytes) -> bytes:
        return item(7, item(1, b"k"), item(2, item(6, item(1, item(1, key), item(2, item(1, b"v"))))))

    for keys in ((b"\xfe", b"a"), (b"a", b"\x01"), (b"\x01", b"a")):
        points = item(5, item(1, *map(nested, keys)))
        with pytest.raises(BadLabels, match="an attribute"):
            count(OTLP, item(1, item(2, item(2, item(1, b"m"), points))), check=True)


def test_a_bad_name_is_found_among_many() -> None:
    points = [otlp(point=b"a%d" % index) for index in range(10_001)]
    assert count(OTLP, b"".join(points), check=True) == 10_001
    with pytest.raises(BadLabels, match="an attribute"):
        count(OTLP, b"".join([*points, otlp(point=b"a\x02")]), check=True)


def test_firehose_records_are_checked_as_they_are_put_together() -> None:
    message = otlp(point=b"\x01")
    halves = [message[:20], message[20:]]
    records = [{"data": base64.b64encode(bytes([len(half)]) + half).decode()} for half in halves]
    with pytest.raises(BadLabels):
        count(OTLP, json.dumps({"records": records}).encode(), FIREHOSE, check=True)


# --- lines that must be read to be judged --------------------------------------------------------------------------


@each(
    "line",
    [
        b'm{\xfea="b"} 1',
        b'm{a="{\\"",\x01="b"} 1',
        b'm{a="b" \x01="c"} 1',
        b'foo="{a\x01b="x"} 1',
        b'm{"na="="v","b\\n"="x"} 1',
        b'm{"b\\n"="x"} 1',
        b'm{a\tb="x"} 1',
        b'm{a"="x",\xfe="y"} 1',
        b'm{"x",\ta="b"} 1',
        b'm{a="\x01" 1',
        b'm{a\rb="x"} 1',
    ],
)
def test_text_that_cannot_be_read_in_one_way_is_refused(line: bytes) -> None:
    fault = text_fault(b"\nm 1\n" + line)
    assert fault is not None
    assert fault[0] == 1


def test_json_that_this_parser_cannot_read_is_refused() -> None:
    for line in (b'{"metric":{"a":inf}}', b'{"x":"\\x","metric":{"__name__":"a"}}', b"x", b"[" * 2000):
        fault = json_lines_fault(b"\n" + line)
        assert fault == (0, "it is not valid JSON")
    assert json_lines_fault(b'\n{"values":[1]}') is None
    assert json_lines_fault(b'\n{"metric":"x"}') is None
    fault = json_lines_fault(b'\n{"x":"' + b"y" * (4 << 20) + b'","metric":{"__name__":"a"}}')
    assert fault is not None
    assert 'put "metric" first' in fault[1]
    assert json_lines_fault(b'\n{"metric":{"a":"b","__name__":"a"},"values":[' + b"1," * (3 << 20) + b"1]}") is None


def test_a_zabbix_item_is_no_longer_than_a_label_may_be() -> None:
    assert zabbix_fault(b"\n" + zabbix(value=b"x" * 59_000)) is None
    for line in (zabbix(value=b"x" * 65_536), zabbix(tag=b"x" * 65_536), zabbix(group=b"x" * 65_536)):
        for before in (b"\n", b"\n" + zabbix() + b"\n"):
            fault = zabbix_fault(before + line)
            assert fault == (before.count(b"\n") - 1, "its tags are longer than 60000 bytes")
    log = zabbix().replace(b'"value":1', b'"value":"' + b"x" * 70_000 + b'"')
    assert zabbix_fault(b"\n" + log) is None
    assert zabbix_fault(b"\n" + b"x" * 70_000) == (0, "it is not valid JSON")


def test_a_large_document_is_passed_where_its_names_can_only_be_good() -> None:
    blanks = b" " * (4 << 20)
    assert count("/api/put", blanks + b'[{"metric":"m","value":1,"tags":{"a":"b"}}]', check=True) >= 1
    for target in ("/api/put", NEW_RELIC):
        with pytest.raises(BodyTooLarge, match="label names"):
            count(target, blanks + b'[{"a\\tb":1}]', check=True)


@given(st.binary(max_size=12))
def test_is_plain_is_right(data: bytes) -> None:
    block = b"\n" + data.replace(b"\n", b"")
    try:
        text = block.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        assert not is_plain(block)
        return
    assert is_plain(block) == (not fault_of(text[1:] or "x") and "\\" not in text)


@each("name", [*BAD, *GOOD])
@each("fault", [text_fault, influx_fault])
def test_the_expressions_agree_with_the_rule(name: bytes, fault: object) -> None:
    assert callable(fault)
    body = (
        b'\nm{a="\\\\",%b="v"} 1' % name if fault is text_fault else b"\nm,b=\\,,%b=v f=1" % name.replace(b" ", b"\\ ")
    )
    assert bool(fault(body)) == bool(fault_of(name))


HOSTILE = [
    b"m{" + b" \t" * 200_000,
    b"m{" + b"a" * 400_000,
    b'm{a="' + b"\\" * 400_001,
    b'm{\t"' * 80_000,
    b"{\t}\n" * 80_000,
    b"m," * 200_000 + b"\t",
    b"m,\\" * 100_000 + b"\t",
    b"m,a=b" * 80_000 + b"\x01",
    b"\n" * 400_000 + b"\x01",
    b'{"metric":' * 40_000,
    b'{"a\\t' * 80_000,
    b"\x01\n" * 200_000,
    b'm{a="b",' * 50_000 + b"\xff",
]


@pytest.mark.parametrize("fault", [text_fault, influx_fault, json_lines_fault, zabbix_fault])
def test_hostile_blocks_take_linear_time(fault: object) -> None:
    """All together take some seconds at most; with anything quadratic in one of them, hours."""
    assert callable(fault)
    for block in HOSTILE:
        fault(b"\n" + block)


# --- URL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/v1/import/prometheus", []),
        (f"{TEXT}/metrics/job/a", ["job"]),
        (f"/insert/0/prometheus{TEXT}/metrics/job/a/instance/b/x@base64/YQ", ["job", "instance", "x"]),
        (f"{TEXT}/metrics/job@base64/YQ/p%/q", ["job", "p%"]),
        ("/metrics/job/a/b", ["job", "b"]),
        ("/metrics/job/a//b", ["job", ""]),
    ],
)
def test_names_in_a_pushgateway_path(path: str, names: list[str]) -> None:
    assert grouping_names(path) == names


def test_names_in_the_url_are_checked() -> None:
    def check(target: str) -> None:
        check_head(RequestHead(method="POST", target=target, headers=(), client=""))

    for target in (
        f"{TEXT}/metrics/job/a/b%C3%A9/c",
        f"{TEXT}/metrics/job/a/b@base64/YQ",
        f"{TEXT}?a=%FE&extra_labels=%FE%3D1",
        f"{TEXT}?extra_label=a%3D%FE&extra_label=__name__=x",
        "/api/v1/import/csv?format=1:time:custom:%01,2:metric:x",
    ):
        check(target)
    for target in (
        f"{TEXT}/metrics/job/a/@base64/YQ",
        f"{TEXT}?a=b&extra_label=%FE=1",
        f"{TEXT}?%65xtra_label=a+%01%3D1",
        "/api/v1/import/csv?format=1:metric:x,2:label:a%0Ab",
        f"{TEXT}?extra_label=",
    ):
        with pytest.raises(BadLabels):
            check(target)
    for target in (f"{TEXT}?a=b;extra_label=%FE=1", f"{TEXT}/metrics/job/a/b%01/c"):
        with pytest.raises(Refusal):
            check(target)


# --- what reaches a backend ----------------------------------------------------------------------------------------


def test_no_byte_of_a_bad_line_passes() -> None:
    meter = RowMeter(counter_of(TEXT, check=True), lambda rows: None)
    good, passed = b'm{a="b"} 1\n' * 10_000, b""
    for _ in range(20):
        passed += meter.feed(good)
    assert len(passed) > MIB
    with pytest.raises(BadLabels, match="line 200001:"):
        meter.feed(b'm{\xfe="b"} 1\n' + good)
    assert (good * 20).startswith(passed)


@given(st.data())
def test_a_changed_body_is_read_or_refused(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    body = bytearray(case.body)
    choose = random.Random(data.draw(st.integers(0, 1 << 30)))  # noqa: S311
    for _ in range(3):
        body[choose.randrange(len(body))] = choose.randrange(256)
    try:
        rows = count(case.target, bytes(body), case.headers, check=True)
    except Refusal:
        return
    assert rows == count(case.target, bytes(body), case.headers)
