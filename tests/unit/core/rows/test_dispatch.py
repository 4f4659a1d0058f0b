"""Which body is counted how: bodies of every protocol, in every encoding, cut anywhere."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import (
    CASES,
    ENCODINGS,
    FORMAT,
    PROTOBUF,
    TIME,
    Case,
    Headers,
    double,
    item,
    number,
    opentelemetry,
    remote_write,
    sample,
    snappy,
    zstd,
)
from tests.support.core.counting import MIB, count, counter_of, encoded_with
from tests.support.each import each
from vmgw_core.base.tenants import Access
from vmgw_core.errors import BadRequest, BodyTooLarge, Refusal, UnsupportedBody, UnsupportedProtocol
from vmgw_core.http.head import RequestHead
from vmgw_core.routing.routes import ROUTES, Filters, Route
from vmgw_core.rows.dispatch import row_counter

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
JSON: Headers = ((b"Content-Type", b"application/json"),)


# --- routes ---------------------------------------------------------------------------------------------------------


def has_counter(route: Route) -> bool:
    head = RequestHead(method="POST", target=f"{route.path}?{FORMAT}", headers=(), client="")
    return row_counter(route, head, max_decoded=MIB) is not None


@each("route", ROUTES, ids=lambda route: f"{route.path} {route.cluster_prefix}")
def test_every_route_that_writes_rows_has_a_counter_and_no_other_has(route: Route) -> None:
    assert has_counter(route) == (route.access is Access.WRITE and route.filters is Filters.BIND)


def test_every_such_route_has_a_body_here() -> None:
    tested = {case.path.removeprefix("/influx").removeprefix("/opentsdb") for case in CASES}
    tested |= {"/api/v1/import/native", "/api/v1/push", "", "/opentelemetry/api/v1/push", "/write"}
    tested |= {f"/api/v1/import/prometheus/metrics/job{encoding}/<grouping...>" for encoding in ("", "@base64")}
    for route in ROUTES:
        if has_counter(route):
            path = route.path.removeprefix(route.prefix).removesuffix("/")
            assert path.removeprefix("/opentsdb") in tested


# --- bodies ---------------------------------------------------------------------------------------------------------


@cases
def test_counts(case: Case) -> None:
    assert count(case.target, case.body, case.headers) == case.rows


@cases
def test_counts_wherever_the_body_is_cut(case: Case) -> None:
    for index in range(len(case.body)):
        assert count(case.target, (case.body[:index], case.body[index:]), case.headers) == case.rows
    assert count(case.target, [bytes([byte]) for byte in case.body], case.headers) == case.rows


@cases
def test_an_empty_piece_changes_nothing(case: Case) -> None:
    assert count(case.target, (b"", case.body, b""), case.headers) == case.rows


@each("name", ENCODINGS)
@each("case", [case for case in CASES if not case.encoded], ids=lambda case: case.name)
def test_counts_what_is_encoded(case: Case, name: str) -> None:
    encoding, encode = ENCODINGS[name]
    body, headers = encode(case.body), (*case.headers, *encoded_with(encoding))
    rows = count(case.target, body, headers)
    # What older releases could make of the encoded bytes counts too: a line break among them, now and then.
    assert rows == case.rows if encoding == "gzip" else case.rows <= rows <= case.rows + 5
    for size in (1, 2, 7, 100):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert count(case.target, pieces, headers) == rows


@given(st.data())
def test_any_bytes_count_or_are_refused(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    encoding = data.draw(st.sampled_from(["", "gzip", "deflate", "zstd", "snappy"]))
    pieces = data.draw(st.lists(st.binary(max_size=50), max_size=5))
    with contextlib.suppress(Refusal):
        assert count(case.target, pieces, (*case.headers[1:], *encoded_with(encoding)), max_decoded=10_000) >= 0


# --- bodies that read in two ways -----------------------------------------------------------------------------------


def test_a_body_in_an_encoding_that_older_releases_take_for_none_is_read_both_ways() -> None:
    rows = b"\nm 1" * 10 + b"\n"
    skippable = b"\x50\x2a\x4d\x18" + len(rows).to_bytes(4, "little") + rows
    body = skippable + zstd(b"m 1\n")
    assert count("/api/v1/import/prometheus", body, encoded_with("zstd")) >= 11
    stored = zlib.compress(rows, 0)
    assert count("/api/v1/import/prometheus", stored, encoded_with("deflate")) >= 10


def test_the_way_that_fails_keeps_what_it_counted() -> None:
    body = b"\x50\x2a\x4d\x18" + (200).to_bytes(4, "little") + b"\nm 1" * 50
    counter = counter_of("/api/v1/import/prometheus", encoded_with("zstd"))
    counter.feed(body)
    counter.finish()
    assert counter.rows == 51
    native = counter_of("/api/v1/import/native", encoded_with("zstd"))
    native.feed(zstd(bytes(16)) + b"\x50\x2a\x4d\x18\x08\0\0\0" + b"\xff" * 8)
    native.finish()
    assert native.rows == 0


def test_the_first_way_must_not_fail() -> None:
    counter = counter_of("/api/v1/import/prometheus", encoded_with("zstd"))
    with pytest.raises(BadRequest):
        counter.feed(b"m 1\n" * 10)


@each("header", ["", "snappy", "zstd", "identity"])
@each("encode", [snappy, zstd])
def test_remote_write_is_read_in_both_encodings_whatever_the_header_says(encode: object, header: str) -> None:
    assert callable(encode)
    body = encode(remote_write())
    assert count("/api/v1/write", body, encoded_with(header)) == 5
    assert count("/prometheus", [body[:1], body[1:]], encoded_with(header)) == 5


@pytest.mark.parametrize("body", [b"plain", remote_write(), gzip.compress(remote_write()), snappy(b"\xff" * 9)])
def test_remote_write_in_neither_encoding_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        count("/api/v1/write", body)


@pytest.mark.parametrize("header", ["gzip", "deflate", "br", "SNAPPY"])
def test_remote_write_in_another_encoding_is_refused(header: str) -> None:
    with pytest.raises(UnsupportedBody):
        count("/api/v1/write", snappy(remote_write()), encoded_with(header))


# --- headers and arguments that matter ------------------------------------------------------------------------------


def test_csv_reads_the_format_from_the_url() -> None:
    body = b"1,2,3\n4,5,6"
    assert count("/api/v1/import/csv?a=b&format=1:metric:x", body) == 2
    assert count("/api/v1/import/csv?format=1%3Ametric:x%2C2:metric:y", body) == 4
    assert count("/api/v1/import/csv?f%6Frmat=1:metric:x&format=1:metric:x,2:metric:y", body) == 4
    for target in ("", "?", "?format=", "?Format=1:metric:x", "?format=1:metric:x;", "?extra=format=1:metric:x"):
        with pytest.raises(BadRequest):
            count(f"/api/v1/import/csv{target}", body)


def test_opentelemetry_is_protobuf_or_comes_by_firehose() -> None:
    target = "/opentelemetry/api/v1/push"
    firehose = (*JSON, (b"X-Amz-Firehose-Protocol-Version", b"1.0"))
    assert count(target, b'{"records":[]}', firehose) == 0
    for content_type in (b"", b"application/x-protobuf", b"application/json; charset=utf-8"):
        assert count(target, opentelemetry(), ((b"Content-Type", content_type),)) == 17
    for headers in (JSON, (*JSON, (b"X-Amz-Firehose-Protocol-Version", b""))):
        with pytest.raises(UnsupportedProtocol, match="send protobuf"):
            count(target, b"{}", headers)
    with pytest.raises(UnsupportedBody, match="more than one"):
        count(target, b"{}", JSON * 2)


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/x-protobuf;proto=io.prometheus.write.v2.Request",
        b"application/x-protobuf; proto=io.prometheus.write.v2.Request",
        b'application/x-protobuf ; Proto = "io.prometheus.write.v2.Request"',
        b"APPLICATION/X-PROTOBUF;charset=x;PROTO=io.prometheus.write.v3.Request",
        b"application/x-protobuf;proto=",
    ],
)
def test_remote_write_2_is_refused_by_its_type(content_type: bytes) -> None:
    with pytest.raises(UnsupportedProtocol, match=r"send 1\.0"):
        counter_of("/api/v1/write", ((b"Content-Type", content_type),))


@pytest.mark.parametrize(
    "content_type",
    [b"", b"application/x-protobuf", b"x;proto=prometheus.WriteRequest", b'x; proto="prometheus.WriteRequest"'],
)
def test_remote_write_1_is_not(content_type: bytes) -> None:
    assert count("/api/v1/write", snappy(remote_write()), ((b"Content-Type", content_type),)) == 5


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("encode", [snappy, zstd])
def test_remote_write_2_is_refused_by_its_body_too(encode: Callable[[bytes], bytes], check: bool) -> None:
    series = item(5, item(1, bytes([1, 2])), item(2, double(1, 1), number(2, TIME * 1000)))
    symbols = b"".join(item(4, symbol) for symbol in (b"", b"__name__", b"m"))
    for message in (symbols + series, series, symbols, remote_write() + series):
        with pytest.raises(UnsupportedProtocol, match=r"send 1\.0"):
            count("/api/v1/write", encode(message), check=check)


EMPTY = zstd(b"")
SKIP = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"


@each(
    "frames",
    [
        EMPTY + zstd(remote_write()),
        SKIP + zstd(remote_write()),
        b"\x5f\x2a\x4d\x18\x00\x00\x00\x00" * 3 + zstd(remote_write()),
        EMPTY + SKIP + zstd(remote_write()) + SKIP + EMPTY,
        zstd(remote_write()[:20]) + SKIP + zstd(remote_write()[20:]),
    ],
    ids=["empty first", "skippable first", "several skippable", "around", "in two"],
)
@each("name", ["", "snappy", "zstd"])
def test_remote_write_is_read_in_all_frames(frames: bytes, name: str) -> None:
    assert count("/api/v1/write", frames, encoded_with(name)) == 5


def test_datadog_v2_may_be_protobuf() -> None:
    target = "/datadog/api/v2/series/"
    with pytest.raises(BadRequest):
        count(target, b'{"series":[]}', PROTOBUF)
    assert count(target, b'{"series":[]}', ((b"Content-Type", b"application/x-protobuf2"),)) == 0
    with pytest.raises(UnsupportedBody):
        count(target, b"", PROTOBUF * 2)


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_what_is_read_whole_is_bounded() -> None:
    message = item(1, sample(1)) * 50
    assert count("/opentelemetry/v1/metrics", bytes(0), max_decoded=10) == 0
    assert count("/api/v1/write", zstd(message), max_decoded=len(message)) == 50
    for encode in (zstd, snappy):
        with pytest.raises(BodyTooLarge):
            count("/api/v1/write", encode(message), max_decoded=len(message) - 1)
    with pytest.raises(BodyTooLarge):
        count("/api/v1/import", b'{"values":[1,2,3]}', max_decoded=10)
    assert count("/api/v1/import/prometheus", b"metric_1 1", max_decoded=1) == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_a_body_that_grows_too_much_is_refused(encoding: str) -> None:
    bomb = ENCODINGS[encoding][1](b"\n" * (40 * MIB))
    with pytest.raises(BodyTooLarge, match="250 times"):
        count("/api/v1/import/prometheus", bomb, encoded_with(encoding))
    fine = ENCODINGS[encoding][1](b"\n" * (15 * MIB))
    assert count("/api/v1/import/prometheus", fine, encoded_with(encoding)) < 5000


# --- what may be passed on ------------------------------------------------------------------------------------------


@given(size=st.integers(1, 400), name=st.sampled_from(["", *ENCODINGS]))
def test_what_is_settled_has_been_counted(size: int, name: str) -> None:
    """A backend that gets the settled part and no more, and reads the last line all the same, inserts no more."""
    encoding, encode = ENCODINGS.get(name, ("", bytes))
    body = encode(b"".join(b"metric_%d %d\n" % (n, n) for n in range(100)))
    counter = counter_of("/api/v1/import/prometheus", encoded_with(encoding))
    for start in range(0, len(body), size):
        counter.feed(body[start : start + size])
        settled = counter.settled
        assert settled <= start + size
        if encoding != "snappy":
            part = counter_of("/api/v1/import/prometheus", encoded_with(encoding))
            part.feed(body[:settled])
            with contextlib.suppress(BadRequest):
                part.finish()
            assert part.rows <= counter.rows
    counter.finish()
    assert 100 <= counter.rows <= 110


@cases
def test_what_is_read_whole_is_settled_but_counts_at_the_end(case: Case) -> None:
    counter = counter_of(case.target, case.headers)
    counter.feed(case.body)
    lines = case.kind in ("prometheus", "vmimport", "csvimport", "influx", "zabbixconnector")
    assert counter.settled == (case.body.rfind(b"\n") + 1 if lines else len(case.body))
    if not lines:
        assert counter.rows == 0
