"""Calls that are shared: one at a time for each key, for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from vmgw_addons.login.shared import MOST_KEPT, Shared
from vmgw_addons.support import Background
from vmgw_core.errors import LoginFailed


class Calls:
    """Counts its calls, each of which ends when ``gate`` opens."""

    def __init__(self) -> None:
        self.number = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def work(self) -> int:
        self.number += 1
        number = self.number
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


def run(test: Callable[[Shared[int], Calls, list[float]], Coroutine[Any, Any, None]]) -> None:
    async def started() -> None:
        background, now = Background(), [0.0]
        shared: Shared[int] = Shared(background, "test", lambda: now[0], kept=60, failure_kept=5)
        try:
            await test(shared, Calls(), now)
        finally:
            await background.close()

    asyncio.run(started())


def test_all_who_ask_share_one_call_and_its_result() -> None:
    async def test(shared: Shared[int], calls: Calls, now: list[float]) -> None:
        asking = [asyncio.ensure_future(shared.get("a", calls.work)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asking[0].cancel()  # whoever leaves does not take it from the others
        calls.gate.set()
        assert await asyncio.gather(*asking[1:]) == [1] * 4
        now[0] = 59.9
        assert await shared.get("a", calls.work) == 1
        assert await shared.get("b", calls.work) == 2
        now[0] = 60
        assert await shared.get("a", calls.work) == 3

    run(test)


def test_a_failure_is_kept_for_less_time() -> None:
    async def test(shared: Shared[int], calls: Calls, now: list[float]) -> None:
        calls.gate.set()
        calls.error = LoginFailed("down", status=503)
        for _ in range(2):
            with pytest.raises(LoginFailed, match=r"^down$"):
                await shared.get("a", calls.work)
        assert calls.number == 1
        now[0], calls.error = 5, None
        assert await shared.get("a", calls.work) == 2

    run(test)


def test_a_defect_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def test(shared: Shared[int], calls: Calls, now: list[float]) -> None:
        calls.gate.set()
        calls.error = RuntimeError("a defect")
        with pytest.raises(LoginFailed, match=r"^the gateway failed at this login$"):
            await shared.get("a", calls.work)
        calls.error = None
        assert await shared.get("a", calls.work) == 2

    run(test)
    assert "background task test failed" in caplog.text


def test_the_oldest_results_make_room() -> None:
    async def test(shared: Shared[int], calls: Calls, now: list[float]) -> None:
        calls.gate.set()
        for number in range(MOST_KEPT + 1):
            assert await shared.get(number, calls.work) == number + 1
        assert await shared.get(MOST_KEPT, calls.work) == MOST_KEPT + 1
        assert await shared.get(0, calls.work) == MOST_KEPT + 2

    run(test)
