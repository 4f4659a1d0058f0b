"""Which rows are of one series, in every protocol."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmgw_core
from tests.support.core.bodies import CASES, PROTOBUF, Case, Headers, double, item, label, number, sample, snappy
from tests.support.core.series_bodies import HIDDEN, Hidden
from tests.support.core.tenant_bodies import (
    PROTOCOLS,
    Pairs,
    Protocol,
    attribute,
    csv_target,
    series,
    telemetry,
    text,
    zabbix,
)  # fmt: skip
from vmgw_core.base import Labels, TenantID
from vmgw_core.errors import BadBody, BodyTooLarge, Overloaded, UnsupportedBody
from vmgw_core.http.head import RequestHead
from vmgw_core.limits import LabelHashes, finished
from vmgw_core.routing.routes import match_route
from vmgw_core.rows import Series, row_counter
from vmgw_core.rows.labels import series_lines
from vmgw_core.rows.labels.series import Parts, SeriesReader

HASHES = LabelHashes(b"key")
TENANT = TenantID(1)
TEXT = "/api/v1/import/prometheus"
INFLUX = "/write"
LINES = "/api/v1/import"
SERIES = {
    "text": 5, "pushgateway": 5, "JSON lines": 3, "CSV": 6, "CSV with empty cells": 4, "influx": 10, "influx v2": 10,
    "DataDog v1": 2, "DataDog v2": 2, "DataDog v2 protobuf": 2, "DataDog sketches": 18, "OpenTelemetry": 16,
    "New Relic": 3, "New Relic, keys as numbers": 2, "Zabbix": 3, "OpenTSDB object": 1, "OpenTSDB list": 1,
}  # fmt: skip
"""What VictoriaMetrics v1.150 makes of the bodies; of all others two. A wire test asks it."""


def found(
    target: str,
    *bodies: bytes,
    headers: Headers = (),
    labels: Labels = (),
    tenant: TenantID | None = TENANT,
    check: bool = True,
) -> set[int]:
    """Return the series of some bodies that are sent to one place."""
    all_of_them: set[int] = set()
    for body in bodies:
        head = RequestHead(method="POST", target=target, headers=headers, client="127.0.0.1")
        collected = Series(HASHES, tenant, labels, head)
        route = match_route(target.partition("?")[0], "POST", cluster=False).route
        counter = row_counter(route, head, max_decoded=64 << 20, check=check, series=collected)
        assert counter is not None
        counter.feed(body)
        counter.finish()
        finished(collected.steps())
        all_of_them |= collected.taken()
        assert collected.taken() == set()
    return all_of_them


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_has_as_many_series_as_are_stored(case: Case) -> None:
    expected = SERIES.get(case.name, 2)
    assert len(found(case.target, case.body, headers=case.headers)) == expected
    assert len(found(case.target, case.body, case.body, headers=case.headers)) == expected


@pytest.mark.parametrize("hidden", HIDDEN, ids=lambda hidden: hidden.name)
def test_no_series_is_hidden(hidden: Hidden) -> None:
    assert len(found(hidden.target, hidden.body, headers=hidden.headers)) == hidden.series + hidden.skipped


def place(protocol: Protocol, pairs: Pairs) -> str:
    target = "/" + protocol.target.removeprefix("prometheus/")
    return f"{target}?{csv_target(pairs)}" if protocol.name == "CSV" else target


ONE = [("a", "1"), ("b", "x y"), ("c", "2")]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_labels_and_their_order_tell_series_apart(protocol: Protocol) -> None:
    def of(pairs: Pairs, labels: Labels = ()) -> frozenset[int]:
        target, body = place(protocol, pairs), protocol.write(pairs)
        return frozenset(found(target, body, headers=protocol.headers, labels=labels))

    assert len(of(ONE)) == (9 if protocol.name == "DataDog sketches" else 1)
    # VictoriaMetrics makes a series of each order, until it has indexed the first.
    orders = [of(ONE), of(ONE[::-1]), of([ONE[1], ONE[0], ONE[2]])]
    others = [of(ONE[:2]), of([*ONE, ("d", "1")]), of([("a", "2"), *ONE[1:]]), of([("A", "1"), *ONE[1:]])]
    assert len({*orders, *others}) == 7
    # VictoriaMetrics makes a series of each label that one of the token replaces, until it has indexed the first.
    added = [of(pairs, (("a", value),)) for pairs in (ONE, [("a", "2"), *ONE[1:]], ONE[1:]) for value in ("8", "9")]
    assert len({*orders, *others, *added}) == 13


@pytest.mark.parametrize(
    ("target", "first", "second"),
    [
        pytest.param(TEXT, rb'm{a="1",b="2"} 1', rb'm{a="1",b="2"} 2 1700000000000', id="values and times"),
        pytest.param(TEXT, rb'm{a="1"} 1', b' \tm { a = "1" , } 1\r', id="blanks"),
        pytest.param(TEXT, rb'm{a="1"} 1', rb'{"m",a="1"} 1', id="a quoted name"),
        pytest.param(TEXT, rb'm{a="1"} 1', rb'{"a"="1","m"} 1', id="quoted names"),
        pytest.param(TEXT, b"m 1", b"m{} 2", id="no labels"),
        pytest.param(TEXT, b"m 1", b"m{ } 2", id="no labels, blank"),
        pytest.param(TEXT, rb'm{a="x\\y"} 1', rb'{"m","a"="x\\y"} 1', id="an escape"),
        pytest.param(TEXT, rb'm{a="",b="1"} 1', rb'm{b="1"} 1', id="a label without a value"),
        pytest.param(INFLUX, rb"m,a=1,b=2 v=1", rb'm,a=1,b=2 v="text, v=2" 17', id="a text"),
        pytest.param(INFLUX, rb"m,a=1 v=1", rb"m,a=1   v=1 17", id="spaces"),
        pytest.param(INFLUX, rb"m,a=1 v=1", rb'm,a=1,b= v="\""', id="a tag without a value"),
        pytest.param(INFLUX, rb"m\ n,a\=b=x\,y f\ g=1", rb'm\ n,a\=b=x\,y f\ g="1"', id="escapes"),
        pytest.param(
            LINES,
            rb'{"metric":{"__name__":"m","a":"1"},"values":[1],"timestamps":[1]}',
            rb' { "metric" : {"__name__":"m","a":"\u0031"},"values":[2,3],"timestamps":[1,2]}',
            id="JSON",
        ),
    ],
)
def test_one_series_in_several_spellings(target: str, first: bytes, second: bytes) -> None:
    assert len(found(target, first)) == len(found(target, first, second)) == 1
    assert len(found(target, first + b"\n" + second, check=False)) == 1


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        pytest.param(TEXT, [rb'm{a="\n"} 1', rb'm{a="\\n"} 1', rb'm{a="n"} 1', rb'm{a="\x"} 1'], id="escapes"),
        pytest.param(TEXT, [rb'm{a="1",a="2"} 1', rb'm{a="2",a="1"} 1', rb'm{a="1"} 1', rb'm{a="2"} 1'], id="repeated"),
        pytest.param(TEXT, [rb'm{a="1",b="2"} 1', rb'm{a="2",b="1"} 1', rb'm{a="1,b=2"} 1'], id="values"),
        pytest.param(TEXT, [rb'm 1 # {a="1"} 2', rb'm 1 # {a="2"} 2', b"m 1"], id="exemplars without labels"),
        pytest.param(TEXT, [rb'm{a="1"', rb"m{a} 1", rb'm{a="1" b="2"} 1', rb'm{"q" b="2"} 1'], id="broken"),
        pytest.param(TEXT, [rb'm{"q",a="1"} 1', rb'{"q","r"} 1', rb'{a="1"} 1', b"\rm 1"], id="broken names"),
        pytest.param(INFLUX, [b"m v=1", b"m,a=1 v=1", b"m w=1", rb"m,a=1\,b\=2 v=1", b"m,a=1,b=2 v=1"], id="influx"),
        pytest.param(INFLUX, [b"m,a=1,a=2 v=1", b"m,a=2,a=1 v=1"], id="influx, repeated"),
        pytest.param(INFLUX, [b'm v="', b'm v="1" "', b"m v\\", b'm "=1', rb"m\x =1"], id="influx, broken"),
        pytest.param(
            LINES,
            [
                b'{"metric":{"a":"1"},"values":[1],"timestamps":[1]}',
                b'{"metric":{"a":"\\u00e9"},"values":[1],"timestamps":[1]}',
                b'{"metric":{"a":"\xe9"},"values":[1],"timestamps":[1]}',
                b'{"metric":{"a":"\\udce9"},"values":[1],"timestamps":[1]}',
                b'{"values":[1],"metric":{"a":"1"},"timestamps":[1]}',
                b'{"metric":{"a":"1","a":"2"},"values":[1],"timestamps":[1]}',
                b'{"metric":{"a":"2","a":"1"},"values":[1],"timestamps":[1]}',
                b'{"metric":{"a":"' + b"x" * (5 << 20) + b'\\\\"},"values":[1],"timestamps":[1]}',
            ],
            id="JSON lines",
        ),
    ],
)
def test_different_series(target: str, rows: list[bytes]) -> None:
    assert len(found(target, *rows, check=False)) == len(rows)
    assert len(found(target, b"\n".join(rows), check=False)) == len(rows)


def test_comments_and_blank_lines_are_no_series() -> None:
    assert found(TEXT, b"# HELP m x\n\n \t# y\nm 1\n\n") == found(TEXT, b"m 1")
    assert found(INFLUX, b'#x\n\nm v="1"\n\r\n', check=False) == found(INFLUX, b"m v=1")
    assert found(LINES, b"\n \n", check=False) == set()
    line = b'{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}'
    assert found(LINES, line + b"\n \n" + line + b"\n") == found(LINES, line) == found(TEXT, b"m 1")
    assert found(ZABBIX, zabbix([]) + b" \n" + zabbix([])) == found(ZABBIX, zabbix([]))


def test_the_url_and_the_tenant_tell_series_apart() -> None:
    body = b'm{a="1",b="2"} 1'
    added = [f"{TEXT}?extra_label={label}" for label in ("a%3D2", "a%3D3", "c%3D3")]
    targets = [TEXT, *added, f"{TEXT}/metrics/job/x", f"{TEXT}/metrics/job/y"]
    assert len(set[int]().union(*(found(target, body) for target in targets))) == len(targets)
    assert found(f"{TEXT}?extra_label=a%3D1&extra_label=a%3D3&x=y", body) == found(targets[2], body)
    assert found(f"{TEXT}?extra_label=c%3D3&extra_label=a%3D3", body) == found(
        f"{TEXT}?extra_label=a%3D3&extra_label=c%3D3", body
    )
    assert found(f"{TEXT}?extra_label=a%3D", body) == found(TEXT, body)
    assert found(f"{TEXT}?extra_label=a%3D3&extra_label=a%3D", body) == found(targets[2], body)
    assert len(found(f"{INFLUX}?extra_label=__name__%3Dx", b"m v=1,w=1")) == 2
    # Those of the token replace all of the client's.
    assert found(f"{TEXT}?extra_label=b%3D3", body, labels=(("a", "3"),)) == found(targets[2], body)
    assert found(TEXT, body, tenant=None) != found(TEXT, body) != found(TEXT, body, tenant=TenantID(2))
    assert len({*found(f"{INFLUX}?db=x", b"m v=1"), *found(f"{INFLUX}?db=y", b"m v=1"), *found(INFLUX, b"m v=1")}) == 3


LABELS = st.dictionaries(st.sampled_from("abcdef"), st.text('xy\\"\n,={} ', max_size=4), max_size=4)


@given(st.lists(LABELS, max_size=6), st.randoms(use_true_random=False))
def test_text_and_remote_write_of_the_same_labels_are_the_same_series(
    rows: list[dict[str, str]], chance: object
) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    shuffled = [sorted(row.items(), key=lambda _: chance.random()) for row in rows]  # type: ignore[attr-defined]
    lines = ["m{" + ",".join(f'{name}="{escaped(value)}"' for name, value in row) + "} 1\n" for row in shuffled]
    expected = {tuple(pair for pair in row if pair[1]) for row in shuffled}
    of_text = found(TEXT, "".join(lines).encode())
    assert len(of_text) == len(expected)
    message = b"".join(series(row) for row in shuffled)
    assert found("/api/v1/write", snappy(message)) == of_text


@given(st.binary(max_size=80))
def test_any_bytes_give_series_or_an_error_of_ours(data: bytes) -> None:
    for target in (TEXT, INFLUX, LINES, f"{LINES}/csv?format=1:metric:m,2:label:a", f"{LINES}/native"):
        try:
            found(target, data, check=False)
        except BadBody:
            continue


WRITE = "/api/v1/write"


def test_series_of_remote_write() -> None:
    long = "x" * 200
    assert found(WRITE, snappy(item(1, label("__name__", "m")))) == set()
    written = item(1, label("__name__", "m"), label("a", long), sample(1), sample(2))
    assert found(WRITE, snappy(written)) == found(TEXT, f'm{{a="{long}"}} 1'.encode())
    late = item(1, label("__name__", "m"), sample(1), label("a", "1"))
    assert found(WRITE, snappy(late)) == found(TEXT, b'm{a="1"} 1')
    # The last of several names or values of a label counts.
    twice = item(1, label("__name__", "m"), item(1, item(1, b"x"), item(1, b"a"), item(2, b"1")), sample(1))
    assert found(WRITE, snappy(twice)) == found(TEXT, b'm{a="1"} 1')


def histogram(*parts: bytes) -> set[int]:
    return found(WRITE, snappy(item(1, label("__name__", "m"), item(4, *parts))))


def test_series_of_native_histograms() -> None:
    span = item(11, number(1, 4), number(2, 3))  # an offset of 2 in zigzag, three buckets
    deltas = item(12, b"\x02\x02\x02")
    assert len(histogram()) == 3
    assert len(histogram(span, deltas)) == 6
    assert len(histogram(span, item(11, number(1, 2), number(2, 100)), deltas) | histogram(span, deltas)) == 6
    assert len(histogram(span, deltas) | histogram(item(11, number(1, 6), number(2, 3)), deltas)) == 7
    assert len(histogram(item(8, number(2, 1)), item(10, double(1, 1)[1:])) | histogram(span, deltas)) == 7


OTLP = "/opentelemetry/v1/metrics"


def of_telemetry(*bodies: bytes) -> set[int]:
    return found(OTLP, *bodies, headers=PROTOBUF)


def test_series_of_opentelemetry() -> None:
    gauge = telemetry(attribute(1, "a", item(1, b"1")), b"", attribute(7, "b", item(1, b"2")))
    assert len(of_telemetry(gauge)) == 1
    assert len(of_telemetry(gauge, telemetry(attribute(1, "a", item(1, b"2")), b"", b""))) == 2
    scopes = [telemetry(b"", scope, b"") for scope in (item(1, b"s"), item(2, b"v"), attribute(3, "a", item(1, b"1")))]
    assert len(of_telemetry(*scopes)) == 3
    # Releases differ in which of several values they take.
    one, two = item(1, b"1"), item(1, b"2")
    doubtful = [telemetry(b"", b"", attribute(7, "a", *values)) for values in ((one, two), (two,), (one,))]
    assert len(of_telemetry(*doubtful)) == 3
    with pytest.raises(BodyTooLarge, match="so that its series can be counted"):
        of_telemetry(gauge + item(9, b"x" * (4 << 20)))


def firehose(*records: bytes) -> bytes:
    return json.dumps({"records": [{"data": base64.b64encode(record).decode()} for record in records]}).encode()


def test_series_of_amazon_data_firehose() -> None:
    headers = ((b"Content-Type", b"application/json"), (b"X-Amz-Firehose-Protocol-Version", b"1.0"))
    one = telemetry(b"", b"", attribute(7, "a", item(1, b"1")))
    other = telemetry(b"", b"", attribute(7, "a", item(1, b"2")))
    assert found(OTLP, firehose(one, other), headers=headers) == of_telemetry(one, other)
    sized = [bytes([len(message)]) + message for message in (one, other)]
    assert found(OTLP, firehose(*sized), headers=headers) == of_telemetry(one, other)


DATADOG = "/datadog/api/v2/series"


@pytest.mark.parametrize(
    ("target", "body", "number"),
    [
        pytest.param(DATADOG, {"series": [{"metric": "m", "points": [{}], "tags": "a:b"}]}, 1, id="tags as text"),
        pytest.param(DATADOG, {"series": [{"metric": "m", "points": [{}], "host": h} for h in "ab"]}, 2, id="hosts"),
        pytest.param(
            DATADOG,
            {"Series": [{"Metric": "m", "Points": [{}], "Tags": ["b", "host:a"]}, {"metric": "m", "points": [{}]}]},
            2,
            id="keys in another case",
        ),
        pytest.param(
            "/api/put",
            [{"metric": "m", "tags": {"a": 1}}, {"metric": "m", "tags": {"a": "2"}}, {}, 1],
            3,
            id="OpenTSDB",
        ),
        pytest.param(
            "/newrelic/infra/v2/metrics/events/bulk",
            {"Events": [{"a": 1, "b": 2.5, "c": True, "timestamp": 5}, {"a": 1, "n": "x"}, 7], "x": [1]},
            3,
            id="New Relic",
        ),
    ],
)
def test_series_of_documents(target: str, body: object, number: int) -> None:
    assert len(found(target, json.dumps(body).encode())) == number
    with pytest.raises(BadBody):
        found(target, json.dumps(body).replace("a", "\udce9").encode("utf-8", "surrogateescape"), check=False)


def test_documents_have_no_halves_of_characters() -> None:
    def event(value: str) -> bytes:
        return b'[{"Events":[{"a":"%b","n":1}]}]' % value.encode()

    whole = r"\u00e9\\ud8ab\ud83d\ude00\n"
    assert len(found("/newrelic/infra/v2/metrics/events/bulk", event(whole))) == 1
    for half in (r"\ud8ab", r"\uDEAB", r"\ud83d\u00e9", r"\\\ude00"):
        with pytest.raises(BadBody, match="half of a character"):
            found("/newrelic/infra/v2/metrics/events/bulk", event(whole + half))


ZABBIX = "/zabbixconnector/api/v1/history"


def test_series_of_zabbix() -> None:
    rows = [zabbix([]), zabbix([("a", "1")]), zabbix([("a", "2")]), b'{"name":"m","item_tags":7}', b"{7}", b"[7]"]
    assert len(found(ZABBIX, *rows, check=False)) == len(rows)
    row = zabbix([("a", "1")])
    assert found(ZABBIX, json.dumps(dict(reversed(json.loads(row).items()))).encode()) == found(ZABBIX, row)


def test_series_of_native_blocks_and_csv() -> None:
    native = next(protocol for protocol in PROTOCOLS if protocol.name == "native")
    target = place(native, [])
    escaped = native.write([("a", "\x00" + "0")])
    assert len(found(target, escaped, native.write([("a", "0")]), check=False)) == 2
    assert len(found(target, escaped.replace(b"m\x01", b"mm"), check=False)) == 1
    csv = "/api/v1/import/csv?format=1:metric:m,2:label:a,3:metric:n,9:label:b"
    assert len(found(csv, b'1,x,2\n\n3,"x",\n4,y\n"1,x\n')) == 4


def test_series_of_encoded_bodies() -> None:
    body = b'm{a="1"} 1'
    gzipped = found(TEXT, gzip.compress(body), headers=((b"Content-Encoding", b"gzip"),), check=False)
    assert gzipped == found(TEXT, body)
    for target in (TEXT, INFLUX, LINES):
        with pytest.raises(UnsupportedBody, match="can only be read in gzip or unencoded bodies"):
            found(target, body, headers=((b"Content-Encoding", b"zstd"),), check=False)


@pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="the compiled reader has the numbers built in")
def test_a_body_may_have_so_many_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_core.rows.labels.series.MAX_SERIES", 3)
    assert len(found(TEXT, b"a 1\nb 1\nc 1\na 1")) == 3
    with pytest.raises(BodyTooLarge, match="more than 3 series"):
        found(TEXT, b"a 1\nb 1\nc 1\nd 1")
    monkeypatch.setattr("vmgw_core.rows.labels.series.MAX_LABELS", 5)
    assert len(found(TEXT, b"a 1\nb 1")) == 2
    with pytest.raises(BodyTooLarge, match="or 5 labels"):
        found(TEXT, b"a 1\na 1\na 1\n")


def series_of(*bodies: bytes, hashes: LabelHashes = HASHES) -> Series:
    """The series of bodies that wait to be read."""
    collected = Series(hashes, TENANT, (), RequestHead(method="POST", target=TEXT, headers=(), client="127.0.0.1"))
    for body in bodies:
        collected.read(series_lines.TEXT, body)
    return collected


def steps(collected: Series) -> int:
    return sum(1 for _ in collected.steps())


def test_rows_are_read_in_steps() -> None:
    assert steps(series_of(b"a 1\nb 1\n")) == 0
    lines = b"".join(b'm{a="%d"} 1\n' % number for number in range(10_000))
    waiting = series_of(lines, b"a 1")
    assert (waiting.waits, len(waiting.found)) == (True, 0)
    assert steps(waiting) == 14
    assert (waiting.waits, len(waiting.taken()), waiting.found) == (False, 10_001, set())
    parts = Series(HASHES, TENANT, (), RequestHead(method="POST", target=TEXT, headers=(), client="127.0.0.1"))
    parts.read(SeriesReader(lambda _: [Parts([(b"a", b"1")], range(10_000))]), b"")
    assert (steps(parts), len(parts.found)) == (4, 10_000)


def test_a_row_has_few_labels() -> None:
    labels = [",".join(f'l{number}="1"' for number in range(most)) for most in (1999, 2000)]
    assert len(found(TEXT, f"m{{{labels[0]}}} 1".encode())) == 1
    with pytest.raises(BodyTooLarge, match="a row has more than 2000 labels"):
        found(TEXT, f"m{{{labels[1]}}} 1".encode())


def test_few_bytes_wait_to_be_read() -> None:
    hashes = LabelHashes(b"key")
    alone = series_of(b"a 1\n" + b"# " * (20 << 20), hashes=hashes)  # one may have more than all together
    small = series_of(b"b 1", hashes=hashes)
    with pytest.raises(Overloaded, match="retry later"):
        series_of(b"c" * (2 << 20), hashes=hashes)
    assert (steps(alone), steps(small), hashes.waiting) == (0, 0, 0)
    assert [len(each.found) for each in (alone, small)] == [1, 1]
    waiting = series_of(*[b"#" * (10 << 20)] * 3, hashes=hashes)
    assert hashes.waiting == 30 << 20
    with pytest.raises(Overloaded):
        series_of(b"c" * (3 << 20), hashes=hashes)
    waiting.drop()
    assert (waiting.waits, hashes.waiting) == (False, 0)
    reading = series_of(b"".join(b"m%d 1\n" % number for number in range(5000)), hashes=hashes).steps()
    next(reading)
    assert hashes.waiting > 0
    reading.close()
    assert hashes.waiting == 0


def test_few_labels_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmgw_core.limits.windows.label_hashes._MAX_LABELS", 3)
    bodies = [text([("a", str(number))]) for number in range(20)] + [text([("a", "x" * 500)])]
    assert len(found(TEXT, *bodies)) == 21
    assert found(TEXT, *bodies) == found(TEXT, *reversed(bodies))


def test_long_labels_are_not_remembered() -> None:
    hashes = LabelHashes(b"key")

    def parse(written: bytes) -> tuple[bytes, bytes]:
        return written[:1], b"1"

    for written in (b"a", b"a" * 256, b"a" * 257):
        assert hashes.of(written, parse) == hashes.hash(b"a", b"1")
    assert [len(written) for written in hashes.known(parse)] == [1, 256]
