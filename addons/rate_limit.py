"""Rate limit: tenants are held to their limits, between the decision on a request and its way to a backend."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Final

from mitmproxy.http import HTTPFlow

from vmgw_core.access import Access
from vmgw_core.errors import InternalError, Refusal
from vmgw_core.limits import LimitType, Resolution, tenant_name
from vmgw_core.metering import RowMeter
from vmgw_core.rows import row_counter

from .refusing import refuse
from .runtime import Decision, Runtime

logger = logging.getLogger(__name__)

_MAX_LINES: Final = 10  # a second
_MAX_NEAR: Final = 100_000


class RateLimit:
    """Counts what is admitted; a request beyond a limit is answered 429 and goes no further."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.task: asyncio.Task[None] | None = None
        self.near: Counter[tuple[LimitType, Resolution, str]] = Counter()
        """How often a tenant's usage came near a limit."""

    def running(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.run())

    def done(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def requestheaders(self, flow: HTTPFlow) -> None:
        decision = self.runtime.decisions.get(flow)
        if flow.response is not None or decision is None or decision.grant is None:
            return
        refusal: Refusal
        try:
            limit(self.runtime, decision, time.monotonic())
        except Refusal as caught:
            refusal = caught
        except Exception:
            # mitmproxy would log it and let the flow go on; Forwarding takes it no further either.
            logger.exception("a request could not be counted")
            refusal = InternalError("the request could not be counted")
        else:
            return
        decision.refused(refusal)
        refuse(flow, refusal, access=decision.grant.route.access)

    async def run(self) -> None:
        """Log once a second whose usage came near a limit."""
        while True:
            await asyncio.sleep(1)
            self.report()

    def report(self) -> None:
        """Count and log what the limiter has noted, a bounded number of lines."""
        limiter = self.runtime.limiter
        if limiter is None or not limiter.warnings:
            return
        usages = list(limiter.warnings)
        limiter.warnings.clear()
        for number, usage in enumerate(usages):
            name = "total" if usage.limit.total else tenant_name(usage.tenant)
            key = (usage.limit.type, usage.limit.resolution, name)
            if key in self.near or len(self.near) < _MAX_NEAR:
                self.near[key] += 1
            if number < _MAX_LINES:
                logger.warning(f"near a limit: {usage.limit.described(usage.usage, usage.tenant)}")
        if len(usages) > _MAX_LINES:
            logger.warning(f"near a limit: {len(usages) - _MAX_LINES} more")


def limit(runtime: Runtime, decision: Decision, now: float) -> None:
    """Count the request of ``decision``; have the rows of its body counted, and its label names checked, as they come.

    Args:
        now: seconds of ``time.monotonic``.

    Raises:
        Refusal: it is beyond a limit, or its head says that its body cannot be read.
    """
    limiter, grant = runtime.limiter, decision.grant
    assert grant is not None
    subject, access = grant.subject, grant.route.access
    if limiter is not None:
        limiter.admit(subject, access, now)
    check = bool(runtime.settings.get("write.checkLabelNames", False))
    limits_rows = limiter is not None and limiter.counts_rows
    if access is Access.WRITE and (check or limits_rows):
        max_decoded = int(str(runtime.settings.get("ratelimit.maxDecodedSize", 64 << 20)))
        counter = row_counter(grant.route, decision.head, max_decoded=max_decoded, check=check)
        if counter is not None:

            def take(rows: int) -> None:
                if limiter is not None and limits_rows:
                    limiter.take_rows(subject, rows, time.monotonic())

            decision.meter = RowMeter(counter, take)
    decision.counted = True
