"""Where the usage report is kept: in Redis if replicas share one (``-ratelimit.storage``), else in the state file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import TypeVar

from vmgw_addons.state import UsageStore
from vmgw_addons.support import OneThread, StateError, StateFile
from vmgw_core.configuration import Settings
from vmgw_core.usage import Amounts, Key, Question, Report

from . import usage_table
from .kept_state import build_state_file

T = TypeVar("T")


class FileUsage:
    """The report in the state file."""

    name = "-ratelimit.stateFile"

    def __init__(self, file: StateFile) -> None:
        self.file = file
        self._reader = OneThread("usage report, reading")

    async def add(self, batch: str, amounts: Mapping[Key, Amounts], retention: int) -> None:
        await self._write(lambda database: usage_table.add(database, amounts))

    async def tidy(self, hour: int, retention: int) -> None:
        await self._write(lambda database: usage_table.tidy(database, hour, retention))

    async def read(self, question: Question, hour: int, make: Callable[[Report], T]) -> T:
        def work(database: sqlite3.Connection) -> T:
            return make(usage_table.select(database, question))

        try:
            return await self._reader.call(lambda: self.file.read_now(work))
        except StateError as error:
            raise StateError(f"{self.name}: {error}") from None

    async def close(self) -> None:
        """Do nothing: others have counts in the file too."""

    async def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await self.file.write(work)
        except StateError as error:
            raise StateError(f"{self.name}: {error}") from None


def usage_store(settings: Settings) -> UsageStore | None:
    """Return the store that the flags name, or None. Raises ``ConfigurationError`` if a flag cannot be used."""
    return _store(settings, build_state_file(settings))


def build_usage_store(
    settings: Settings, file: StateFile | None, before: Settings, old: UsageStore | None
) -> UsageStore | None:
    """Return the store of a gateway that keeps the report, or None.

    It is the ``old`` one if the flags are as they were ``before``. Raises ``ConfigurationError`` if one cannot be used.
    """
    if not settings.usage_retention:
        return None
    same = (settings.ratelimit_storage, settings.ratelimit_storage_key_prefix) == (
        before.ratelimit_storage, before.ratelimit_storage_key_prefix,
    )  # fmt: skip
    return old if old is not None and same else _store(settings, file)


def _store(settings: Settings, file: StateFile | None) -> UsageStore | None:
    if settings.ratelimit_storage:
        from .redis_usage import RedisUsage  # its client takes 6 MB, and few need it

        return RedisUsage(settings.ratelimit_storage, settings.ratelimit_storage_key_prefix)
    return None if file is None else FileUsage(file)
