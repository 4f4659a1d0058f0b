"""Limits reload: the file of limits is read again, in a thread, every ``-ratelimit.configCheckInterval``."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from vmgw_addons.state import InForce, Reloads
from vmgw_addons.support import Background, in_thread
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits import Limit

from . import limit_file

logger = logging.getLogger(__name__)

_IDLE: Final = 1.0  # seconds between two looks at the flag, which may be set while running


class LimitsReload:
    """Puts changed limits in force while requests go on; a bad file keeps those that are."""

    def __init__(self, in_force: InForce, background: Background, reloads: Reloads) -> None:
        self.in_force = in_force
        self.background = background
        self.reloads = reloads
        self.task: asyncio.Task[None] | None = None
        self.complaint = ""
        self.due = False
        """Whether an interval has passed since the limits were read."""

    def running(self) -> None:
        self.task = self.background.repeat("limits_reload", self.step)

    async def done(self) -> None:
        await self.background.stop(self.task)

    async def step(self) -> float:
        """Read the limits, unless they were read at the start just now. Returns when to look again."""
        interval = self.in_force.configured.settings.ratelimit_config_check_interval
        due, self.due = self.due, bool(interval)
        if due and interval and self.in_force.configured.limiter is not None:
            try:
                await self.check()
            except Exception:
                self.reloads.error += 1
                raise
        return interval or _IDLE

    async def check(self) -> None:
        """Read the limits once, and use them where they have changed. The log says what is new, and no more."""
        limiter, settings = self.in_force.configured.limiter, self.in_force.configured.settings
        try:
            limits = await read_in_thread(settings)
        except ConfigurationError as error:
            self.reloads.error += 1
            if str(error) != self.complaint:
                self.complaint = str(error)
                logger.error(f"cannot reload the limits, the old ones stay in force: {error}")
            return
        self.complaint = ""
        if limiter is None or self.in_force.configured.settings is not settings or limits == limiter.limits:
            return
        limiter.replace(limits)
        self.reloads.success += 1
        logger.info(f"reloaded {len(limits)} limits")


async def read_in_thread(settings: Settings) -> tuple[Limit, ...]:
    """As :func:`limit_file.load`, without holding up requests for a slow disk or server, or a long file."""
    return await in_thread(lambda: limit_file.load(settings), "limits")
