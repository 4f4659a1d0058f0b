"""The accounts of limits that the worker processes of one machine share: a database in their directory.

One transaction takes some 50 microseconds, and most requests need none: see ``vmgw_core/limits/sharing/lease.py``. A
worker that is killed in the middle of one leaves the accounts as they were. Times are those of the monotonic clock,
which all processes of a machine share; in the accounts of days and months they are Unix time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from vmgw_addons.outgoing import RequestFailed
from vmgw_core.errors import Cause
from vmgw_core.limits import ACCOUNT_SLACK, Account, Reply, Want

_BUSY: Final = 0.05  # seconds to wait while another worker is in the middle of a transaction
_TIDY: Final = 60.0  # seconds between two removals of accounts that count nothing any more
_KEPT: Final = 33 * 86400.0  # seconds: longer than any month
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS accounts (key TEXT PRIMARY KEY, text TEXT, until REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS begun (at REAL)",
)


class WorkerAccounts:
    """The accounts in ``directory``. Opened with the first question: a connection must not outlive a fork."""

    def __init__(self, directory: Path) -> None:
        self.emptied = False
        self.failure: RequestFailed | None = None
        self._path = directory / "accounts.sqlite"
        self._database: sqlite3.Connection | None = None
        self._tidied = float("-inf")

    def ask(self, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        """Ask, and call ``done`` at once."""
        replies = None
        try:
            replies = self.take(wants, time.monotonic(), time.time())
            self.failure = None
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.failure = RequestFailed(f"{self._path.name}: {type(error).__name__}", Cause.FILE)
        done(replies)

    def take(self, wants: Sequence[Want], now: float, unix: float = 0.0) -> list[Reply]:
        """Take from the accounts at ``now`` of the monotonic clock, which is the Unix time ``unix``.

        Raises ``sqlite3.Error`` if the database cannot be used.
        """
        database = self._database or self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            replies = [self._take(database, want, now, unix) for want in wants]
            if now - self._tidied > _TIDY:
                database.execute("DELETE FROM accounts WHERE until < ?", (now,))
                self._tidied = now
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        return replies

    def begin(self, counts: Iterable[tuple[str, int, int]], now: float) -> None:
        """Begin with the counts of days and months that a state file has, if no worker has done so yet.

        Each is the key of an account, the end of the window, and the count. Raises ``sqlite3.Error``.
        """
        database = self._database or self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            if database.execute("SELECT 1 FROM begun").fetchone() is None:
                database.execute("INSERT INTO begun VALUES (?)", (now,))
                for key, until, count in counts:
                    account = _account(database, key)
                    account.parts[until] = account.parts.get(until, 0) + count
                    database.execute("REPLACE INTO accounts VALUES (?, ?, ?)", (key, account.dump(), now + _KEPT))
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _take(self, database: sqlite3.Connection, want: Want, now: float, unix: float) -> Reply:
        account = _account(database, want.key)
        reply = account.take(want, unix if want.ends else now)
        row = (want.key, account.dump(), now + want.seconds + ACCOUNT_SLACK)
        database.execute("REPLACE INTO accounts VALUES (?, ?, ?)", row)
        return reply

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            for statement in _SCHEMA:
                database.execute(statement)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database


def _account(database: sqlite3.Connection, key: str) -> Account:
    with closing(database.execute("SELECT text FROM accounts WHERE key = ?", (key,))) as cursor:
        found = cursor.fetchone()
    return Account() if found is None else Account.load(found[0])
