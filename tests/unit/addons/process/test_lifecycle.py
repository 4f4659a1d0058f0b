"""Reloads, however often they are asked for."""

from __future__ import annotations

import asyncio

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.test.tflow import tflow

from vmgw_addons import chain
from vmgw_addons.process.configuration import Configuration
from vmgw_addons.process.lifecycle import Lifecycle
from vmgw_addons.state import InForce, Process, Reloads


class Slow(Configuration):
    """Counts reloads; each goes on until ``gate`` is set."""

    def __init__(self) -> None:
        super().__init__(InForce(), Process(), Reloads(), Reloads())
        self.begun = 0
        self.gate = asyncio.Event()
        self.results: list[bool | Exception] = []

    async def reload(self) -> bool:
        self.begun += 1
        await self.gate.wait()
        result = self.results.pop(0) if self.results else True
        if isinstance(result, Exception):
            raise result
        return result


async def rounds(number: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


def lifecycle_of(configuration: Configuration) -> Lifecycle:
    """The lifecycle of a whole chain, with this configuration in place of its own."""
    addons = chain.build(configuration.in_force, configuration.process)
    lifecycle = next(addon for addon in addons if isinstance(addon, Lifecycle))
    lifecycle.configuration = configuration
    return lifecycle


def test_signals_while_one_reload_goes_on_are_one_more() -> None:
    async def scenario() -> int:
        configuration = Slow()
        lifecycle = lifecycle_of(configuration)
        for _ in range(100):
            lifecycle.reload()
            await rounds()
        assert configuration.begun == 1
        configuration.gate.set()
        await rounds()
        return configuration.begun

    assert asyncio.run(scenario()) == 2


def test_requests_within_a_second_are_one_more_behind_it() -> None:
    async def scenario() -> None:
        configuration = Slow()
        configuration.gate.set()
        lifecycle = lifecycle_of(configuration)
        pause = asyncio.Event()
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await pause.wait()

        lifecycle.background.sleep = sleep
        assert await lifecycle.reload_everywhere()
        waiting = [asyncio.create_task(lifecycle.reload_everywhere()) for _ in range(100)]
        await rounds()
        assert (configuration.begun, len(slept)) == (1, 1)
        assert 0.5 < slept[0] <= 1
        waiting[0].cancel()  # a client that leaves takes nobody with it
        await rounds()
        pause.set()
        assert await asyncio.gather(*waiting[1:]) == [True] * 99
        assert configuration.begun == 2


def test_a_reload_says_whether_it_succeeded_and_goes_on_after_a_crash() -> None:
    async def scenario() -> None:
        configuration = Slow()
        lifecycle = lifecycle_of(configuration)
        configuration.results = [False, RuntimeError("a defect"), True]
        first = lifecycle.reload()
        second = lifecycle.reload()
        assert lifecycle.reload() is second
        configuration.gate.set()
        assert not await first
        third = lifecycle.reload()
        assert not await second
        assert await third
        assert lifecycle.background.errors["reload"] == 1

    asyncio.run(scenario())


def test_a_request_ends_once_each_time_it_is_sent() -> None:
    async def scenario() -> None:
        lifecycle = lifecycle_of(Slow())
        flow = tflow()
        for end, other in ((lifecycle.response, lifecycle.error), (lifecycle.error, lifecycle.response)):
            lifecycle.requestheaders(flow)
            end(flow)
            for again in (end, other):
                with pytest.raises(AddonHalt):
                    again(flow)
            await rounds()
            assert lifecycle.in_flight == 0

    asyncio.run(scenario())
