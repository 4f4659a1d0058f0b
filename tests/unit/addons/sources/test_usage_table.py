"""The table of the usage report: rows are only added to, old hours become days, and nothing is kept for ever."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.each import each
from vmgw_addons.sources.kept import usage_table
from vmgw_core.usage import Amounts, Key, Period, Question, start_of

NOW = 498_849  # 2026-11-28T09:00:00Z
EVERY = Amounts(queries=1, rows=2, bytes_in=3, bytes_out=4, seconds=0.5, series_fetched=6, refusals=7)


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute(usage_table.TABLE)
        yield database


def lines(
    database: sqlite3.Connection, by: Period = Period.HOUR, first: int = 0, end: int = NOW + 1
) -> list[tuple[int, str, str, int]]:
    report = usage_table.select(database, Question(first=first, end=end, by=by))
    return [(line.hour, line.tenant, line.subject, line.amounts.queries) for line in report.lines]


def test_rows_are_added_to(database: sqlite3.Connection) -> None:
    for _ in range(3):
        usage_table.add(database, {Key(NOW, "1:0", "a"): EVERY, Key(NOW, "1:0", "b"): Amounts(queries=5)})
    report = usage_table.select(database, Question(first=NOW, end=NOW + 1))
    assert [line.amounts for line in report.lines] == [
        Amounts(queries=3, rows=6, bytes_in=9, bytes_out=12, seconds=1.5, series_fetched=18, refusals=21),
        Amounts(queries=15),
    ]
    assert isinstance(report.lines[0].amounts.seconds, float)


@each("by", Period)
def test_periods_are_those_of_the_core(by: Period) -> None:
    hours = [NOW - 24 * 400, NOW - 24 * 31, *range(NOW - 60, NOW)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute(usage_table.TABLE)
        usage_table.add(database, {Key(hour, "1:0", "a"): EVERY for hour in hours})
        starts = [start_of(hour, by) for hour in hours]
        expected = [(start, "1:0", "a", starts.count(start)) for start in sorted(set(starts))]
        assert lines(database, by) == expected


def test_a_part(database: sqlite3.Connection) -> None:
    for tenant in ("1:0", "2:0"):
        for subject in ("", "a'; DROP TABLE usage; --"):
            usage_table.add(database, {Key(NOW, tenant, subject): EVERY, Key(NOW - 1, tenant, subject): EVERY})
    for arguments, number in (
        ({"tenant": "1:0"}, 2),
        ({"subject": ""}, 2),
        ({"subject": "a'; DROP TABLE usage; --"}, 2),
        ({"tenant": "1:0", "subject": ""}, 1),
        ({"tenant": ""}, 0),
        ({}, 4),
    ):
        question = Question(first=NOW, end=NOW + 1, by=Period.HOUR, **arguments)
        assert len(usage_table.select(database, question).lines) == number
    assert len(lines(database, end=NOW)) == 4


def test_hours_become_days_after_forty_days_and_days_go_after_the_retention(database: sqlite3.Connection) -> None:
    pick = random.Random(1)  # noqa: S311
    for _ in range(500):
        key = Key(NOW - pick.randrange(60 * 24), pick.choice(("1:0", "2:0")), pick.choice("ab"))
        usage_table.add(database, {key: EVERY})
    before = lines(database, Period.DAY)
    last = start_of(NOW - 40 * 24, Period.DAY)
    recent = lines(database, first=last)
    for _ in range(2):
        usage_table.tidy(database, NOW, 100 * 24)
        assert lines(database, Period.DAY) == before
        assert lines(database, first=last) == recent, "hours of the last forty days stay"
        assert all(hour % 24 == 0 for hour, *_ in lines(database, end=last))
    usage_table.add(database, {Key(last - 1, "1:0", "a"): EVERY})  # a worker whose clock is late
    usage_table.tidy(database, NOW, 100 * 24)
    assert sum(line[3] for line in lines(database)) == 501
    usage_table.tidy(database, NOW, 50 * 24)
    assert lines(database, Period.DAY)[0][0] == start_of(NOW - 50 * 24, Period.DAY)
    usage_table.tidy(database, NOW, 24)
    assert min(hour for hour, *_ in lines(database)) >= start_of(NOW - 24, Period.DAY)


def test_a_report_that_is_too_long_is_refused_and_never_cut(
    database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_table, "MOST_LINES", 3)
    usage_table.add(database, {Key(NOW, "1:0", str(number)): EVERY for number in range(3)})
    assert len(lines(database)) == 3
    usage_table.add(database, {Key(NOW, "1:0", "3"): EVERY})
    with pytest.raises(usage_table.TooLong, match="more than 3 lines"):
        lines(database)
