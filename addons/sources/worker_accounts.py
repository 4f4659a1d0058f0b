"""The accounts of limits that the worker processes of one machine share: a database in their directory.

One transaction takes some 50 microseconds, and most requests need none: see ``vmgw_core/limits/lease.py``. A worker
that is killed in the middle of one leaves the accounts as they were. Times are those of the monotonic clock, which all
processes of a machine share.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from vmgw_addons.outgoing import RequestFailed
from vmgw_core.errors import Cause
from vmgw_core.limits import ACCOUNT_SLACK, Account, Reply, Want

_BUSY: Final = 0.05  # seconds to wait while another worker is in the middle of a transaction
_TIDY: Final = 60.0  # seconds between two removals of accounts that count nothing any more
_SCHEMA: Final = "CREATE TABLE IF NOT EXISTS accounts (key TEXT PRIMARY KEY, text TEXT, until REAL) WITHOUT ROWID"


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
            replies = self.take(wants, time.monotonic())
            self.failure = None
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.failure = RequestFailed(f"{self._path.name}: {type(error).__name__}", Cause.FILE)
        done(replies)

    def take(self, wants: Sequence[Want], now: float) -> list[Reply]:
        """Raises ``sqlite3.Error`` if the database cannot be used."""
        database = self._database or self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            replies = [self._take(database, want, now) for want in wants]
            if now - self._tidied > _TIDY:
                database.execute("DELETE FROM accounts WHERE until < ?", (now,))
                self._tidied = now
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")
        return replies

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _take(self, database: sqlite3.Connection, want: Want, now: float) -> Reply:
        with closing(database.execute("SELECT text FROM accounts WHERE key = ?", (want.key,))) as cursor:
            found = cursor.fetchone()
        account = Account() if found is None else Account.load(found[0])
        reply = account.take(want, now)
        row = (want.key, account.dump(), now + want.seconds + ACCOUNT_SLACK)
        database.execute("REPLACE INTO accounts VALUES (?, ?, ?)", row)
        return reply

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_SCHEMA)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database
