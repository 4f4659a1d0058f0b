"""Concurrency limit: a slot for each request of the flow lane, until it ends."""

from __future__ import annotations

import asyncio
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

    async def requestheaders(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.response is not None or cycle is None or cycle.state is not State.AUTHORIZED:
            return
        self.flows[flow] = cycle
        try:
            if not cycle.enter():
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
