"""The counts of days and months in the state file: one row for each limit of a tenant, and each window.

Several processes add to one row, so rows are only added to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from vmgw_core.limits import Unsaved

TABLE: Final = """
CREATE TABLE IF NOT EXISTS counts (
    key TEXT, until INTEGER, count INTEGER NOT NULL, PRIMARY KEY (key, until)
) WITHOUT ROWID
"""
_ADD: Final = "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"
_ENDED: Final = 3600
"""Seconds after the end of a window until its count is removed: a clock may be set back."""


def add(database: sqlite3.Connection, counts: Iterable[Unsaved]) -> None:
    """Add to the rows, in a transaction of the caller."""
    database.executemany(_ADD, ((each.window.key, each.until, each.count) for each in counts))


def tidy(database: sqlite3.Connection, now: int) -> None:
    """Remove windows that have ended; ``now`` is Unix time."""
    database.execute("DELETE FROM counts WHERE until < ?", (now - _ENDED,))


def select(database: sqlite3.Connection, now: int) -> list[tuple[str, int, int]]:
    """Return the key of a counter, the end of its window and the count, for each window that has not ended."""
    return database.execute("SELECT key, until, count FROM counts WHERE until > ?", (now,)).fetchall()
