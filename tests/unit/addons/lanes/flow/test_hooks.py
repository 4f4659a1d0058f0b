"""Hooks that return at once are called at once; one that has something to wait for holds back those after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.hooks import Hook
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow

from vmgw_addons.lanes.flow import DirectAddonManager


class Addon:
    """Notes in ``calls`` that its hook was called. ``then`` is what the hook does after that."""

    def __init__(self, name: str, calls: list[str], then: Callable[[], Awaitable[None] | None]) -> None:
        self.name = name
        self.calls = calls
        self.then = then

    def request(self, flow: object) -> Awaitable[None] | None:
        self.calls.append(self.name)
        return self.then()


def halt() -> None:
    raise AddonHalt


def crash() -> None:
    raise ValueError("a defect")


async def later() -> None:
    await asyncio.sleep(0)


async def halt_later() -> None:
    await asyncio.sleep(0)
    raise AddonHalt


async def crash_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("a defect")


@pytest.mark.parametrize(
    ("second", "at_once", "in_the_end"),
    [
        (lambda: None, "abc", "abc"),
        (crash, "abc", "abc"),
        (halt, "ab", "ab"),
        (later, "ab", "abc"),
        (crash_later, "ab", "abc"),
        (halt_later, "ab", "ab"),
    ],
    ids=["returns", "crashes", "halts", "waits", "waits and crashes", "waits and halts"],
)
@pytest.mark.parametrize("direct", [True, False], ids=["called", "awaited"])
def test_addons_are_called_in_order(
    second: Callable[[], Awaitable[None] | None], at_once: str, in_the_end: str, direct: bool
) -> None:
    calls: list[str] = []

    async def main() -> None:
        manager = DirectAddonManager(Master(Options(), event_loop=asyncio.get_running_loop()))
        nothing = lambda: None  # noqa: E731
        manager.add(*(Addon(name, calls, then) for name, then in (("a", nothing), ("b", second), ("c", nothing))))  # type: ignore[no-untyped-call]
        hook: Hook = HttpRequestHook(tflow.tflow())
        if direct:
            assert manager.call(hook) is (second not in (later, halt_later, crash_later))
            assert "".join(calls) == at_once
            if second not in (later, halt_later, crash_later):
                return
        await manager.handle_lifecycle(hook)
        assert manager.begun == {}

    asyncio.run(main())
    assert "".join(calls) == in_the_end


def test_an_addon_that_comes_later_is_called_too() -> None:
    calls: list[str] = []

    async def main() -> None:
        manager = DirectAddonManager(Master(Options(), event_loop=asyncio.get_running_loop()))
        for name in "ab":
            manager.add(Addon(name, calls, lambda: None))  # type: ignore[no-untyped-call]
            assert manager.call(HttpRequestHook(tflow.tflow()))

    asyncio.run(main())
    assert calls == ["a", "a", "b"]


def test_a_hook_that_is_being_awaited_is_not_called_again() -> None:
    calls: list[str] = []

    async def main() -> None:
        manager = DirectAddonManager(Master(Options(), event_loop=asyncio.get_running_loop()))
        manager.add(Addon("a", calls, later))  # type: ignore[no-untyped-call]
        hook: Hook = HttpRequestHook(tflow.tflow())
        assert [manager.call(hook), manager.call(hook)] == [False, False]
        await manager.handle_lifecycle(hook)

    asyncio.run(main())
    assert calls == ["a"]
