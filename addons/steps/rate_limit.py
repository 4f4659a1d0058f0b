"""Rate limit: counts admitted requests against the limits of their tenants."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Final

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles, InForce
from vmgw_addons.support import Background
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import InternalError, Refusal
from vmgw_core.limits import LimitType, Resolution

from .flow_responses import refuse

logger = logging.getLogger(__name__)

_MAX_LINES: Final = 10  # log lines a second
_MAX_NEAR: Final = 100_000  # entries


def refuse_uncounted(flow: HTTPFlow, cycle: Cycle, error: Exception) -> None:
    """Respond with the refusal that the request was not counted for."""
    if not isinstance(error, Refusal):
        # mitmproxy would log the exception and continue with the flow.
        logger.error("a request could not be counted", exc_info=error)
        error = InternalError("the request could not be counted")
    refuse(flow, cycle, error)


class RateLimit:
    """Counts admitted requests, and refuses those over a limit with 429."""

    def __init__(self, in_force: InForce, background: Background, cycles: Cycles) -> None:
        self.in_force = in_force
        self.background = background
        self.cycles = cycles
        self.near: Counter[tuple[LimitType, Resolution, str]] = Counter()
        """How often a tenant's usage came near a limit."""

    def running(self) -> None:
        self.background.repeat("limit_report", self.step)

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Count the request, or wait until other processes allow it: mitmproxy awaits what a hook returns."""
        cycle = self.cycles.get(flow)
        if flow.response is not None or cycle is None or cycle.state is not State.ENTERED:
            return None
        answered = asyncio.Event()
        try:
            if not cycle.count(time.monotonic(), answered.set):
                return self.wait(flow, cycle, answered)
        except Exception as error:
            refuse_uncounted(flow, cycle, error)
        return None

    async def wait(self, flow: HTTPFlow, cycle: Cycle, answered: asyncio.Event) -> None:
        """Wait for other processes, which share the limit."""
        await answered.wait()
        if cycle.state is State.COUNTING:  # else the client has left
            try:
                cycle.counted()
            except Exception as error:
                refuse_uncounted(flow, cycle, error)

    async def rows_asked(self, answered: asyncio.Event) -> None:
        """Wait for other processes before more of a body passes."""
        await answered.wait()

    async def step(self) -> float:
        """Report once a second."""
        self.report()
        return 1

    def report(self) -> None:
        """Count and log which tenants came near a limit, in a bounded number of lines."""
        limiter = self.in_force.configured.limiter
        if limiter is None:
            return
        for line in list(limiter.told)[:_MAX_LINES]:
            logger.warning(f"beyond a limit: {line}")
        if len(limiter.told) > _MAX_LINES:
            logger.warning(f"beyond a limit: {len(limiter.told) - _MAX_LINES} more")
        limiter.told.clear()
        usages = list(limiter.warnings)
        limiter.warnings.clear()
        for number, usage in enumerate(usages):
            name = usage.limit.scope(usage.tenant)
            key = (usage.limit.type, usage.limit.resolution, name)
            if not usage.over and (key in self.near or len(self.near) < _MAX_NEAR):
                self.near[key] += 1
            if number < _MAX_LINES:
                where = "beyond" if usage.over else "near"
                logger.warning(f"{where} a limit: {usage.limit.described(usage.usage, usage.tenant)}")
        if len(usages) > _MAX_LINES:
            logger.warning(f"near a limit: {len(usages) - _MAX_LINES} more")
