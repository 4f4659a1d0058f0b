"""The meter: what passes, when, and what is taken for it."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import CASES, Case, remote_write, snappy
from tests.support.core.counting import counter_of, encoded_with
from tests.support.each import each
from vmgw_core.errors import BadRequest, RateLimited
from vmgw_core.rows.meter import HOLD, RowMeter

TEXT = "/api/v1/import/prometheus"
LINE = b"m%058d 1\n" % 1
KIB = 1024


class Allowance:
    """Rows that may be taken; each call is noted."""

    def __init__(self, rows: int) -> None:
        self.left = rows
        self.taken: list[int] = []

    def take(self, rows: int) -> None:
        if rows > self.left:
            raise RateLimited("too many rows", 7)
        self.left -= rows
        self.taken.append(rows)


def text_meter(allowance: Allowance) -> RowMeter:
    return RowMeter(counter_of(TEXT), allowance.take)


@each("case", CASES, ids=lambda case: case.name)
@each("size", [1, 10, 10**9])
def test_a_small_body_passes_whole_or_not_at_all(case: Case, size: int) -> None:
    pieces = [case.body[start : start + size] for start in range(0, len(case.body), size)]
    allowance = Allowance(case.rows)
    meter = RowMeter(counter_of(case.target, case.headers), allowance.take)
    assert [meter.feed(piece) for piece in pieces] == [b""] * len(pieces)
    assert meter.finish() == case.body
    assert allowance.taken == [case.rows]
    assert meter.rows == case.rows

    allowance = Allowance(case.rows - 1)
    meter = RowMeter(counter_of(case.target, case.headers), allowance.take)
    assert [meter.feed(piece) for piece in pieces] == [b""] * len(pieces)
    with pytest.raises(RateLimited):
        meter.finish()
    assert allowance.taken == []


def test_nothing_is_taken_for_nothing() -> None:
    allowance = Allowance(0)
    meter = text_meter(allowance)
    assert meter.feed(b"# comment\n") == b""
    assert meter.finish() == b"# comment\n"
    assert text_meter(allowance).finish() == b""
    assert allowance.taken == []


def test_a_body_is_held_up_to_a_mebibyte() -> None:
    allowance = Allowance(10**6)
    meter = text_meter(allowance)
    body = LINE * (HOLD // len(LINE))
    passed = b"".join(meter.feed(body[start : start + 1000]) for start in range(0, len(body), 1000))
    assert passed == b""
    assert allowance.taken == []
    assert meter.finish() == body
    assert allowance.taken == [len(body) // len(LINE)]


def test_a_larger_one_passes_as_it_is_counted() -> None:
    allowance = Allowance(10**6)
    meter = text_meter(allowance)
    lines = 3 * HOLD // len(LINE)
    passed: list[bytes] = []
    for sent in range(1, lines + 1):
        out = meter.feed(LINE)
        passed.append(out)
        if out:
            size = sum(map(len, passed))
            assert sent * len(LINE) > HOLD
            assert sum(allowance.taken) * len(LINE) >= size
            assert sent * len(LINE) - size <= len(LINE)
    assert sum(map(len, passed)) > 2 * HOLD
    assert b"".join(passed) + meter.finish() == LINE * lines
    assert sum(allowance.taken) == lines


def test_it_is_cut_off_where_rows_no_longer_fit() -> None:
    allowance = Allowance(2 * HOLD // len(LINE))
    meter = text_meter(allowance)
    passed: list[bytes] = []

    def send() -> None:
        for _ in range(3 * HOLD // len(LINE)):
            passed.append(meter.feed(LINE))

    with pytest.raises(RateLimited):
        send()
    assert HOLD < len(b"".join(passed)) <= sum(allowance.taken) * len(LINE) <= 2 * HOLD
    # Only a line break may be missing at the end of the last line: no value is cut short.
    assert (b"".join(passed) + b"\n").endswith(LINE)


def test_a_line_that_is_not_complete_does_not_pass() -> None:
    meter = text_meter(Allowance(10**6))
    passed = meter.feed(LINE * (2 * HOLD // len(LINE)) + b"half")
    assert passed.endswith(b"\n")
    assert meter.feed(b"x" * (512 * KIB)) == b""
    assert meter.feed(b" 1\n" + b"\n" * (64 * KIB)).startswith(b"half")


def test_the_last_byte_waits_for_the_end() -> None:
    meter = text_meter(Allowance(10**6))
    body = LINE * (2 * HOLD // len(LINE))
    assert meter.feed(body) == body[:-1]
    assert meter.finish() == b"\n"


def test_what_is_read_whole_passes_before_it_is_counted_but_for_its_end() -> None:
    message = remote_write() * 60_000
    body = snappy(message)
    assert len(body) < HOLD
    pieces = [message[start : start + 50_000] for start in range(0, len(message), 50_000)]
    allowance = Allowance(5 * 60_000 - 1)
    meter = RowMeter(counter_of("/opentelemetry/v1/metrics"), allowance.take)
    passed = b"".join(meter.feed(piece) for piece in pieces)
    assert HOLD < len(passed) < len(message)

    meter = RowMeter(counter_of("/api/v1/write"), allowance.take)
    assert meter.feed(body) == b""
    with pytest.raises(RateLimited):
        meter.finish()


def test_a_broken_body_is_refused_as_soon_as_it_is_seen() -> None:
    meter = RowMeter(counter_of(TEXT, encoded_with("gzip")), Allowance(0).take)
    with pytest.raises(BadRequest):
        meter.feed(b"plain text " * 10_000)
    meter = RowMeter(counter_of(TEXT, encoded_with("gzip")), Allowance(10**9).take)
    meter.feed(gzip.compress(LINE)[:-1])
    with pytest.raises(BadRequest):
        meter.finish()


@given(sizes=st.lists(st.integers(1, 400 * KIB), min_size=1, max_size=20), compressed=st.booleans())
def test_what_comes_out_is_what_went_in(sizes: list[int], compressed: bool) -> None:
    text = b"".join(b"metric_%d %d\n" % (n * 7919 % 65521, n) for n in range(sum(sizes) // 18))
    body = gzip.compress(text, 1) if compressed else text
    allowance = Allowance(10**9)
    meter = RowMeter(counter_of(TEXT, encoded_with("gzip" if compressed else "")), allowance.take)
    passed, start = b"", 0
    for size in sizes:
        passed += meter.feed(body[start : start + size])
        assert not passed or len(passed) < min(start + size, len(body))
        start += size
    passed += meter.feed(body[start:])
    assert passed + meter.finish() == body
    assert sum(allowance.taken) == text.count(b"\n")
