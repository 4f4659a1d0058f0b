"""Occupancy: a place among the concurrent requests for each request of the flow lane, and its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import Refusal

from .flow_responses import refuse


class Occupancy:
    """Holds the flow lane's requests to the number that may be under way at once, and gives their places back."""

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
                await queued(cycle)
        except Refusal as refusal:
            refuse(flow, cycle, refusal)

    def response(self, flow: HTTPFlow) -> None:
        self.ended(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.ended(flow)

    def ended(self, flow: HTTPFlow) -> None:
        """The flow has got its answer, or gets none."""
        cycle = self.flows.pop(flow, None)
        if cycle is not None:
            cycle.end()


async def queued(cycle: Cycle) -> None:
    """Wait for a place. Raises ``TooManyAtOnce``: there was none within ``-maxQueueDuration``."""
    placed = asyncio.Event()
    cycle.queue(placed.set)
    assert cycle.gateway is not None
    with suppress(TimeoutError):
        await asyncio.wait_for(placed.wait(), cycle.gateway.max_queue)
    if cycle.state is State.QUEUED:
        cycle.expire()
