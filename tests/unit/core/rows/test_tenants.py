"""The tenants that the rows of a write name: in every protocol, and the bodies that could be read in two ways."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import PROTOBUF, SNAPPY, Headers, item, number, snappy
from tests.support.core.tenant_bodies import (
    ACCOUNT,
    JSON,
    LABELS,
    PROJECT,
    PROTOCOLS,
    Pairs,
    Protocol,
    attribute,
    json_line,
    series,
    target_of,
    telemetry,
    text,
    texts,
    zabbix,
)
from vmgw_core.base import TenantID
from vmgw_core.errors import BadBody, BodyTooLarge, ForeignTenant, Refusal, UnsupportedBody
from vmgw_core.http.head import RequestHead
from vmgw_core.routing.routes import match_route
from vmgw_core.rows.dispatch import row_counter
from vmgw_core.rows.labels.tenants import names_tenant

EVERY = ("0:0", "7:9", "7:0", "0:9", "4294967295:0", "8:0", "0:7", "1:0")


def tenants(*names: str) -> frozenset[TenantID]:
    return frozenset(map(TenantID.parse, names))


def rows(target: str, body: bytes, *granted: str, headers: Headers = (), check: bool = True) -> int:
    """Count the rows of a write for all tenants."""
    match = match_route(target.partition("?")[0], "POST", cluster=True)
    head = RequestHead(method="POST", target=target, headers=headers, client="127.0.0.1")
    counter = row_counter(match.route, head, max_decoded=64 << 20, check=check, tenants=tenants(*granted))
    assert counter is not None
    counter.feed(body)
    counter.finish()
    return counter.rows


@pytest.mark.parametrize("check", [True, False], ids=["names checked", "names not checked"])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(("pairs", "tenant"), [pytest.param(*row[1:], id=row[0]) for row in LABELS])
def test_a_row_is_for_the_tenant_that_it_names(
    protocol: Protocol, pairs: Pairs, tenant: str | None, *, check: bool
) -> None:
    pairs = [*pairs, ("run", "x")]
    target, body = target_of(protocol, pairs), protocol.write(pairs)
    if tenant is None:
        with pytest.raises(ForeignTenant, match="the tenant of a row cannot be told"):
            rows(target, body, *EVERY, headers=protocol.headers, check=check)
        return
    needed = {tenant, "0:0"} if protocol.default else {tenant}
    assert rows(target, body, *needed, headers=protocol.headers, check=check) in (1, 9)
    for missing in needed:
        with pytest.raises(ForeignTenant, match=f"is for tenant {missing}, to which the token gives no write access"):
            rows(target, body, *({*EVERY} - {missing}), headers=protocol.headers, check=check)


TEXT = "/insert/multitenant/prometheus/api/v1/import/prometheus"
LINES = "/insert/multitenant/prometheus/api/v1/import"
INFLUX = "/insert/multitenant/influx/write"
CSV = "/insert/multitenant/prometheus/api/v1/import/csv"
NATIVE = "/insert/multitenant/prometheus/api/v1/import/native"
WRITE = "/insert/multitenant/prometheus/api/v1/write"
OTLP = "/insert/multitenant/opentelemetry/v1/metrics"
DATADOG_V1 = "/insert/multitenant/datadog/api/v1/series"
DATADOG_V2 = "/insert/multitenant/datadog/api/v2/series"
NEW_RELIC = "/insert/multitenant/newrelic/infra/v2/metrics/events/bulk"
OPENTSDB = "/insert/multitenant/api/put"
ZABBIX = "/insert/multitenant/zabbixconnector/api/v1/history"
SEVEN = texts(7, [(ACCOUNT, "7")])


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        pytest.param(
            TEXT, b'm {vm_account_id = "7" , a="\\"}" , } 1\r\n  m{ "q.x","y"="z", vm_account_id="7" } 2', (), id="text"
        ),
        pytest.param(TEXT, b'\n\r\n# a comment {vm_account_id="1"}\nm{vm_account_id="7"} 1', (), id="comments"),
        pytest.param(INFLUX, b"# a comment\n\r\nm,a=b\\ c\\,vm_account_id\\=1,vm_account_id=7 v=1\n", (), id="influx"),
        pytest.param(
            INFLUX, b'm,vm_account_id=7 v="\\\\,vm_account_id=1",w=1\n', (), id="influx, two backslashes in a field"
        ),
        pytest.param(LINES, b" \r\n" + json_line([("a", '"}'), (ACCOUNT, "7")]), (), id="JSON lines"),
        pytest.param(CSV + "?format=2:label:vm_account_id,1:metric:m,9:label:a", b'1,"7"\r\n\n\r\n2,7\n', (), id="CSV"),
        pytest.param(OTLP, telemetry(SEVEN, b"", b""), (), id="a label at no known place"),
        pytest.param(
            OTLP, telemetry(b"", b"", attribute(7, ACCOUNT, number(3, 7))), (), id="a number of OpenTelemetry"
        ),
        pytest.param(OTLP, telemetry(b"", b"", item(7) + attribute(7, "b") + SEVEN), (), id="no key, and no value"),
        pytest.param(
            DATADOG_V1,
            b'{"SERIES":[{"metric":"m","points":[[1,1]],"Tag\xc5\xbf":["vm_account_id:7"]}]}',
            (),
            id="as Go reads keys",
        ),
        pytest.param(
            DATADOG_V1,
            b'{"series":[{"metric":"m","points":[[1,1]],"tags":["vm_account_id:7"],"resources":[{"type":"vm_project_id","name":"9"}]}]}',
            (),
            id="v1 has no resources",
        ),
        pytest.param(OPENTSDB, b'[{"metric":"m","value":1,"tags":{"vm_account_id":"7"}}]', (), id="a list of OpenTSDB"),
    ],
)
def test_what_can_be_read_in_one_way_only(target: str, body: bytes, headers: Headers) -> None:
    assert rows(target, body, "7:0", "0:0", headers=headers)
    if target is not OTLP:
        assert rows(target, body, "7:0", headers=headers)


def deep(depth: int) -> bytes:
    return json.dumps({"metric": {"__name__": "m"}})[:-2].encode() + b',"a":' + b"[" * depth + b"]" * depth + b"}}\n"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        pytest.param(TEXT, b'\r# HELP{vm_account_id="1"} 1', id="a comment behind a carriage return"),
        pytest.param(TEXT, b'm 1 # {vm_account_id="7"} 1', id="an exemplar"),
        pytest.param(TEXT, b'm{vm_account_id="7"', id="no end"),
        pytest.param(TEXT, b"m{vm_account_id=7} 1", id="no quotes"),
        pytest.param(TEXT, b'm{"vm_account_id"="7"} 1', id="a name in quotes"),
        pytest.param(TEXT, b'm{"vm_account_id"} 1', id="a metric of that name"),
        pytest.param(TEXT, b'm{"vm_\\account_id"="7"} 1', id="an escape"),
        pytest.param(TEXT, b'm{a="b""vm_account_id"="7"} 1', id="no comma"),
        pytest.param(TEXT, b'm{a=b="c",vm_account_id="7"} 1', id="two equals signs"),
        pytest.param(INFLUX, b" m,vm_account_id=7 v=1", id="a blank before influx"),
        pytest.param(INFLUX, b"m,a=b\\\\,vm_account_id=7 v=1", id="two backslashes"),
        pytest.param(INFLUX, b"m,vm_account\\_id=7 v=1", id="an escaped tag"),
        pytest.param(INFLUX, b"m,vm_account_id=7\\ 1 v=1", id="an escaped value"),
        pytest.param(
            LINES, b'{"values":[1],"metric":{"__name__":"m","vm_account_id":"7"},"timestamps":[1]}', id="metric last"
        ),
        pytest.param(
            LINES, b'{"metric":{"__name__":"m","vm_account_id":7},"values":[1],"timestamps":[1]}', id="a number"
        ),
        pytest.param(LINES, b'{"metric":{"__name__":"m","a":{}},"values":[1],"timestamps":[1]}', id="an object"),
        pytest.param(LINES, b'{"metric":{"__name__":"m",},"values":[1],"timestamps":[1]}', id="bad JSON"),
        pytest.param(LINES, deep(100_000), id="deep JSON"),
        pytest.param(LINES, json_line([("a", "x" * (1 << 20))]), id="long labels"),
        pytest.param(CSV + "?format=1:metric:m,2:label:vm_account_id&format=1:metric:m", b"1,7", id="two formats"),
        pytest.param(CSV + "?format=1:metric:m,+2:label:vm_account_id", b"1,7", id="an odd column"),
        pytest.param(CSV + "?format=1:metric:m,2:label:vm_account_id", b"1", id="no cell"),
        pytest.param(CSV + "?format=1:metric:m,2:label:vm_account_id", b'1,"7', id="an open quote"),
        pytest.param(OTLP, telemetry(texts(1, [(ACCOUNT, "7")]), b"", texts(7, [(PROJECT, "9")])), id="two places"),
        pytest.param(
            OTLP, telemetry(texts(1, [(ACCOUNT, "7")]), b"", texts(7, [(ACCOUNT, "7")])), id="two places, the same"
        ),
        pytest.param(OTLP, telemetry(b"", texts(3, [(ACCOUNT, "7")]), b""), id="a scope"),
        pytest.param(OTLP, telemetry(b"", b"", attribute(7, ACCOUNT, item(1, b"7"), item(1, b"8"))), id="two values"),
        pytest.param(
            OTLP,
            telemetry(b"", b"", item(7, item(1, b"a"), item(1, ACCOUNT.encode()), item(2, item(1, b"7")))),
            id="two keys",
        ),
        pytest.param(
            OTLP, telemetry(b"", b"", attribute(7, ACCOUNT, item(1, b"7") + number(3, 8))), id="two kinds of value"
        ),
        pytest.param(OTLP, telemetry(b"", b"", attribute(7, ACCOUNT, item(7, b"7"))), id="bytes"),
        pytest.param(
            OTLP,
            telemetry(b"", b"", attribute(7, "vm", item(6, attribute(1, "account_id", item(1, b"7"))))),
            id="a nested name",
        ),
        pytest.param(
            OTLP,
            item(1, item(1), item(1, texts(1, [(ACCOUNT, "7")])), item(2, item(2, item(5, item(1, b""))))),
            id="two resources",
        ),
        pytest.param(OTLP, item(1, item(2, item(1), item(1), item(2, item(5, item(1, b""))))), id="two scopes"),
        pytest.param(
            DATADOG_V1,
            b'{"series":[{"metric":"m","points":[[1,1]],"tags":["vm_account_id:7"],"Tags":[]}]}',
            id="tags twice",
        ),
        pytest.param(
            DATADOG_V1,
            b'{"series":[{"metric":"m","points":[[1,1]],"tags":["vm_account_id"]}]}',
            id="a tag without value",
        ),
        pytest.param(
            DATADOG_V1,
            b'{"series":[{"metric":"m","points":[[1,1]],"tags":{"vm_account_id":"7"}}]}',
            id="tags as an object",
        ),
        pytest.param(DATADOG_V1, b'{"series":[{"metric":"m","points":[[1,1]]},7]}', id="a number as a series"),
        pytest.param(
            DATADOG_V2,
            b'{"series":[{"metric":"m","points":[{}],"resources":[{"type":"vm_account_id"}]}]}',
            id="a resource without name",
        ),
        pytest.param(
            DATADOG_V2,
            b'{"series":[{"metric":"m","points":[{}],"resources":[{"type":"a","Type":"vm_account_id","name":"7"}]}]}',
            id="a type twice",
        ),
        pytest.param(NEW_RELIC, b'[{"Events":[{"vm_account_id":7}]}]', id="a number of New Relic"),
        pytest.param(NEW_RELIC, b'[{"Events":[{"a":1}],"Events":[7]}]', id="an event that is none"),
        pytest.param(
            OPENTSDB, b'{"metric":"m","value":1,"tags":{"vm_account_id":"7"},"tags":{}}', id="tags twice, OpenTSDB"
        ),
        pytest.param(NATIVE, bytes(16) + b"\0\0\0\x04m\x01a\x01\0\0\0\0", id="half a label"),
        pytest.param(NATIVE, bytes(16) + b"\0\0\0\x05m\x01a\x01b\0\0\0\0", id="a label without end"),
        pytest.param(
            NATIVE, bytes(16) + b"\0\0\0\x13m\x01vm_account\x000id\x017\x01\0\0\0\0", id="an escape in a name"
        ),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(target: str, body: bytes) -> None:
    headers = JSON if target is DATADOG_V2 else ()
    with pytest.raises(ForeignTenant, match="the tenant of a row cannot be told"):
        rows(target, body, *EVERY, headers=headers, check=False)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        pytest.param(OPENTSDB, b'{"metric":"m","value":1,"Tags":{"vm_account_id":"7"}}', id="OpenTSDB, Tags"),
        pytest.param(OPENTSDB, b'{"metric":"m","value":1,"tags":["vm_account_id","7"]}', id="OpenTSDB, no object"),
        pytest.param(
            NEW_RELIC, b'[{"events":[{"vm_account_id":"7","a":1}],"Events":[{"a":1}]}]', id="New Relic, events"
        ),
        pytest.param(INFLUX, b"m v=1,vm_account_id=7", id="a field"),
        pytest.param(INFLUX, b"m\\,vm_account_id=7 v=1", id="a measurement"),
        pytest.param(TEXT, b'm{a="\\",vm_account_id=\\"7"} 1', id="within a value"),
        pytest.param(TEXT, b'm 1 # vm_account_id="7"', id="behind the value"),
        pytest.param(CSV + "?format=1:metric:m,2:label:a", b"1,vm_account_id", id="a cell"),
        pytest.param(CSV + "?format=1:metric:m,2:label:vm_account_id", b"1,", id="an empty cell"),
        pytest.param(ZABBIX, zabbix([(ACCOUNT, "7")]), id="Zabbix"),
    ],
)
def test_what_is_no_label_names_no_tenant(target: str, body: bytes) -> None:
    assert rows(target, body, "0:0", check=False)
    with pytest.raises(ForeignTenant, match="is for tenant 0:0"):
        rows(target, body, "7:0", check=False)


def test_each_of_several_rows_is_checked() -> None:
    body = text([(ACCOUNT, "7")]) + text([(ACCOUNT, "8")]) + text([])
    assert rows(TEXT, body, "7:0", "8:0", "0:0") == 3
    for granted in (("7:0", "8:0"), ("7:0", "0:0"), ("8:0", "0:0")):
        with pytest.raises(ForeignTenant):
            rows(TEXT, body, *granted)


# --- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"# HELP m of all\n", b"#TYPE m gauge\n", b" \t# \ttype m gauge\n", b"# UNIT m s\n"])
def test_metadata_in_text_is_for_the_default_tenant(line: bytes) -> None:
    body = line + text([(ACCOUNT, "7")])
    assert rows(TEXT, body, "7:0", "0:0") == 1
    with pytest.raises(ForeignTenant, match=r"^metadata \(# HELP, # TYPE\) is for tenant 0:0"):
        rows(TEXT, body, "7:0")


@pytest.mark.parametrize(
    ("numbers", "tenant"), [(b"", "0:0"), (number(11, 7), "7:0"), (number(11, 7) + number(12, 9), "7:9")]
)
def test_metadata_of_remote_write_names_its_tenant(numbers: bytes, tenant: str) -> None:
    body = snappy(item(3, number(1, 1), item(2, b"m"), numbers) + series([(ACCOUNT, "1")]))
    assert rows(WRITE, body, tenant, "1:0", headers=SNAPPY) == 1
    with pytest.raises(ForeignTenant, match=f"^metadata of a metric is for tenant {tenant}"):
        rows(WRITE, body, "1:0", headers=SNAPPY)


# --- the URL, encodings and sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        TEXT + "?extra_label=vm_account_id=7",
        TEXT + "?a=b&extra%5Flabel=vm%5Fproject_id%3D7",
        TEXT + "?extra_label=VictoriaMetrics_AccountID=7",
        TEXT + "?extra_label=vm.account.id=7",
        TEXT + "?extra_label=vm_account_id",
        TEXT + "/metrics/job/a/vm_account_id/7",
        TEXT + "/metrics/job/a/vm_project_id@base64/Nw",
        TEXT + "/metrics/job@base64/YQ/vm%5Faccount_id/7",
    ],
)
def test_the_url_may_not_name_a_tenant(target: str) -> None:
    with pytest.raises(ForeignTenant, match="the URL may not add the label"):
        rows(target, text([]), *EVERY)


def test_other_labels_in_the_url_are_no_matter() -> None:
    assert rows(TEXT + "/metrics/job/a/b/vm_account_id?extra_label=a=vm_account_id", text([]), "0:0") == 1


def test_a_body_that_releases_decode_differently_is_refused() -> None:
    for protocol in PROTOCOLS:
        body = protocol.write([])
        target = target_of(protocol, [])
        if b"Content-Encoding" in dict(protocol.headers):
            continue
        gzipped = (*protocol.headers, (b"Content-Encoding", b"gzip"))
        assert rows(target, gzip.compress(body), "0:0", headers=gzipped)
        deflated = (*protocol.headers, (b"Content-Encoding", b"deflate"))
        with pytest.raises(UnsupportedBody, match="can only be checked in gzip or unencoded bodies"):
            rows(target, zlib.compress(body), "0:0", headers=deflated)


def test_a_delivery_of_firehose_is_refused() -> None:
    headers = (*JSON, (b"X-Amz-Firehose-Protocol-Version", b"1.0"))
    with pytest.raises(ForeignTenant, match="a delivery of Amazon Data Firehose is not read"):
        rows(OTLP, b'{"records":[]}', *EVERY, headers=headers)


@pytest.mark.parametrize(
    ("target", "body", "headers"),
    [
        (OTLP, item(1, item(2, bytes(4 << 20))), PROTOBUF),
        (NEW_RELIC, b"[" + b" " * (4 << 20) + b"]", ()),
    ],
)
def test_a_large_document_is_refused(target: str, body: bytes, headers: Headers) -> None:
    with pytest.raises(BodyTooLarge, match="split it, so that its tenants can be checked"):
        rows(target, body, *EVERY, headers=headers, check=False)


@pytest.mark.parametrize(("target", "body"), [(DATADOG_V1, b"[]"), (DATADOG_V1, b"{"), (OPENTSDB, b"[" * 100_000)])
def test_a_broken_document_is_refused(target: str, body: bytes) -> None:
    with pytest.raises(BadBody):
        rows(target, body, *EVERY, check=False)


@given(data=st.data())
def test_any_bytes_are_counted_or_refused(data: st.DataObject) -> None:
    protocol = data.draw(st.sampled_from(PROTOCOLS))
    body = protocol.write([(ACCOUNT, "7"), (PROJECT, "9")])
    place = data.draw(st.integers(0, len(body)))
    body = body[:place] + data.draw(st.binary(max_size=6)) + body[place + data.draw(st.integers(0, 6)) :]
    with contextlib.suppress(Refusal):
        rows(target_of(protocol, []), body, "7:9", headers=protocol.headers, check=False)


@given(st.text(max_size=40))
def test_a_name_that_a_sanitizer_could_make_one_of_a_tenant(name: str) -> None:
    letters = "".join(character for character in name if character.isascii() and character.isalnum()).lower()
    assert names_tenant(name) == (letters in ("vmaccountid", "vmprojectid"))
    spread = name.join("vm_account_id") if not letters else "vm_account_id"
    assert names_tenant(spread) == names_tenant(spread.encode()) is True
