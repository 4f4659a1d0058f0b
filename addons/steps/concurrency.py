"""Concurrency limit: a slot for each request of the flow lane, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import Refusal

from .flow_responses import refuse


class ConcurrencyLimit:
    """Limits the concurrent requests of the flow lane, and frees the slot of each request at its end."""

    def __init__(
        self, cycles: Cycles, gate: Callable[[Client], asyncio.Event] = lambda client: asyncio.Event()
    ) -> None:
        """``gate`` returns the event of a client of the flow lane that must be set for reading from it."""
        self.cycles = cycles
        self.gate = gate
        self.flows: dict[HTTPFlow, Cycle] = {}

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Take a slot, or wait for one: mitmproxy awaits what a hook returns."""
        cycle = self.cycles.get(flow)
        if flow.response is not None or cycle is None or cycle.state is not State.AUTHORIZED:
            return None
        if flow.error is not None:
            cycle.end()  # the client has left
            return None
        self.flows[flow] = cycle
        return None if cycle.enter() else self.wait(flow, cycle)

    async def wait(self, flow: HTTPFlow, cycle: Cycle) -> None:
        """Wait for a slot, and refuse the request if there is none in time. Its body is not read meanwhile."""
        http2 = flow.client_conn.alpn == b"h2"
        reading = asyncio.Event() if http2 else self.gate(flow.client_conn)
        reading.clear()
        try:
            # HTTP/2 streams share a connection, so a body that waits would hold up the others, or fill memory.
            await wait_for_slot(cycle, 0 if http2 and cycle.head.has_body else None)
        except Refusal as refusal:
            refuse(flow, cycle, refusal)
        finally:
            reading.set()

    def response(self, flow: HTTPFlow) -> None:
        self.end(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.end(flow, left=True)

    def end(self, flow: HTTPFlow, *, left: bool = False) -> None:
        cycle = self.flows.pop(flow, None)
        if cycle is not None:
            cycle.end(left=left)


async def wait_for_slot(cycle: Cycle, seconds: float | None = None) -> None:
    """Wait for a slot. Raises ``TooManyAtOnce`` if none is free within ``seconds``, or ``-maxQueueDuration``."""
    granted = asyncio.Event()
    cycle.queue(granted.set)
    assert cycle.gateway is not None
    with suppress(TimeoutError):
        await asyncio.wait_for(granted.wait(), cycle.gateway.max_queue if seconds is None else seconds)
    if cycle.state is State.QUEUED:
        cycle.expire()
