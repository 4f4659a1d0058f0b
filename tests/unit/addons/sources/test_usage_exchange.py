"""The exchange of counts, with a store that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.support.addons.replicas import KEY, Replica, run
from vmgw_addons.outgoing import RequestFailed
from vmgw_addons.sources.redis_exchange import RedisExchange
from vmgw_addons.sources.usage_exchange import build_exchange
from vmgw_addons.state import Configured
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError
from vmgw_core.limits.counter import RESERVED
from vmgw_core.limits.replicas import PeerCounts

SETTINGS = Settings()


class Store:
    """Another replica has counted ``heard``."""

    name = "the test's store"

    def __init__(self, heard: int = 0, error: BaseException | None = None, *, more: bool = False) -> None:
        self.peers = PeerCounts()
        self.spent = 0.0
        self.heard, self.error, self.more = heard, error, more
        self.told: list[dict[str, int]] = []
        self.closed = 0

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        self.told.append(dict(counts))
        if self.error is not None:
            raise self.error
        self.peers.seen("other", now)
        self.peers.replace_counts("other", {KEY: self.heard}, now)
        return self.more

    async def close(self) -> None:
        self.closed += 1


def test_own_counts_are_told_and_those_of_others_are_held_to() -> None:
    store = Store(heard=60)

    async def work(replica: Replica) -> None:
        await replica.step()  # as at the start, before anything is admitted
        assert replica.addon.alive == 1
        assert 0 < replica.admit(100) <= 40
        counted = replica.limiter.local_counts(time.monotonic())[KEY]
        assert 0 < await replica.step() <= 1
        assert store.told[-1][KEY] == counted

    run(work, store)
    assert store.closed == 1


def test_half_of_what_there_is_to_know_is_not_acted_on() -> None:
    async def work(replica: Replica) -> None:
        assert await replica.step() == 0.01
        assert replica.addon.alive == 0

    run(work, Store(heard=60, more=True))


@pytest.mark.parametrize(
    ("error", "told"), [(RequestFailed("LOADING"), "LOADING"), (TimeoutError(), "no response within 5 seconds")]
)
def test_an_outage_is_told_once_and_counts_go_on(
    error: BaseException, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(replica: Replica) -> None:
        for _ in range(2):
            await replica.step()
        assert replica.addon.outage.failures == 2
        assert replica.admit(5) == 5

    run(work, Store(error=error))
    assert len(caplog.messages) == 1
    assert told in caplog.messages[0]


def test_a_bug_is_an_outage_and_not_hidden() -> None:
    async def work(replica: Replica) -> None:
        with pytest.raises(ZeroDivisionError):
            await replica.step()
        assert replica.addon.outage.failures == 1

    run(work, Store(error=ZeroDivisionError()))


def test_who_leaves_lets_go_of_what_was_set_aside() -> None:
    store = Store()

    async def work(replica: Replica) -> None:
        replica.admit(3)
        await replica.addon.leave(store)

    run(work, store)
    assert store.told[-1][KEY] == 3
    assert not any(key.endswith(RESERVED) for key in store.told[-1])


def test_a_reload_may_replace_the_store() -> None:
    first, second = Store(), Store()

    async def work(replica: Replica) -> None:
        await replica.addon.step()
        replica.in_force.configured = Configured(limiter=replica.limiter, exchange=second)
        await replica.addon.step()

    run(work, first)
    assert (len(first.told), first.closed) == (1, 2)  # by the exchange, and by this test
    assert len(second.told) == 1


# --- what the flags make ---------------------------------------------------------------------------------------------


def test_the_flag_asks_for_redis_and_keeps_it_over_reloads() -> None:
    given = replace(SETTINGS, ratelimit_storage="redis://127.0.0.1:1/0")
    assert build_exchange(SETTINGS) is None
    made = build_exchange(given)
    assert isinstance(made, RedisExchange)
    assert build_exchange(given, given, made) is made
    assert build_exchange(replace(given, ratelimit_storage_key_prefix="other"), given, made) is not made


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("http://user:secret@h", "p"), ("redis://h:notaport", "p"), ("redis://h", "{p}"), ("redis://h", "")],
)
def test_a_url_or_prefix_that_cannot_be_used_is_refused_without_showing_it(url: str, prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedisExchange(url, prefix)
    assert "secret" not in str(caught.value)


def test_a_store_that_is_down_is_an_error_without_its_url() -> None:
    async def ask() -> None:
        exchange = RedisExchange("redis://:secret@127.0.0.1:1/0", "p")
        try:
            await exchange.swap({KEY: 1}, 0.0)
        finally:
            await exchange.close()

    with pytest.raises(RequestFailed) as caught:
        asyncio.run(ask())
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
