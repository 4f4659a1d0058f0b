"""The file of ``-ratelimit.stateFile``: an SQLite database with counts that outlive the process.

Rules of this file:

- A connection is opened in a thread with its first use: the event loop never waits, and no connection crosses a fork.
- Several processes share the file, each with connections of its own. A transaction is written whole or not at all, and
  is on the disk when it is done.
- A file that is damaged, newer, or another program's is never written to. Nothing is set aside or begun anew by itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final, TypeVar

from vmgw_core.errors import Cause, ConfigurationError

from .line_file import LineFile
from .tasks import OneThread

T = TypeVar("T")

VERSION: Final = 1
"""Of the tables. A file with a greater one is not touched; a change of a table must convert older ones."""
APPLICATION: Final = 0x766D6777  # "vmgw"
"""The application id of an SQLite file of the gateway."""
BUSY: Final = 5.0
"""Seconds to wait while another process writes."""
_ANEW: Final = "move it away, with PATH-wal and PATH-shm, to begin without counts"
_REASONS: Final = {
    "SQLITE_NOTADB": f"it is not a state file, or it is damaged: name another file, or {_ANEW}",
    "SQLITE_CORRUPT": f"it is damaged: restore it, or {_ANEW}",
    "SQLITE_BUSY": "another program has locked it",
    "SQLITE_IOERR": "the disk cannot be read or written, it may be full",
}


class StateError(Exception):
    """Counts cannot be kept or read. The message names the file, and says what to do."""

    def __init__(self, message: str, cause: Cause = Cause.FILE) -> None:
        super().__init__(message)
        self.cause = cause


class StateFile:
    """The file at ``path``. ``tables``: statements that make what is not there yet."""

    def __init__(self, path: str, tables: Sequence[str]) -> None:
        self.path = path
        self._tables = tuple(tables)
        self._database: sqlite3.Connection | None = None
        self._inode = (0, 0)
        self._writer = OneThread("state file")
        self._reader = OneThread("state file, reading")

    def check(self) -> None:
        """Check the file, whole, before the start. Blocks, and makes no file. Raises ``ConfigurationError``."""
        try:
            LineFile(self.path).check()
            if os.path.lexists(self.path):
                if not S_ISREG(Path(self.path).stat().st_mode):
                    raise StateError("it is not a regular file")
                with closing(self._connect(make=False)) as database:
                    _verify(database)
                    self._check_pages(database)
        except OSError as error:
            raise ConfigurationError(f"-ratelimit.stateFile: cannot use {self.path}: {error.strerror}") from None
        except (sqlite3.Error, StateError) as error:
            raise ConfigurationError(f"-ratelimit.stateFile: {self._error(error)}") from None

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``work`` with a connection, in a transaction, in a thread. Raises ``StateError``: nothing is written.

        If the caller is cancelled, the transaction goes on.
        """
        return await self._writer.call(lambda: self._write(work))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``work`` with a connection that only reads, one state of the file, in a thread. Raises ``StateError``.

        Writers do not wait for it.
        """
        if self._database is None:
            await self.write(lambda database: None)  # make the tables
        return await self._reader.call(lambda: self.read_now(work))

    def read_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do what :meth:`read` does, in this thread. Makes nothing that is not there."""
        try:
            with closing(self._connect(make=False)) as database:
                _verify(database)
                database.execute("PRAGMA query_only = ON")
                database.execute("BEGIN")
                return work(database)
        except (OSError, sqlite3.Error, StateError) as error:
            raise self._error(error) from None

    async def close(self) -> None:
        """Close the file, after what is being written."""
        await self._writer.call(self._close)

    # --- in threads ------------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            database = self._current()
            database.execute("BEGIN IMMEDIATE")
            try:
                result = work(database)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            return result
        except (OSError, sqlite3.Error, StateError) as error:
            self._close()
            raise self._error(error) from None

    def _current(self) -> sqlite3.Connection:
        """Return the connection that writes; a new one if the file was removed or replaced."""
        if self._database is not None:
            with suppress(OSError):
                if _inode(self.path) == self._inode:
                    return self._database
            self._close()
        database = self._connect(make=True)
        try:
            empty = _verify(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            if empty:
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")
            for statement in self._tables:
                database.execute(statement)
            database.execute("COMMIT")
            self._inode = _inode(self.path)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _connect(self, *, make: bool) -> sqlite3.Connection:
        path = Path(self.path).absolute()
        if make:
            with suppress(FileExistsError):  # 0600: it names tenants and subjects
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False
        )

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _check_pages(self, database: sqlite3.Connection) -> None:
        """Raise an error if the file is damaged or cannot be written."""
        if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StateError(_REASONS["SQLITE_CORRUPT"])
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")

    def _error(self, error: Exception) -> StateError:
        """Say what is wrong with the file."""
        name = getattr(error, "sqlite_errorname", "")
        reason = next((text for code, text in _REASONS.items() if name.startswith(code)), None)
        if reason is None:
            reason = str(error.strerror if isinstance(error, OSError) else error)
        return StateError(f"cannot use {self.path}: {reason.replace('PATH', self.path)}")


def _verify(database: sqlite3.Connection) -> bool:
    """Return whether the file is empty. Raises ``StateError`` if it is not one of this version of the gateway."""
    application, version = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    empty = database.execute("SELECT 1 FROM sqlite_master").fetchone() is None and not application
    if not empty and application != APPLICATION:
        raise StateError("it is a database of another program: name another file")
    if version > VERSION:
        raise StateError("a newer version of the gateway has written it: run that one, or name another file")
    return empty


def _inode(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino
