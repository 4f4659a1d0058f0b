"""Rows of formats with one record a line."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.errors import BadRequest, BodyTooLarge
from vmgw_core.rows.lines import Lines, count_filled, count_influx, count_json_lines, count_text, csv_rows

VALUES = b'{"metric":{"__name__":"m"},"values":%s,"timestamps":%s}'


def text_row(line: str) -> bool:
    """Whether VictoriaMetrics looks for a row in a line of Prometheus text."""
    stripped = line.removesuffix("\r").lstrip(" \t")
    return bool(stripped) and not stripped.startswith("#")


@each(
    ("line", "rows"),
    [
        ("m 1", 1),
        ("  m 1", 1),
        ("\tm 1", 1),
        ("m 1\r", 1),
        ("", 0),
        ("\r", 0),
        (" \t", 0),
        (" \t\r", 0),
        ("#", 0),
        ("# HELP m", 0),
        ("  \t# m 1", 0),
        ("m 1 # comment", 1),
        ("\rm 1", 1),
        ("\r#m 1", 1),
        ("\v# 1", 1),
    ],
)
def test_text(line: str, rows: int) -> None:
    assert count_text(b"\n" + line.encode()) == rows == text_row(line)
    assert count_text(f"\nm 1\n{line}\nm 1\n{line}".encode()) == 2 * rows + 2


@given(st.lists(st.text("m1 \t\r#\v"), max_size=8))
def test_text_is_counted_as_line_by_line(lines: list[str]) -> None:
    counted = count_text("".join(f"\n{line}" for line in lines).encode())
    certain = sum(text_row(line) for line in lines)
    # A carriage return within a line begins a name, which no release has ever made a row of.
    odd = sum(bool(re.fullmatch(r"[ \t]*\r[ \t\r]*(#.*)?", line)) for line in lines)
    assert certain - odd <= counted <= certain


@each(
    ("line", "rows"),
    [("a", 1), ("", 0), ("\r", 0), ("\r\r", 0), (" ", 1), ("a\r", 1), ("\ra", 1), ("#", 1)],
)
def test_filled(line: str, rows: int) -> None:
    assert count_filled(b"\n" + line.encode()) == rows
    assert count_filled(f"\n{line}\na\n{line}\n".encode()) == 2 * rows + 1


@pytest.mark.parametrize(
    ("formats", "columns"),
    [
        (["1:metric:a"], 1),
        (["1:label:a,2:metric:b,3:time:unix_s,4:metric:c"], 2),
        (["1:metric:a:b"], 1),
        (["2:metric:metric,1:label:metric"], 1),
        (["1:metric:a", "1:metric:a,2:metric:b"], 2),
        (["1:metric:a", ""], 1),
    ],
)
def test_csv(formats: list[str], columns: int) -> None:
    assert csv_rows(formats)(b"\n1\n2,3") == 2 * columns


@each(
    ("line", "rows"),
    [
        ("h,1,2,3", 2),
        ("h,1,,3", 1),
        ("h,1,2,", 1),
        ("h,1,2,\r", 1),
        ("h,1,,", 0),
        (",,2,3", 2),
        ('h,1,"",3', 1),
        ("h,1,'',3", 1),
        ('"a,b",1,"2",""', 1),
        ('"a""",1,2,""', 1),
        ("'a,''b',,2,3", 2),
        ("h,,2,3,", 2),
        # What VictoriaMetrics skips counts in full.
        ("h,1", 2),
        ('"h,,1,2', 2),
        ('"h"x,1,,2', 2),
        ("", 0),
        ("\r", 0),
    ],
)
def test_an_empty_cell_of_csv_is_no_row(line: str, rows: int) -> None:
    count = csv_rows(["1:label:host,2:time:unix_s,3:metric:a,4:metric:b"])
    assert count(f"\n{line}".encode()) == rows
    assert count(f"\nh,1,2,3\n{line}\n\nh,1,2,3\n{line}".encode()) == 4 + 2 * rows
    assert csv_rows(["x:metric:a,3:metric:b"])(b"\nh,1,,2") == 1


@pytest.mark.parametrize(
    "formats", [[], [""], ["1:label:metric"], ["metric"], ["1:Metric:a"], [",".join(["1:metric:a"] * 70_000)]]
)
def test_csv_needs_metrics(formats: list[str]) -> None:
    with pytest.raises(BadRequest, match="format="):
        csv_rows(formats)


@each(
    ("line", "rows"),
    [
        (VALUES % (b"[1]", b"[1]"), 1),
        (VALUES % (b"[1,2.5,null]", b"[1,2,3]"), 3),
        (VALUES % (b'["NaN","-Infinity"]', b"[1,2]"), 2),
        (VALUES % (b" \t[ 1 , 2 ] ", b"[1,2]"), 2),
        (VALUES % (b"[]", b"[]"), 0),
        (VALUES % (b"[ \r]", b"[]"), 0),
        (VALUES % (b'"x"', b"[1]"), 0),
        (b'{"metric":{"values":"x"},"values":[1,2],"timestamps":[1,2]}', 2),
        (b'{"values":[1,2],"values":[1,2,3]}', 5),
        (b'{"metric":{"a":"\\"\\\\"},"values":[1,2],"timestamps":[1,2]}', 2),
        (b"", 0),
        (b"garbage, more garbage", 0),
    ],
)
def test_json_lines(line: bytes, rows: int) -> None:
    assert count_json_lines(b"\n" + line) == rows
    assert count_json_lines(b"\n%s\n\n%s" % (line, line)) == 2 * rows


