"""Reads the file of limits again every ``-ratelimit.configCheckInterval``."""

from __future__ import annotations

import logging
from typing import Final

from vmgw_addons.state import InForce, Reloads
from vmgw_addons.support import Background, in_thread
from vmgw_core.configuration import Settings
from vmgw_core.errors import Cause, ConfigurationError
from vmgw_core.limits import LimitFile, check_classes

from . import limit_file

logger = logging.getLogger(__name__)

_IDLE: Final = 1.0  # seconds between two checks of the flag, which may be set while running


class LimitsReload:
    """Puts changed limits in force while requests are served (-ratelimit.configCheckInterval)."""

    def __init__(self, in_force: InForce, background: Background, reloads: Reloads) -> None:
        self.in_force = in_force
        self.background = background
        self.reloads = reloads
        self.outage = in_force.outages.of("-ratelimit.config", logger, "the old limits stay in force")
        self.due = False
        """Whether an interval has passed since the limits were read."""

    def running(self) -> None:
        self.background.repeat("limits_reload", self.step)

    async def step(self) -> float:
        """Read the limits if an interval has passed. Returns the seconds until the next check."""
        interval = self.in_force.configured.settings.ratelimit_config_check_interval
        due, self.due = self.due, bool(interval)
        if due and interval and self.in_force.configured.limiter is not None:
            try:
                await self.check()
            except Exception:
                self.reloads.failed()
                raise
        return interval or _IDLE

    async def check(self) -> None:
        """Read the limits, and put them in force if they have changed. An error is logged once a minute."""
        limiter, settings = self.in_force.configured.limiter, self.in_force.configured.settings
        try:
            limits = await read_in_thread(settings)
            policy = self.in_force.configured.policy
            if policy is not None:
                check_classes(policy.limit_classes, limits)
        except ConfigurationError as error:
            self.reloads.failed()
            self.outage.failed(f"cannot reload the limits: {error}", Cause.FILE)
            return
        self.reloads.read()
        self.outage.succeeded("the limits can be read again")
        configured = self.in_force.configured
        if limiter is None or configured.settings is not settings or limits == configured.limit_file:
            return
        self.in_force.use_limits(limits)
        self.reloads.success += 1
        logger.info(f"reloaded {limits}")


async def read_in_thread(settings: Settings) -> LimitFile:
    """Like :func:`limit_file.load`, without blocking the event loop."""
    return await in_thread(lambda: limit_file.load(settings), "limits")
