"""The report as CSV, JSON and text: readable, and safe to open."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.usage import FORMATS, Amounts, Line, Period, Question, Report

FIRST = 498_552  # 2026-11-16T00:00:00Z


def report(*lines: Line, by: Period = Period.DAY) -> Report:
    return Report(Question(first=FIRST, end=FIRST + 48, by=by), lines)


EVERY = Amounts(queries=1, rows=2, bytes_in=3, bytes_out=4, seconds=0.12345, series_fetched=6, refusals=7)
TWO = report(Line(FIRST, "1:5", "alice", EVERY), Line(FIRST + 24, "2:0", "", Amounts(queries=10)))


def test_json() -> None:
    assert json.loads(TWO.written("json")) == {
        "from": "2026-11-16T00:00:00Z",
        "to": "2026-11-18T00:00:00Z",
        "by": "day",
        "lines": [
            {
                "start": "2026-11-16T00:00:00Z", "tenant": "1:5", "subject": "alice", "queries": 1, "rows": 2,
                "bytes_in": 3, "bytes_out": 4, "seconds": 0.123, "series_fetched": 6, "refusals": 7,
            },
            {
                "start": "2026-11-17T00:00:00Z", "tenant": "2:0", "subject": "", "queries": 10, "rows": 0,
                "bytes_in": 0, "bytes_out": 0, "seconds": 0.0, "series_fetched": 0, "refusals": 0,
            },
        ],
        "total": {
            "queries": 11, "rows": 2, "bytes_in": 3, "bytes_out": 4, "seconds": 0.123, "series_fetched": 6,
            "refusals": 7,
        },
    }  # fmt: skip


def test_csv() -> None:
    assert TWO.written("csv").decode() == (
        "start,tenant,subject,queries,rows,bytes_in,bytes_out,seconds,series_fetched,refusals\r\n"
        '2026-11-16,"1:5","alice",1,2,3,4,0.123,6,7\r\n'
        '2026-11-17,"2:0","",10,0,0,0,0.000,0,0\r\n'
    )


def test_text() -> None:
    assert TWO.written("text").decode() == (
        "start       tenant  subject  queries  rows  bytes_in  bytes_out  seconds  series_fetched  refusals\n"
        "2026-11-16  1:5     alice          1     2         3          4    0.123               6         7\n"
        "2026-11-17  2:0     -             10     0         0          0    0.000               0         0\n"
        "total                             11     2         3          4    0.123               6         7\n"
    )


@each(("by", "start"), [(Period.HOUR, "2026-11-16T00:00Z"), (Period.DAY, "2026-11-16"), (Period.MONTH, "2026-11")])
def test_the_start_of_a_period(by: Period, start: str) -> None:
    assert report(by=by).start(FIRST) == start


def subject_in_csv(subject: str) -> str:
    text = report(Line(FIRST, "1:0", subject, Amounts())).written("csv").decode()
    _, row = csv.reader(io.StringIO(text, newline=""))
    assert len(row) == 10
    return row[2]


@each("subject", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201"])
def test_no_cell_is_a_formula(subject: str) -> None:
    assert subject_in_csv(subject) == f"'{subject}"


@each(
    ("subject", "shown"),
    [("a;=1", "a;'=1"), ("a; @b;-1", "a;' @b;'-1"), ('a;"=1', "a;'\"=1"), (";;\uff1d1", ";;'\uff1d1")],
)
def test_no_cell_behind_a_semicolon_is_a_formula(subject: str, shown: str) -> None:
    """Where a comma is for decimals, spreadsheets take a semicolon for the separator, in quotes too."""
    assert subject_in_csv(subject) == shown


@each("subject", ["alice", 'a"b', "a,b", "a=b", "é", "'=1", "a;b=1"])
def test_other_text_is_as_it_is(subject: str) -> None:
    assert subject_in_csv(subject) == subject


@each(
    ("subject", "shown"), [("\t=1", "\\t=1"), ("a\r\nb", "a\\r\\nb"), ("\u202ea", "\\u202ea"), ("\x1b[2J", "\\x1b[2J")]
)
def test_control_characters_are_escaped(subject: str, shown: str) -> None:
    assert subject_in_csv(subject) == shown
    assert shown in report(Line(FIRST, "1:0", subject, Amounts())).written("text").decode()


@given(st.text(max_size=300))
def test_any_subject_is_one_line(subject: str) -> None:
    lines = report(Line(FIRST, "1:0", subject, Amounts()))
    assert lines.written("text").decode().count("\n") == 3
    assert lines.written("csv").decode().count("\n") == 2
    assert json.loads(lines.written("json"))["lines"][0]["subject"] == subject
    cell = subject_in_csv(subject).lstrip()
    assert cell[:1] not in ("=", "+", "-", "@")


def test_an_empty_report() -> None:
    for form in FORMATS:
        assert report().written(form)
    assert report().total() == Amounts()
