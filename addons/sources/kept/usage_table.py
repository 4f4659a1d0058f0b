"""The usage report in the state file: one row for each hour, tenant and subject.

Several processes add to one row, so rows are only added to. Hours that are older than ``HOURS_KEPT`` are summed up by
day: the row of a day is that of its first hour.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from vmgw_core.usage import NAMES, Amounts, Key, Line, Period, Question, Report, start_of

MOST_LINES: Final = 50_000
"""Of one report. They take some 20 MB while it is made."""
HOURS_KEPT: Final = 40 * 24
"""After that many hours, only the sums of days are kept."""

_KEY: Final = "hour, tenant, subject"
_COLUMNS: Final = ", ".join(NAMES)
_SUMS: Final = ", ".join(f"sum({name})" for name in NAMES)
TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS usage (
    hour INTEGER, tenant TEXT, subject TEXT,
    {", ".join(f"{name} {'REAL' if name == 'seconds' else 'INTEGER'} NOT NULL" for name in NAMES)},
    PRIMARY KEY ({_KEY})
) WITHOUT ROWID
"""
_ADDED: Final = f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in NAMES)}"
_INSERT: Final = f"INSERT INTO usage ({_KEY}, {_COLUMNS}) "
_ADD: Final = f"{_INSERT} VALUES ({', '.join('?' * (3 + len(NAMES)))}) {_ADDED}"
_FOLD: Final = f"""
{_INSERT} SELECT hour - hour % 24, tenant, subject, {_SUMS} FROM usage WHERE hour < ? AND hour % 24 > 0 GROUP BY 1, 2, 3
{_ADDED}
"""  # noqa: S608
_SELECT: Final = f"""
SELECT {{period}}, tenant, subject, {_SUMS} FROM usage
WHERE hour >= :first AND hour < :end AND ifnull(tenant = :tenant, 1) AND ifnull(subject = :subject, 1)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT {MOST_LINES + 1}
"""  # noqa: S608
_PERIODS: Final = {
    Period.HOUR: "hour",
    Period.DAY: "hour - hour % 24",
    Period.MONTH: "CAST(strftime('%s', hour * 3600, 'unixepoch', 'start of month') AS INTEGER) / 3600",
}


class TooLong(Exception):
    """The report has more than ``MOST_LINES`` lines."""

    def __init__(self) -> None:
        super().__init__(
            f"the report has more than {MOST_LINES:,} lines: ask for a shorter time, longer periods or one tenant"
        )


def add(database: sqlite3.Connection, amounts: Mapping[Key, Amounts]) -> None:
    """Add to the rows, in a transaction of the caller."""
    database.executemany(_ADD, ((*key, *each.values()) for key, each in amounts.items()))


def tidy(database: sqlite3.Connection, hour: int, retention: int) -> None:
    """Sum up old hours by day, and remove days that are older than ``retention`` hours; ``hour`` is the present one."""
    database.execute("DELETE FROM usage WHERE hour < ?", (start_of(hour - retention, Period.DAY),))
    last = start_of(hour - HOURS_KEPT, Period.DAY)
    database.execute(_FOLD, (last,))
    database.execute("DELETE FROM usage WHERE hour < ? AND hour % 24 > 0", (last,))


def select(database: sqlite3.Connection, question: Question) -> Report:
    """Read the answer to ``question``. Raises ``TooLong``."""
    rows = database.execute(
        _SELECT.format(period=_PERIODS[question.by]),
        {"first": question.first, "end": question.end, "tenant": question.tenant, "subject": question.subject},
    ).fetchall()
    if len(rows) > MOST_LINES:
        raise TooLong
    return Report(question, [Line(hour, tenant, subject, Amounts(*values)) for hour, tenant, subject, *values in rows])
