"""Rows of protobuf messages."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import (
    datadog_v2,
    double,
    fixed64,
    item,
    native_histogram,
    number,
    opentelemetry,
    remote_write,
    sample,
    series,
    sketches,
)
from tests.support.each import each
from vmgw_core.errors import BadRequest, BodyTooLarge, Refusal
from vmgw_core.rows.protobuf import count_datadog_v2, count_opentelemetry, count_remote_write, count_sketches

COUNTS = [count_remote_write, count_opentelemetry, count_sketches, count_datadog_v2]


@each(
    ("body", "rows"),
    [
        (b"", 0),
        (remote_write(), 5),
        (remote_write() * 3, 15),
        (item(1, sample(1)), 1),
        (item(1, item(2, b"")), 1),
        (item(2, sample(1)), 0),
        (series("m", sample(1), item(3, b"exemplar")), 1),
        # Tags with a needless second byte, which parsers take.
        (b"\x8a\x00\x04\x92\x00\x01a", None),
        (b"\x8a\x00\x05\x92\x00\x02\x08\x01", 1),
    ],
)
def test_remote_write(body: bytes, rows: int | None) -> None:
    if rows is None:
        assert count_remote_write(body) == 1  # the sample is not looked into
    else:
        assert count_remote_write(body) == rows


@pytest.mark.parametrize(
    ("buckets", "rows"),
    [
        (b"", 3),
        (item(12, b"\x02\x04\x01"), 6),
        (number(12, 2) + number(12, 4), 5),
        (item(9, b"\x02\x04") + item(12, b"\x02"), 6),
        (item(13, struct.pack("<2d", 1, 2)) + double(13, 3), 6),
        (item(10, struct.pack("<2d", 1, 2)), 5),
    ],
)
def test_native_histograms_count_as_many_as_may_become_of_them(buckets: bytes, rows: int) -> None:
    """Newer releases make a count, a sum, and the buckets that are not empty of them, the zero bucket included."""
    assert count_remote_write(series("h", native_histogram(positive=buckets))) == rows
    assert count_remote_write(series("h", native_histogram(positive=buckets)) * 2 + remote_write()) == 2 * rows + 5


def metric(number_: int, *fields: bytes) -> bytes:
    return item(1, item(2, item(2, item(1, b"name"), item(number_, *fields))))


NOW = fixed64(3, 10**18)


@each(
    ("body", "rows"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(opentelemetry(), 17, id="one of each"),
        pytest.param(opentelemetry() * 2, 34, id="two of each"),
        pytest.param(metric(5, item(1), item(1, NOW)), 2, id="gauge"),
        pytest.param(metric(7, item(1, NOW), item(1, NOW), number(2, 1)), 2, id="a sum of deltas"),
        pytest.param(metric(9, item(1, NOW), item(1, double(5, 1))), 3, id="histograms without buckets"),
        pytest.param(metric(9, item(1, fixed64(6, 1), fixed64(6, 2))), 3, id="buckets one by one"),
        pytest.param(metric(11, item(1), item(1, item(6), item(6))), 6, id="summaries"),
        pytest.param(metric(10, item(1)), 2, id="exponential, without a sum"),
        pytest.param(metric(10, item(1, double(5, 1), fixed64(7, 0))), 2, id="exponential, no zeros"),
        pytest.param(metric(10, item(1, item(8, number(2, 1), number(2, 0)), item(9, item(2, b"\x01\x01")))), 5,
                     id="exponential, buckets"),
        pytest.param(metric(6, item(1)), 0, id="an unknown type"),
    ],
)  # fmt: skip
def test_opentelemetry(body: bytes, rows: int) -> None:
    assert count_opentelemetry(body) == rows


def test_datadog() -> None:
    assert count_sketches(b"") == 0
    assert count_sketches(sketches()) == 27
    assert count_datadog_v2(b"") == 0
    assert count_datadog_v2(datadog_v2()) == 3


@pytest.mark.parametrize("count", COUNTS)
def test_broken_messages_are_refused(count: object) -> None:
    assert callable(count)
    for body in (b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 200, b"\x00"):
        with pytest.raises(BadRequest):
            count(body)


@pytest.mark.parametrize("count", COUNTS)
@given(data=st.binary(max_size=300))
def test_any_bytes_count_or_are_refused(count: object, data: bytes) -> None:
    assert callable(count)
    with contextlib.suppress(Refusal):
        assert count(data) >= 0


@given(st.integers(0, len(remote_write()) - 1), st.integers(0, 255))
def test_any_byte_may_be_another(index: int, byte: int) -> None:
    body = bytearray(remote_write())
    body[index] = byte
    with contextlib.suppress(BadRequest):
        count_remote_write(bytes(body))


MANY = 4_000_001


@each(
    ("count", "body"),
    [
        pytest.param(count_remote_write, item(1, item(2) * MANY), id="samples"),
        pytest.param(count_remote_write, item(1, b"\x92\x00\x00" * MANY), id="samples with long tags"),
        pytest.param(count_remote_write, item(1, item(4) * MANY), id="histograms"),
        pytest.param(count_remote_write, series("h", native_histogram(positive=item(12, bytes(9 << 20)))), id="deltas"),
        pytest.param(count_opentelemetry, metric(5, item(1) * MANY), id="points"),
        pytest.param(count_opentelemetry, metric(11, item(1, item(6) * MANY)), id="quantiles"),
        pytest.param(count_opentelemetry, metric(10, item(1, item(8, item(2, bytes(9 << 20))))), id="buckets"),
        pytest.param(count_sketches, item(1, item(7) * MANY), id="sketches"),
        pytest.param(count_datadog_v2, item(1, item(4) * MANY), id="DataDog's points"),
    ],
)
def test_messages_that_would_take_much_memory_are_refused(count: object, body: bytes) -> None:
    assert callable(count)
    with pytest.raises(BodyTooLarge):
        count(body)
