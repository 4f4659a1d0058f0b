"""Places in the flow lane: who gets one, who waits, and that each is given back once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mitmproxy.http import HTTPFlow

from tests.support.addons.configured import GatewayState, asked, authorized, configured
from vmgw_addons.steps.concurrency import ConcurrencyLimit
from vmgw_core.enforcement.cycle import State


def run(state: GatewayState, work: Callable[[ConcurrencyLimit], Awaitable[None]]) -> None:
    async def main() -> None:
        await work(ConcurrencyLimit(state.cycles))

    asyncio.run(main())


def ready(state: GatewayState) -> HTTPFlow:
    flow = asked()
    authorized(state, flow)
    return flow


def test_a_place_is_given_back_once() -> None:
    state = configured(maxConcurrentRequests="1")
    places = state.configured.concurrency
    assert places is not None

    async def work(occupancy: ConcurrencyLimit) -> None:
        flow = ready(state)
        await occupancy.requestheaders(flow)
        assert places.running == 1
        occupancy.response(flow)
        occupancy.error(flow)
        assert places.running == 0

    run(state, work)


def test_a_request_that_waits_goes_on_when_another_has_ended() -> None:
    state = configured(maxConcurrentRequests="1", maxQueueDuration="1m")

    async def work(occupancy: ConcurrencyLimit) -> None:
        first, second = ready(state), ready(state)
        await occupancy.requestheaders(first)
        waiting = asyncio.ensure_future(occupancy.requestheaders(second))
        await asyncio.sleep(0)
        assert state.cycles[second].state is State.QUEUED
        occupancy.response(first)
        await waiting
        assert second.response is None
        assert state.cycles[second].state is State.ENTERED
        occupancy.response(second)

    run(state, work)


def test_a_request_that_finds_no_place_in_time_is_429() -> None:
    state = configured(maxConcurrentRequests="1", maxQueueDuration="1ms")

    async def work(occupancy: ConcurrencyLimit) -> None:
        await occupancy.requestheaders(ready(state))
        late = ready(state)
        await occupancy.requestheaders(late)
        assert late.response is not None
        assert late.response.status_code == 429
        assert "Retry-After" in late.response.headers

    run(state, work)


def test_what_was_not_authorized_takes_no_place() -> None:
    state = configured(maxConcurrentRequests="1")

    async def work(occupancy: ConcurrencyLimit) -> None:
        await occupancy.requestheaders(asked())
        assert occupancy.flows == {}

    run(state, work)
