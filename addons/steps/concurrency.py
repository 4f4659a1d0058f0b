"""Concurrency limit: a slot for each request of the flow lane, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import Refusal

from .flow_responses import refuse


class ConcurrencyLimit:
    """Limits the concurrent requests of the flow lane, and frees the slot of each request at its end."""

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles
        self.flows: dict[HTTPFlow, Cycle] = {}

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Take a slot, or wait for one: mitmproxy awaits what a hook returns."""
        cycle = self.cycles.get(flow)
        if flow.response is not None or cycle is None or cycle.state is not State.AUTHORIZED:
            return None
        self.flows[flow] = cycle
        return None if cycle.enter() else self.wait(flow, cycle)

    async def wait(self, flow: HTTPFlow, cycle: Cycle) -> None:
        """Wait for a slot, and refuse the request if there is none in time."""
        try:
            await wait_for_slot(cycle)
        except Refusal as refusal:
            refuse(flow, cycle, refusal)

    def response(self, flow: HTTPFlow) -> None:
        cycle = self.flows.pop(flow, None)
        if cycle is not None:
            cycle.end()

    error = response


async def wait_for_slot(cycle: Cycle) -> None:
    """Wait for a slot. Raises ``TooManyAtOnce`` if none is free within ``-maxQueueDuration``."""
    granted = asyncio.Event()
    cycle.queue(granted.set)
    assert cycle.gateway is not None
    with suppress(TimeoutError):
        await asyncio.wait_for(granted.wait(), cycle.gateway.max_queue)
    if cycle.state is State.QUEUED:
        cycle.expire()
