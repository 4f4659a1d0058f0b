"""Rows of JSON documents."""

from __future__ import annotations

import base64
import contextlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import DATADOG_V1, DATADOG_V2, NEW_RELIC, OPENTSDB, line, opentelemetry, varint
from tests.support.each import each
from vmgw_core.errors import BadRequest, BodyTooLarge, Refusal
from vmgw_core.rows.json import MAX_PARSED, count_datadog, count_firehose, count_new_relic, count_opentsdb

COUNTS = [count_datadog, count_firehose, count_new_relic, count_opentsdb]


@each(
    ("body", "rows"),
    [
        (DATADOG_V1, 3),
        (DATADOG_V2, 3),
        (b"{}", 0),
        (b'{"series":[]}', 0),
        (b'{"series":[{"points":[null,[],[1],[1,2,3]]}]}', 4),
        (b'{"SERIES":[{"Points":[[1,2]]}]}', 1),
        ('{"\u017ferie\u017f":[{"point\u017f":[[1,2]]}]}'.encode(), 1),
        (b'{"series":[{"p\\u006fints":[[1,2]]}]}', 1),
        (b'{"series":[{"points":[[1,2]],"points":[[1,2],[3,4]]}]}', 3),
        (b'{"series":[{"points":[[1,NaN]]}]}', 1),
        (b'{"series":[{"metric":"\xff","points":[[1,2]]}]}', 1),
        (b' {"series" : [ {"points" : [ [ 1 , 2 ] ] } ] } \n', 1),
    ],
)
def test_datadog(body: bytes, rows: int) -> None:
    assert count_datadog(body) == rows


@pytest.mark.parametrize(
    "body",
    [
        b'{"series":[{}]}',
        b'{"series":[{"metric":"m"}]}',
        b'{"series":[{"points":null}]}',
        b'{"series":[null]}',
        b'{"Series":[{"points":[[1,2]]},{"metric":"m"}]}',
        b'{"series":[{"points":[[1,2]],"POINTS":0}]}',
    ],
)
def test_a_datadog_series_without_points_is_refused(body: bytes) -> None:
    """VictoriaMetrics 1.79.5 inserts the points of an earlier request in their place."""
    with pytest.raises(BadRequest, match="points"):
        count_datadog(body)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (line(**OPENTSDB), 1),
        (json.dumps([OPENTSDB] * 3).encode(), 3),
        (b"[]", 0),
        (b'"x"', 0),
        (b'[1,"x",null,{}]', 1),
    ],
)
def test_opentsdb(body: bytes, rows: int) -> None:
    assert count_opentsdb(body) == rows


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (NEW_RELIC, 3),
        (b"[]", 0),
        (b'[{"EntityID":1,"Events":[]}]', 0),
        (b'[{"Events":[{"a":1,"b":2.5,"c":1e400,"d":true,"e":null,"f":"1","g":{"h":1},"timestamp":1}]}]', 3),
        (b'[{"Events":[{"entityKey":1,"eventType":2,"timestamp":3}]}]', 2),
        (b'[{"Events":[{"a":1}],"Events":[{"a":1,"a":2}]}]', 3),
        (b'[{"Events":[1,{"a":1}]},{"Events":"x"},{"Events":[{"a":1}]}]', 2),
    ],
)
def test_new_relic(body: bytes, rows: int) -> None:
    assert count_new_relic(body) == rows


# --- Firehose -------------------------------------------------------------------------------------------------------

MESSAGE = opentelemetry()
DELIMITED = varint(len(MESSAGE)) + MESSAGE


def delivery(*records: object) -> bytes:
    return json.dumps({"requestId": "r", "records": [{"data": record} for record in records]}).encode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@each(
    ("body", "rows"),
    [
        (delivery(), 0),
        (delivery(None), 0),
        (delivery(base64_of(MESSAGE)), 17),
        (delivery(base64_of(MESSAGE), base64_of(MESSAGE)), 34),
        (delivery(base64_of(MESSAGE[:50]), base64_of(MESSAGE[50:])), 17),
        (delivery(base64_of(DELIMITED + DELIMITED), base64_of(DELIMITED)), 51),
        (delivery(list(MESSAGE)), 17),
        (delivery(base64_of(MESSAGE)).replace(b"data", b"DATA"), 17),
    ],
)
def test_firehose(body: bytes, rows: int) -> None:
    assert count_firehose(body) == rows


@each(
    "body",
    [
        delivery("not base64"),
        delivery("é"),
        delivery(1),
        delivery(10**12),
        delivery([1, "x"]),
        delivery([256]),
        delivery(base64_of(b"\xff" * 20)),
        delivery(base64_of(DELIMITED[:-1])),
        delivery(base64_of(b"\x80" * 20)),
    ],
)
def test_firehose_rejects(body: bytes) -> None:
    with pytest.raises(BadRequest):
        count_firehose(body)


# --- hostile documents ----------------------------------------------------------------------------------------------


@each("count", COUNTS)
@each(
    "body",
    [b"", b"{", b"x", b'{"a":1}x', b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b'{"a":"\n"}', b"\xff"],
    ids=lambda body: repr(body[:10]),
)
def test_what_is_no_json_is_refused(count: object, body: bytes) -> None:
    assert callable(count)
    with pytest.raises(BadRequest):
        count(body)


@pytest.mark.parametrize("count", COUNTS)
@given(data=st.binary(max_size=200) | st.text('{}[]",:0x', max_size=50).map(str.encode))
def test_any_bytes_count_or_are_refused(count: object, data: bytes) -> None:
    assert callable(count)
    with contextlib.suppress(Refusal):
        assert count(data) >= 0


def test_any_byte_of_a_document_may_be_another() -> None:
    choose = random.Random(1)  # noqa: S311
    for body, count in ((DATADOG_V2, count_datadog), (NEW_RELIC, count_new_relic)):
        for _ in range(300):
            changed = bytearray(body)
            changed[choose.randrange(len(changed))] = choose.randrange(256)
            with contextlib.suppress(BadRequest):
                count(bytes(changed))


BLANKS = b" " * MAX_PARSED


def test_what_is_too_large_to_parse_counts_as_many_as_it_could_hold() -> None:
    assert 3 <= count_opentsdb(BLANKS + json.dumps([OPENTSDB] * 3).encode()) <= 6
    assert 3 <= count_new_relic(BLANKS + NEW_RELIC) <= 20
    for count in (count_opentsdb, count_new_relic):
        with pytest.raises(BadRequest):
            count(BLANKS + b"1")


@pytest.mark.parametrize("count", [count_datadog, count_firehose])
def test_or_is_refused_where_nothing_bounds_it(count: object) -> None:
    assert callable(count)
    with pytest.raises(BodyTooLarge):
        count(BLANKS + b"{}")
