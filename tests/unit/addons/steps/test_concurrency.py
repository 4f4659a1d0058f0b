"""Places in the flow lane: who gets one, who waits, and that each is given back once."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable

from mitmproxy.flow import Error
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
        assert occupancy.requestheaders(flow) is None
        assert places.running == 1
        occupancy.response(flow)
        occupancy.error(flow)
        assert places.running == 0

    run(state, work)


async def one_waits(state: GatewayState, occupancy: ConcurrencyLimit) -> tuple[HTTPFlow, HTTPFlow, Future[None]]:
    """Return a flow that has the only place, one that waits for it, and that wait."""
    first, second = ready(state), ready(state)
    assert occupancy.requestheaders(first) is None
    queued = occupancy.requestheaders(second)
    assert queued is not None
    waiting = asyncio.ensure_future(queued)
    await asyncio.sleep(0)
    return first, second, waiting


def test_a_request_that_waits_goes_on_when_another_has_ended() -> None:
    state = configured(maxConcurrentRequests="1", maxQueueDuration="1m")

    async def work(occupancy: ConcurrencyLimit) -> None:
        first, second, waiting = await one_waits(state, occupancy)
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
        assert occupancy.requestheaders(ready(state)) is None
        late = ready(state)
        queued = occupancy.requestheaders(late)
        assert queued is not None
        await queued
        assert late.response is not None
        assert late.response.status_code == 429
        assert "Retry-After" in late.response.headers

    run(state, work)


def test_what_was_not_authorized_takes_no_place() -> None:
    state = configured(maxConcurrentRequests="1")

    async def work(occupancy: ConcurrencyLimit) -> None:
        assert occupancy.requestheaders(asked()) is None
        assert occupancy.flows == {}

    run(state, work)


def test_the_wait_of_a_client_that_leaves_ends_at_once() -> None:
    """What it holds in memory is free then, and not once the wait is over."""
    state = configured(maxConcurrentRequests="1", maxQueueDuration="1m")
    places = state.configured.concurrency
    assert places is not None

    async def work(occupancy: ConcurrencyLimit) -> None:
        _, second, waiting = await one_waits(state, occupancy)
        occupancy.error(second)
        await waiting
        assert second.response is None
        assert state.cycles[second].state is State.ENDED
        assert (places.running, places.waiting) == (1, 0)

    run(state, work)


def test_a_client_that_has_left_before_takes_no_place() -> None:
    state = configured(maxConcurrentRequests="1")

    async def work(occupancy: ConcurrencyLimit) -> None:
        flow = ready(state)
        flow.error = Error("the client left")
        assert occupancy.requestheaders(flow) is None
        assert state.cycles[flow].state is State.ENDED
        assert state.configured.concurrency is not None
        assert state.configured.concurrency.running == 0

    run(state, work)
