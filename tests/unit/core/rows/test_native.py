"""Rows of the native format. A real export is counted in the wire tests."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.bodies import varint
from tests.support.each import each
from vmgw_core.errors import BadRequest, Refusal
from vmgw_core.rows.native import Native

TIME_RANGE = bytes(7) + b"\x01" + bytes(7) + b"\x02"


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def old(rows: int) -> bytes:
    """A block as 1.79.5 writes it: first timestamp, first value, rows, scale, two types, two pieces of data."""
    header = varint(3_400_000_000_000) + varint(10) + varint(rows) + varint(0) + b"\x02\x02"
    return sized(b"m\x01n\x011\x01") + sized(header + b"\x02ab\x01c")


def new(rows: int) -> bytes:
    """A block of newer releases: the last timestamp, and the precision, too."""
    header = varint(3_400_000_000_000) + varint(3_400_000_000_002) + varint(10) + varint(rows) + varint(0)
    return sized(b"m\x01") + sized(header + b"\x02\x02\x40\x02ab\x01c")


def rows_of(body: bytes) -> int:
    native = Native()
    native.feed(body)
    native.finish()
    return native.rows


@each(
    ("body", "rows"),
    [
        (b"", 0),
        (TIME_RANGE[:15], 0),
        (TIME_RANGE, 0),
        (TIME_RANGE + old(3), 3),
        (TIME_RANGE + new(3), 3),
        (TIME_RANGE + old(3) + old(16 * 1024) + new(200), 3 + 16 * 1024 + 200),
        (TIME_RANGE + old(3) + old(4)[:-1], 3),
        (TIME_RANGE + old(3) + b"\0\0\0", 3),
        (TIME_RANGE + old(3) + sized(b""), 3),
    ],
)
def test_counts(body: bytes, rows: int) -> None:
    assert rows_of(body) == rows


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(sized(b"") + sized(b""), id="an empty block"),
        pytest.param(sized(b"") + sized(b"\x80" * 20), id="a number without end"),
        pytest.param(sized(b"") + sized(b"\x01\x01\x01\x01\x02\x02\x02ab\x01cd"), id="bytes too many"),
        pytest.param(old(16 * 1024 + 1), id="too many rows"),
        pytest.param((1 << 20).to_bytes(4, "big")[:-1] + b"\x01", id="a name too large"),
        pytest.param(sized(b"") + (1 << 21).to_bytes(4, "big"), id="a block too large"),
    ],
)
def test_rejects(block: bytes) -> None:
    with pytest.raises(BadRequest):
        rows_of(TIME_RANGE + block)


@given(size=st.integers(1, 60))
def test_what_is_settled_is_complete_blocks(size: int) -> None:
    blocks = [old(3), new(5), old(7)]
    body = TIME_RANGE + b"".join(blocks)
    ends = [16, 16 + len(blocks[0]), 16 + len(blocks[0] + blocks[1]), len(body)]
    native = Native()
    for start in range(0, len(body), size):
        native.feed(body[start : start + size])
        fed = min(start + size, len(body))
        assert native.settled == max([end for end in ends if end <= fed], default=0)
    assert native.rows == 15


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_count_or_are_refused(data: bytes, size: int) -> None:
    native = Native()
    with contextlib.suppress(Refusal):
        for start in range(0, len(data), size):
            native.feed(data[start : start + size])
