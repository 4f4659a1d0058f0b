"""Tells the limiter what time it is, and keeps the counts of days and months in the state file."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import suppress
from typing import Final

from vmgw_addons.sources.exchange.file_exchange import FileExchange
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, StateError, StateFile
from vmgw_core.errors import Cause
from vmgw_core.limits import Limiter

from . import counts_table

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two writes. A crash loses at most what was counted since the last one."""
_TIDY: Final = 600.0  # seconds between two removals of windows that have ended
_END: Final = 5.0  # seconds for the last write


class KeptCounts:
    """Reads the counts before the first request, and adds to them once a second (-ratelimit.stateFile)."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.outage = in_force.outages.of("-ratelimit.stateFile", logger, "what it is told of waits in memory")
        self.task: asyncio.Task[None] | None = None
        self.restored: Limiter | None = None
        """The limiter that has the counts of the file."""
        self.tidied = float("-inf")
        self.warned = False

    async def running(self) -> None:
        await self.step()
        self.task = self.background.repeat("kept_counts", self.step)

    async def done(self) -> None:
        """Write the rest: all requests have ended."""
        await self.background.stop(self.task)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END):
                await self.step()

    async def step(self) -> float:
        configured = self.in_force.configured
        limiter, file = configured.limiter, configured.state_file
        shadow = None if configured.shadow is None else configured.shadow.shadow.gateway.limiter
        for each in (limiter, shadow):
            if each is not None:
                each.calendar.tell_time(time.time(), time.monotonic())
        if limiter is None:
            return INTERVAL
        if not limiter.has_calendar or configured.settings.ratelimit_storage:  # Redis keeps the counts of its accounts
            return INTERVAL
        if file is None:
            if not self.warned:
                logger.warning("a restart forgets the counts of days and months: set -ratelimit.stateFile to keep them")
            self.warned = True
            return INTERVAL
        try:
            if self.restored is not limiter:
                await self.restore(limiter, file)
                self.restored = limiter
            await self.write(limiter, file)
        except (StateError, sqlite3.Error) as error:
            self.outage.failed(f"-ratelimit.stateFile: {error}", Cause.FILE)
        return INTERVAL

    async def restore(self, limiter: Limiter, file: StateFile) -> None:
        """Count what was counted before the start. Raises ``StateError`` and ``sqlite3.Error``."""
        counts = await file.read(lambda database: counts_table.select(database, int(time.time())))
        exchange = self.in_force.configured.exchange
        if isinstance(exchange, FileExchange):  # the account of all workers counts it, once
            exchange.accounts.begin(counts, time.monotonic())
            counts = []
        limiter.restore(counts)

    async def write(self, limiter: Limiter, file: StateFile) -> None:
        """Write what was counted since the last write. Raises ``StateError``: it is kept for the next one."""
        now = time.time()
        counts, tidy = limiter.calendar.unsaved(time.monotonic()), abs(now - self.tidied) >= _TIDY
        if not counts and not tidy:
            return

        def work(database: sqlite3.Connection) -> None:
            counts_table.add(database, counts)
            if tidy:
                counts_table.tidy(database, int(now))

        try:
            await file.write(work)
        except StateError:
            limiter.calendar.not_saved(counts)
            raise
        self.outage.succeeded("-ratelimit.stateFile can be written again")
        self.tidied = now if tidy else self.tidied
