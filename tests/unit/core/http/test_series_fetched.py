"""The number of series in the answer of VictoriaMetrics, read while the answer passes."""

from __future__ import annotations

import gzip

import pytest

from tests.support.each import each
from vmgw_core.http import Headers, SeriesFetched

JSON = (b"Content-Type", b"application/json; charset=utf-8")
START = b'{"status":"success","data":{"resultType":"vector","result":[]},'
STATS = b'"stats":{"seriesFetched": "42","executionTimeMsec":7}}'
ANSWER = START + STATS


def number(content: bytes, *headers: tuple[bytes, bytes], piece: int = 1 << 20) -> int | None:
    series = SeriesFetched.of(200, (JSON, *headers))
    assert series is not None
    for start in range(0, len(content), piece):
        series.feed(content[start : start + piece])
    return series.number


@each("piece", [1, 7, 64, 300, 1 << 20])
@each("filler", [0, 300, 100_000])
def test_the_number_is_read_from_any_pieces(piece: int, filler: int) -> None:
    content = START + b'"x":"%s",' % (b"a" * filler) + STATS
    assert number(content, piece=piece) == 42
    assert number(gzip.compress(content), (b"content-encoding", b"gzip"), piece=piece) == 42


@each("piece", [1, 7, 64, 300, 1 << 20])
@each("trace", [0, 300, 100_000])
def test_a_trace_may_follow_and_labels_may_have_the_name(piece: int, trace: int) -> None:
    """A client that asks for a trace evades no limit."""
    labels = b'"metric":{"stats":"x","seriesFetched":"7","a":"\\"stats\\":{\\"seriesFetched\\": \\"8\\""},'
    message = b'"\\"stats\\":{\\"seriesFetched\\": \\"9\\"' + b"t" * trace + b'"'
    content = START + labels + STATS[:-1] + b',"trace":{"duration_msec":0.1,"message":%s}}' % message
    assert number(content, piece=piece) == 42
    assert number(gzip.compress(content), (b"content-encoding", b"gzip"), piece=piece) == 42


UNKNOWN = [
    ("no stats, as of 1.79.5", b'{"status":"success","data":{}}'),
    ("cut off", ANSWER[: ANSWER.index(b"42") + 2]),
    ("no number", START + b'"stats":{"seriesFetched": "-1"}}'),
    ("too long a number", START + b'"stats":{"seriesFetched": "%s"}}' % (b"1" * 20)),
    ("in a label's value", b'{"data":"' + STATS.replace(b'"', b'\\"') + b'"}'),
    ("nothing", b""),
]


@pytest.mark.parametrize("content", [row[1] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_else_it_is_unknown(content: bytes) -> None:
    assert number(content) is None


def test_other_members_beside_it() -> None:
    assert number(START + b'"stats":{"seriesFetched":"3"}}\n') == 3


HEADS: list[tuple[int, Headers, bool]] = [
    (200, (JSON,), True),
    (200, (JSON, (b"Content-Encoding", b"GZIP")), True),
    (200, (JSON, (b"Content-Encoding", b"identity")), True),
    (200, (JSON, (b"Content-Encoding", b"zstd")), False),
    (200, (JSON, (b"Content-Encoding", b"gzip, gzip")), False),
    (200, ((b"Content-Type", b"text/html"),), False),
    (200, (), False),
    (200, ((b"Server", b"a"), JSON), True),
    (422, (JSON,), False),
]


@each("row", HEADS)
def test_the_head_says_whether_there_may_be_a_number(row: tuple[int, Headers, bool]) -> None:
    status, headers, readable = row
    assert (SeriesFetched.of(status, headers) is not None) is readable


GZIP = (b"Content-Encoding", b"gzip")


def test_gzip_that_is_none_is_unknown() -> None:
    assert number(ANSWER, GZIP, piece=10) is None


def test_gzip_that_is_cut_off_is_unknown() -> None:
    assert number(gzip.compress(ANSWER + b"x" * 100)[:30], GZIP) is None


def test_what_follows_the_end_of_gzip_is_not_read() -> None:
    other = gzip.compress(START + b'"stats":{"seriesFetched":"1"}}')
    assert number(gzip.compress(ANSWER) + other, GZIP) == 42


def test_a_large_answer_is_decoded_to_its_end_unless_it_is_packed_too_well() -> None:
    """A few kilobytes may stand for gigabytes."""
    packed = gzip.compress(START + b" " * (64 << 20) + STATS)
    assert len(packed) < 100_000
    assert number(packed, GZIP) is None
    values = b"".join(b'[%d,"%d"],' % (second, second * second) for second in range(1 << 20))
    assert len(values) > 16 << 20
    assert number(gzip.compress(START + values + STATS, 1), GZIP, piece=1 << 16) == 42
