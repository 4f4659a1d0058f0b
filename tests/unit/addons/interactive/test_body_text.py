"""Bodies as text: series as people read them, and bounds on what others send."""

from __future__ import annotations

import gzip
import zlib

import cramjam
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.addons import bodies
from tests.support.addons.bodies import attribute, double, export, field, fixed64, integer, series
from tests.support.each import each
from vmgw_addons.interactive.body_text import (
    MAX_DECODED,
    MAX_LINES,
    at_most,
    decompress,
    inflates_too_far,
    json_lines,
    opentelemetry,
    remote_write,
)

SNAPPY = bytes(cramjam.snappy.compress_raw(bodies.WRITE_REQUEST))
AT = "2023-11-14T22:13:20Z"
NANOS = 1_700_000_000 * 10**9
BOMB = zstandard.compress(bytes(MAX_DECODED // 2 + 1))
GZIP_BOMB = gzip.compress(bytes(MAX_DECODED // 2 + 1), mtime=0)


# --- remote write --------------------------------------------------------------------------------------------------


def test_remote_write() -> None:
    assert list(remote_write(bodies.WRITE_REQUEST)) == [
        f'up{{job="shop"}} 1 @ {AT}',
        'up{job="shop"} 0.5 @ 2023-11-14T22:13:35Z',
    ]


def test_remote_write_of_other_kinds() -> None:
    body = series({"__name__": "none"}, [])
    body += series({"a": 'q"\x1b'}, [(float("nan"), -1)])
    body += field(1, field(1, field(1, b"__name__") + field(2, b"native")) + field(4, b"") + field(4, b""))
    body += series({"__name__": "long"}, [(1, 0)] * 23)
    body += field(3, integer(1, 1) + field(2, b"up") + field(4, b"whether it is up")) + integer(9, 1)
    lines = list(remote_write(body))
    assert lines[:3] == [
        "none no samples",
        '{a="q\\"\\\\x1b"} nan @ 1969-12-31T23:59:59Z',
        "native 2 native histograms",
    ]
    assert lines[3:23] == ["long 1 @ 1970-01-01T00:00:00Z"] * 20
    assert lines[23:] == ["long … 3 more samples", "# HELP up whether it is up"]


# --- OpenTelemetry -------------------------------------------------------------------------------------------------


def test_opentelemetry() -> None:
    assert list(opentelemetry(bodies.OTLP_REQUEST)) == [
        '# resource {service.name="shop"}',
        "# gauge latency in s",
        f'latency{{path="/cart"}} 0.25 @ {AT}',
    ]


def test_opentelemetry_of_other_kinds() -> None:
    values = (
        attribute(7, "flag", integer(2, 1))
        + attribute(7, "number", integer(3, -5))
        + attribute(7, "ratio", double(4, 0.5))
        + attribute(7, "list", field(5, b"abc"))
        + attribute(7, "empty", b"")
    )
    total = field(1, b"total") + field(7, field(1, values + fixed64(3, NANOS) + fixed64(6, -3)) + integer(3, 1))
    spread = attribute(9, "a", field(1, b"b")) + fixed64(3, NANOS) + fixed64(4, 7) + double(5, 1.5)
    histogram = field(1, b"spread") + field(9, field(1, spread))
    lines = list(opentelemetry(export(b"", total, histogram)))
    assert lines == [
        "# resource {}",
        "# sum total",
        f'total{{flag="true",number="-5",ratio="0.5",list="<3 bytes>",empty=""}} -3 @ {AT}',
        "# histogram spread",
        f'spread{{a="b"}} count 7, sum 1.5 @ {AT}',
    ]


# --- JSON lines ----------------------------------------------------------------------------------------------------


def test_json_lines() -> None:
    text = (
        '{"metric":{"__name__":"up","job":"a"},"values":[1,null,"x"],"timestamps":[1700000000000,0,"y"]}\n'
        "\n"
        '{"metric":{"__name__":"long"},"values":[' + ",".join(["1"] * 21) + '],"timestamps":['
        + ",".join(["0"] * 21) + "]}\n"
        '{"other":"line"}\n'
        '{"metric":1,"values":[],"timestamps":[]}\n'
        "[1]\n"
        "broken\x1b\n"
    )  # fmt: skip
    assert list(json_lines(text.encode())) == [
        f'up{{job="a"}} 1 @ {AT}',
        'up{job="a"} None @ 1970-01-01T00:00:00Z',
        'up{job="a"} x @ y',
        *["long 1 @ 1970-01-01T00:00:00Z"] * 20,
        "long … 1 more samples",
        '{"other":"line"}',
        '{"metric":1,"values":[],"timestamps":[]}',
        "[1]",
        "broken\\x1b",
    ]


def test_json_that_is_nested_or_long() -> None:
    hostile = b"[" * 100_000 + b"\n" + b"1" * 10_000 + b"\n" + b'{"metric":{},"values":[1],"timestamps":[1e999]}\n'
    lines = list(json_lines(hostile))
    assert [line[:3] for line in lines] == ["[[[", "111", "{} "]
    assert all(len(line) <= 1001 for line in lines)


# --- decompressing -------------------------------------------------------------------------------------------------


@each(
    ("data", "encoding"),
    [
        (SNAPPY, "snappy"),
        (SNAPPY, " Snappy "),
        (zstandard.compress(bodies.WRITE_REQUEST), "zstd"),
        (zstandard.compress(bodies.WRITE_REQUEST), "snappy"),  # vmagent falls back without changing its mind
        (gzip.compress(bodies.WRITE_REQUEST, mtime=0), ""),
        (gzip.compress(bodies.WRITE_REQUEST[:9], mtime=0) + gzip.compress(bodies.WRITE_REQUEST[9:], mtime=0), "gzip"),
        (bodies.WRITE_REQUEST, "zstd"),  # mitmproxy has taken it off
        (bodies.WRITE_REQUEST, ""),
    ],
)
def test_decompress(data: bytes, encoding: str) -> None:
    assert decompress(data, encoding) == bodies.WRITE_REQUEST


@each(
    ("data", "encoding", "reason"),
    [
        (bodies.varint(MAX_DECODED + 1) + b"x", "snappy", "decodes to more than"),
        (bodies.varint(1 << 31) + b"x", "snappy", "decodes to more than"),
        (b"\xff" * 20, "snappy", "not a valid snappy block"),
        (SNAPPY[:-3], "snappy", "not a valid snappy block"),
        (BOMB + BOMB, "zstd", "decodes to more than"),
        (b"\x28\xb5\x2f\xfdrubbish", "zstd", "not valid zstd"),
        (GZIP_BOMB + GZIP_BOMB, "gzip", "decodes to more than"),
        (b"\x1f\x8brubbish", "gzip", "gzip"),
    ],
)
def test_decompress_refuses(data: bytes, encoding: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decompress(data, encoding)


@each(
    ("data", "encoding", "too_far"),
    [
        (b"x" * 100, "", False),
        (SNAPPY, "snappy", False),
        (zstandard.compress(b"x" * 100), "zstd", False),
        (BOMB + BOMB, "zstd", True),
        (b"rubbish", "zstd", True),
        (gzip.compress(b"x" * 100, mtime=0), "gzip", False),
        (GZIP_BOMB + GZIP_BOMB, "GZIP", True),
        (zlib.compress(b"x" * 100), "deflate", False),
        (zlib.compress(b"x" * 100, wbits=-15), "deflate", False),
        (zlib.compress(bytes(MAX_DECODED + 1), wbits=-15), "deflate", True),
        (b"\x0b\x02\x80hello\x03", "br", False),
        (b"x" * 1025, "br", True),
    ],
)
def test_what_is_not_given_to_mitmproxy_to_decode(data: bytes, encoding: str, too_far: bool) -> None:
    assert inflates_too_far(data, encoding) is too_far


def test_lines_are_bounded() -> None:
    assert list(at_most(["a", "b"])) == ["a", "b"]
    lines = list(at_most(str(number) for number in range(10**9)))
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"… more than {MAX_LINES} lines"


# --- any bytes -----------------------------------------------------------------------------------------------------


def _cut(body: bytes) -> st.SearchStrategy[bytes]:
    """``body`` with a few bytes changed, or cut off."""
    return st.builds(
        lambda position, bit, end: bytes(b ^ (bit if i == position else 0) for i, b in enumerate(body))[:end],
        st.integers(0, len(body) - 1),
        st.integers(0, 255),
        st.integers(0, len(body)),
    )


@given(st.binary(max_size=80) | _cut(bodies.WRITE_REQUEST) | _cut(bodies.OTLP_REQUEST) | _cut(SNAPPY))
def test_any_bytes_are_lines_or_a_value_error(body: bytes) -> None:
    for read in (remote_write, opentelemetry, json_lines):
        for encoding in ("snappy", ""):
            try:
                lines = list(at_most(read(decompress(body, encoding))))
            except ValueError:
                continue
            assert all(line.isprintable() for line in lines)