@pytest.mark.parametrize(
    ("line", "at_least"),
    [
        pytest.param(VALUES.replace(b"values", b"v\\u0061lues") % (b"[1,2,3]", b"[1,2,3]"), 3, id="an escaped key"),
        pytest.param(VALUES % (b"[1,2,[3]]", b"[1,2,3]"), 3, id="no array of numbers"),
        pytest.param(VALUES % (b"[1,2,3", b"[1,2,3]"), 3, id="an array without end"),
    ],
)
def test_unusual_json_lines_count_as_many_as_they_could_hold(line: bytes, at_least: int) -> None:
    usual = b"\n" + VALUES % (b"[1,2]", b"[1,2]")
    assert count_json_lines(b"\n" + line) >= at_least
    assert count_json_lines(usual + b"\n" + line + usual) == count_json_lines(b"\n" + line) + 4


@each(
    ("line", "rows"),
    [
        (rb"m f=1", 1),
        (rb"m f=1,g=2 1700", 2),
        (rb"m   f=1,g=2   1700", 2),
        (rb"m,a=b,c=d f=1", 1),
        (rb" f=1,g=2", 2),
        (rb"m\ n\,o,a=b\ c f=1,g=2", 2),
        (rb"m\\ f=1,g=2", 2),
        (rb"m f\ g=1,h\,i=2", 2),
        (rb'm f="a b,c",g=2', 2),
        (rb'm f="a \" b,c",g=2', 2),
        (rb'm f="a\\",g=2', 2),
        (rb'm,a="b f=1,g=2', 2),
        (rb'm f="a,b', 1),
        (rb'm f=1,g="a,b c=2,d=3', 2),
        (b"m f=1\r", 1),
        (b"m\\", 0),
        (b"m f=1\\", 1),
        (b'm f="1\\', 1),
        (b"m", 0),
        (b"m ", 0),
        (b"# m f=1", 0),
        (b"#m f=1", 0),
        (b"", 0),
    ],
)
def test_influx(line: bytes, rows: int) -> None:
    assert count_influx(b"\n" + line) == rows
    assert count_influx(b"\n%s\nm f=1\n\n\n%s" % (line, line)) == 2 * rows + 1
    # A quote elsewhere in the block makes no difference.
    assert count_influx(b'\n%s\nm f="1"\n%s' % (line, line)) == 2 * rows + 1


@given(st.lists(st.sampled_from(["m", ",a=b", " ", " f=1", ",g=2", " 17", "\r", "#", "\n"]), max_size=30).map("".join))
@example("m f=1 17\nm 17\nm f=1,g=2 17 17")
@example("m f=1\n#m f=1")
@example("m  f=1,g=2\nm f=1 17")
def test_lines_of_equal_form_count_as_any_others_do(text: str) -> None:
    block = b"\n" + text.encode()
    assert count_influx(block) == count_influx(block + b'\nm f="1"') - 1  # a quote: lines are searched one by one


# --- streaming ------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"x", b"\n")), max_size=10))
def test_what_is_settled_is_complete_lines(pieces: list[bytes]) -> None:
    lines, fed = Lines(count_filled), b""
    for piece in pieces:
        lines.feed(piece)
        fed += piece
        assert lines.settled == fed.rfind(b"\n") + 1
        assert lines.rows == count_filled(b"\n" + fed[: lines.settled])
    lines.finish()
    assert lines.rows == count_filled(b"\n" + fed)
    assert lines.settled == len(fed)


def test_a_line_may_be_a_mebibyte_long() -> None:
    lines = Lines(count_filled)
    for _ in range(16):
        lines.feed(bytes(65536))
    with pytest.raises(BodyTooLarge, match="line"):
        lines.feed(b"x")
    lines = Lines(count_filled, max_line=3)
    lines.feed(b"abcd\nabc")
    lines.feed(b"\nabc\n")
    with pytest.raises(BodyTooLarge, match="line"):
        lines.feed(b"abcd")


HOSTILE = [
    b"\n" * 200_000,
    b"a\n" * 100_000,
    b" \n" * 100_000,
    b"\n\n#" * 60_000,
    b'a "' + b"b" * 200_000,
    b"a " + b'"' * 200_000,
    b"a " + b"\\" * 200_001,
    b"a" + b" " * 200_000,
    b'{"values":[' * 20_000,
    b'"values"' * 25_000,
    b'"values":[' + b" " * 200_000,
    b"a " + b'\\"' * 100_000,
]


@pytest.mark.parametrize("count", [count_text, count_filled, count_influx, count_json_lines])
def test_hostile_blocks_take_no_longer_than_long_ones(count: object) -> None:
    """All together take milliseconds; with anything quadratic in one of them, minutes."""
    assert callable(count)
    for block in HOSTILE:
        assert count(b"\n" + block) >= 0
